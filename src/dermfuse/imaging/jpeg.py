"""JPEG streams before they are decoded: the header, and whether the coded data is whole.

The header tells how a stream is coded, how deep it is and what its colours are: the markers before
the first scan; fill bytes before a marker (T.81, B.1.1.2) are skipped.

libjpeg conceals damage without a warning: where bits run out it invents zeros, where some are left
over it skips them. Either moves or blanks part of the picture. Here every block is followed from
its first bit to its last by the lengths of its codes alone, without computing a coefficient: each
stretch between restart markers has to hold exactly the blocks that it should. Refining scans of a
progressive JPEG (T.81, G.1.2) take a bit for each coefficient that is known not to be zero, so that
those are kept as one mask for each block.
"""

import re
import struct
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

MAX_SEGMENTS = 2_000
"""So many of 64 kB are more than any camera or program writes around a picture."""
MAX_SCANS = 100
"""Ten are usual; a decoder goes through the whole picture for each."""
END = 1000
"""Added to the places a step moves on by if it ends the block."""
INVALID = 5000
"""The places a step moves on by where no code fits."""

_CODINGS = {
    0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC3: "lossless",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "arithmetic-coded"),
    0xF7: "JPEG-LS",
}  # fmt: skip
_ALONE = {0x01, *range(0xD0, 0xDA)}  # markers without a segment
_TABLES, _EOI, _SCAN, _RESTART, _JFIF, _EXIF, _ADOBE = 0xC4, 0xD9, 0xDA, 0xDD, 0xE0, 0xE1, 0xEE
_REMARKS = {*range(0xE0, 0xF0), 0xFE} - {_JFIF, _ADOBE}
_EXIF_HEAD = b"Exif\0\0"
_NO_FILL = re.compile(rb"[^\xff]")
_ENDS_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # fill bytes before it are stripped
_RESTARTS = re.compile(rb"\xff([\xd0-\xd7])")
_ZERO_RUN = 0xF0  # sixteen zeros
_MOST_SYMBOLS = 6  # that are joined into one step
_MAX_VISITS = 24_000_000  # of blocks, in all scans: two minutes' work of a small file otherwise
_FILL_BYTES = 16  # fewer zeros than these may fill up a stretch
_SHORT = 48  # bytes: arrays are slower
_LISTED = 2_000_000  # words that may lie in a list of Python's, 40 bytes each
_HOLE = bytes(64)  # as long as the zeros of more than two blocks whose coefficients are all alike
_DAMAGED = "its coded data is damaged, or ends before the picture does"


class Component(NamedTuple):
    """A channel in the frame header: any number (some writers put a letter), sampling factors."""

    identifier: int
    horizontal: int
    vertical: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What a JPEG's header says.

    Attributes:
        coding: In a word, like ``baseline``.
        precision: Bits per sample.
        width: Width in pixels.
        height: Height in pixels.
        components: The channels.
        has_jfif: Whether there is a JFIF segment: YCbCr.
        adobe_transform: What an Adobe segment says: 0 for RGB or CMYK, 1 for YCbCr, 2 for YCCK.
    """

    coding: str
    precision: int
    width: int
    height: int
    components: tuple[Component, ...]
    has_jfif: bool
    adobe_transform: int | None

    @property
    def unread(self) -> str:
        """What keeps Pillow from reading it, in words; empty if nothing does."""
        if self.coding == "JPEG-LS":
            return "a JPEG-LS image"
        if self.coding not in ("baseline", "extended", "progressive"):
            return f"a JPEG image that is {self.coding}"
        return "" if self.precision == 8 else f"a JPEG image of {self.precision} bits per sample"

    @property
    def largest_factors(self) -> tuple[int, int]:
        """The largest horizontal and vertical sampling factors."""
        _, horizontal, vertical = zip(*self.components, strict=True)
        return max(horizontal), max(vertical)

    @property
    def pixel_bytes(self) -> float:
        """What libjpeg and Pillow hold for each pixel: of progressive ones each coefficient."""
        if self.coding != "progressive":
            return 4
        widest, tallest = self.largest_factors
        samples = sum(each.horizontal * each.vertical for each in self.components)
        return 5 + 2 * samples / (widest * tallest)

    @property
    def says_rgb(self) -> bool | None:
        """Whether three channels are RGB (True) or YCbCr (False); None if nothing says it."""
        if self.has_jfif:
            return False
        if self.adobe_transform is not None:
            return self.adobe_transform == 0
        identifiers = bytes(component.identifier for component in self.components)
        return True if identifiers.upper() == b"RGB" else None


class DamageError(ValueError):
    """Coded data and picture do not fit."""


def read_frame(data: bytes) -> Frame:
    """Returns what the header of a JPEG (or JPEG-LS) stream says.

    Raises:
        ValueError: There is no frame header before the first scan.
        struct.error: The header is cut off.
    """
    jfif, transform = False, None
    for marker, body, *_ in _segments(data):
        if marker in _CODINGS:
            precision, height, width, count = struct.unpack_from(">BHHB", body)
            each = (struct.unpack_from("BBB", body, 6 + 3 * i) for i in range(count))
            components = tuple(Component(name, both >> 4, both & 15) for name, both, _ in each)
            coding = _CODINGS[marker]
            return Frame(coding, precision, width, height, components, jfif, transform)
        if marker == _JFIF and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == _ADOBE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]
        elif marker == _SCAN:
            break
    raise ValueError("no frame header")


def without_remarks(data: bytes) -> tuple[bytes, bytes]:
    """Returns a JPEG without the segments that are not of its picture, and its EXIF block.

    Pillow joins those of one kind one by one, and parses them.

    Raises:
        ValueError, struct.error: A segment before the first scan is cut off or damaged.
    """
    kept, end = [data[:2]], 2
    exif: list[bytes] = []
    for segment in _segments(data):
        end = segment.end
        if segment.marker == _EXIF and segment.body.startswith(_EXIF_HEAD):
            exif.append(segment.body[len(_EXIF_HEAD) if exif else 0 :])
        if segment.marker not in _REMARKS:
            kept += [b"\xff", data[segment.start : end]]
        if segment.marker == _SCAN:
            break
    return b"".join([*kept, data[end:]]), b"".join(exif)


@dataclass(frozen=True)
class Table:
    """A Huffman table, by the next 16 bits; each look-up has 65,536 entries and is made when used.

    Attributes:
        length: Bits of the code; 0 where none fits.
        symbol: What the code stands for.
    """

    length: NDArray[np.int32]
    symbol: NDArray[np.int32]

    @cached_property
    def codes(self) -> tuple[list[int], list[int]]:
        """Bits of the code, and what it stands for."""
        return self.length.tolist(), self.symbol.tolist()

    @cached_property
    def categories(self) -> list[int]:
        """Bits of a DC code and its value; 0 where none fits."""
        known = (self.length > 0) & (self.symbol <= 15)
        bits: list[int] = np.where(known, self.length + self.symbol, 0).tolist()
        return bits

    @cached_property
    def _steps(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        size, run = self.symbol & 15, self.symbol >> 4
        ends = (size == 0) & (self.symbol != _ZERO_RUN)
        places = np.where(self.length == 0, INVALID, np.where(ends, END, run + 1))
        bits = np.where(self.length > 0, self.length + size, 0)
        return bits.astype(np.int32), places.astype(np.int32)

    @cached_property
    def single(self) -> tuple[list[int], list[int]]:
        """Bits of one AC code with its value, and the coefficients that it moves on by.

        ``END`` stands for the end of the block, ``INVALID`` for no code.
        """
        bits, places = self._steps
        return bits.tolist(), places.tolist()

    @cached_property
    def several(self) -> tuple[list[int], list[int]]:
        """The same of as many AC codes as lie within the 16 bits."""
        bits, places = (each.copy() for each in self._steps)
        going = np.arange(2**16)
        for _ in range(_MOST_SYMBOLS - 1):
            going = going[(places[going] < END) & (bits[going] < 16)]
            rest = (going << bits[going]) & 0xFFFF
            whole = (self.length[rest] > 0) & (bits[going] + self.length[rest] <= 16)
            going, rest = going[whole], rest[whole]
            bits[going] += self._steps[0][rest]
            places[going] += self._steps[1][rest]
        return bits.tolist(), places.tolist()


@lru_cache(maxsize=16)
def build_table(counts: bytes, symbols: bytes) -> Table:
    """Returns a table as a DHT segment holds it.

    Args:
        counts: How many codes there are of 1 to 16 bits. (16,)
        symbols: What they stand for, shortest codes first.

    Raises:
        ValueError: There are more codes than fit.
    """
    each = np.repeat(np.arange(1, 17, dtype=np.int32), np.frombuffer(counts, np.uint8))
    spans = 1 << (16 - each)  # of 65,536 windows
    if spans.sum() > 2**16:
        raise ValueError("a Huffman table with more codes than fit")
    blank = np.zeros(2**16 - spans.sum(), np.int32)
    values = np.frombuffer(symbols, np.uint8).astype(np.int32)
    return Table(*(np.concatenate([np.repeat(of, spans), blank]) for of in (each, values)))


def find_damage(data: bytes) -> str:
    """Returns how a Huffman-coded JPEG of 8 bits is damaged, in words; nothing if it is whole.

    A stream without an end marker is not judged: decoders refuse it.
    """
    try:
        return _walk(data)
    except DamageError as damage:
        return str(damage)
    except (ValueError, struct.error, KeyError, IndexError):
        return "one of its segments is cut off or damaged"


class _Segment(NamedTuple):
    """A marker segment.

    Attributes:
        marker: The marker's second byte.
        body: What follows its length.
        start: Where the marker's second byte lies in the file.
        end: Where the segment ends in the file.
        coded: The coded data behind a scan's header; None where no marker ends it.
    """

    marker: int
    body: bytes
    start: int
    end: int
    coded: bytes | None


def _segments(data: bytes) -> Iterator[_Segment]:
    """Yields the marker segments up to the end of the picture.

    Raises:
        ValueError: No marker is where one has to be, or there are more than ``MAX_SEGMENTS``.
        struct.error: A segment is cut off.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        if data[at : at + 1] != b"\xff":
            raise ValueError(f"no marker at byte {at}")
        behind = _NO_FILL.search(data, at)
        start = len(data) if behind is None else behind.start()
        (marker,) = struct.unpack_from("B", data, start)
        length = 0 if marker in _ALONE else struct.unpack_from(">H", data, start + 1)[0]
        end = start + 1 + length
        if marker not in _ALONE and (length < 2 or end > len(data)):
            raise ValueError(f"a segment of {length} bytes at byte {start}")
        following = _ENDS_SCAN.search(data, end) if marker == _SCAN else None
        coded = data[end : following.start()] if following else None
        yield _Segment(marker, data[start + 3 : end], start, end, coded)
        if marker == _EOI or (marker == _SCAN and coded is None):
            return
        at = end + len(coded or b"")
    raise DamageError(f"it has more than {MAX_SEGMENTS:,} segments")


def _walk(data: bytes) -> str:
    frame = read_frame(data)
    state = _State(frame, np.full((len(frame.components), 64), -1))
    for marker, body, _, _, coded in _segments(data):
        if marker == _TABLES:
            state.codes |= dict(_codes(body))
        elif marker == _RESTART:
            (state.interval,) = struct.unpack_from(">H", body)
        elif marker == _SCAN and coded is None:
            return ""
        elif marker == _SCAN:
            _check_scan(coded or b"", _scan(body, frame), state)
    return "" if (state.done == 0).all() else "some of its scans are missing"


def _codes(body: bytes) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    at = 0
    while at + 17 <= len(body):
        counts = body[at + 1 : at + 17]
        end = at + 17 + sum(counts)
        if end > len(body):
            raise ValueError("a Huffman table is cut off")
        yield body[at], (counts, body[at + 17 : end])
        at = end


@dataclass(slots=True)
class _State:
    """What is known of a stream so far."""

    frame: Frame
    done: NDArray[np.intp]  # the last bit that was coded, by channel and coefficient
    codes: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # DC 0 to 3, AC 16 to 19
    interval: int = 0
    scans: int = 0
    visits: int = 0
    known: dict[int, list[int]] = field(default_factory=dict)  # masks of non-zero coefficients


@dataclass(frozen=True, slots=True)
class _Scan:
    """What one scan codes.

    Attributes:
        channels: Places of its channels in the frame.
        units: How many units it has: blocks of one channel, or groups of blocks of several.
        blocks: The numbers of the DC and the AC table of each block of a unit.
        first: First coefficient.
        last: Last coefficient.
        high: Bit that was coded before, 0 for none.
        low: Bit that is coded now.
    """

    channels: tuple[int, ...]
    units: int
    blocks: list[tuple[int, int]]
    first: int
    last: int
    high: int
    low: int


def _scan(body: bytes, frame: Frame) -> _Scan:
    places = {component.identifier: i for i, component in enumerate(frame.components)}
    count, scan_header = body[0], body[1 : 1 + 2 * body[0]]
    first, last, bits = struct.unpack_from("BBB", body, 1 + 2 * count)
    if frame.coding != "progressive":
        first, last, bits = 0, 63, 0
    if not count or not first <= last <= 63 or (first and count > 1):
        raise ValueError("a scan header that makes no sense")
    channels = tuple(places[identifier] for identifier in scan_header[::2])
    own = [frame.components[channel] for channel in channels]
    across, down = own[0][1:] if count == 1 else (1, 1)
    widest, tallest = frame.largest_factors
    units = _blocks(frame.width, across, widest) * _blocks(frame.height, down, tallest)
    repeats = [1] if count == 1 else [each.horizontal * each.vertical for each in own]
    numbers = zip(scan_header[1::2], repeats, strict=True)
    blocks = [divmod(both, 16) for both, repeat in numbers for _ in range(repeat)]
    return _Scan(channels, units, blocks, first, last, *divmod(bits, 16))


def _blocks(length: int, factor: int, largest: int) -> int:
    """Returns how many blocks of 8 a channel has along a side of the picture."""
    own = -(-length * factor // largest)
    return -(-own // 8)


def _check_scan(coded: bytes, scan: _Scan, state: _State) -> None:
    """Follows the blocks of one scan.

    Raises:
        DamageError: They do not fit the data, or there are too many.
    """
    state.scans += 1
    state.visits += scan.units * len(scan.blocks)
    if state.scans > MAX_SCANS or (state.scans > 1 and state.visits > _MAX_VISITS):
        raise DamageError(f"it has more than {min(state.scans - 1, MAX_SCANS)} scans")
    size = state.interval or scan.units
    pieces = _RESTARTS.split(coded, maxsplit=-(-scan.units // size))
    stretches, markers = pieces[0::2], pieces[1::2]
    if len(stretches) != -(-scan.units // size):
        raise DamageError("a restart marker is missing or one too many")
    if any(marker[0] != 0xD0 + i % 8 for i, marker in enumerate(markers)):
        raise DamageError("its restart markers are out of order")
    follow = _follower(scan, state)
    for i, stretch in enumerate(stretches):
        data = stretch.rstrip(b"\xff").replace(b"\xff\x00", b"\xff")
        try:
            end = follow(data, range(i * size, min((i + 1) * size, scan.units)))
        except IndexError:
            raise DamageError(_DAMAGED) from None
        if end > 8 * len(data):
            raise DamageError(_DAMAGED)
        left = data[-(-end // 8) :]
        if len(left) >= _FILL_BYTES or any(left):
            raise DamageError("its coded data continues where the picture ends")
    state.done[list(scan.channels), scan.first : scan.last + 1] = scan.low


def _follower(scan: _Scan, state: _State) -> Callable[[bytes, range], int]:
    """Returns what follows the units of a stretch of a scan, and says at which bit they end."""

    def table(number: int) -> Table:
        return build_table(*state.codes[number])

    if state.frame.coding != "progressive":
        both = [(table(dc), table(16 + ac)) for dc, ac in scan.blocks]

        def follow(data: bytes, units: range) -> int:
            # Zeros may be many flat blocks if an AC code of zeros ends the block. If it does not,
            # they are blocks of 63 coefficients that are all alike, which no picture has; behind a
            # hole in a file decoders often find their way back, and count as many blocks as before.
            if _HOLE in data and any(ac.single[1][0] != END for _, ac in both):
                raise DamageError("part of its coded data is blank")
            return _follow(_words(data), both, len(units))

        return follow
    if scan.first == 0 and scan.high:
        return lambda _, units: len(units) * len(scan.blocks)  # one bit each
    if scan.first == 0:
        direct = [(table(dc), None) for dc, _ in scan.blocks]
        return lambda data, units: _follow(_words(data), direct, len(units))
    masks = state.known.setdefault(scan.channels[0], [0] * scan.units)
    lengths, symbols = table(16 + scan.blocks[0][1]).codes
    return lambda data, units: _follow_spectral(_words(data), lengths, symbols, masks, units, scan)


def _words(data: bytes) -> Sequence[int]:
    """Returns the 32 bits from each byte on; ones follow the last."""
    if len(data) < _SHORT:
        padded_bytes = data + b"\xff" * 8
        return [int.from_bytes(padded_bytes[i : i + 4]) for i in range(len(data) + 5)]
    padded = np.frombuffer(data + b"\xff" * 8, np.uint8)
    joined = padded[:-3].astype(np.uint32)
    for i in range(1, 4):
        joined <<= np.uint32(8)
        joined |= padded[i : len(padded) - 3 + i]
    if len(joined) <= _LISTED:
        words: list[int] = joined.tolist()
        return words
    return array("I", joined.tobytes())  # slower than a list, and a tenth of its memory


def _follow(words: Sequence[int], blocks: Sequence[tuple[Table, Table | None]], count: int) -> int:
    """Returns the bit behind ``count`` units of sequential blocks, or of DC coefficients alone.

    AC codes are followed several at once; those may reach from a block without an end code into
    the next, which is then followed one by one.

    Raises:
        DamageError: A code does not exist, or a block has more than 64 coefficients.
        IndexError: The data ends before.
    """
    layout = [(dc.categories, (ac.several, ac.single) if ac else ()) for dc, ac in blocks]
    at = 0
    for _ in range(count):
        for categories, ways in layout:
            step = categories[words[at >> 3] >> 16 - (at & 7) & 0xFFFF]
            if not step:
                raise DamageError(_DAMAGED)
            at = end = at + step
            place = 64
            for bits, places in ways:
                end, place = at, 1
                while place < 64:
                    window = words[end >> 3] >> 16 - (end & 7) & 0xFFFF
                    end += bits[window]
                    place += places[window]
                if place == 64 or END < place < END + 64:
                    break
            if place != 64 and not END < place < END + 64:
                raise DamageError(_DAMAGED)
            at = end
    return at


def _follow_spectral(
    words: Sequence[int], lengths: list[int], symbols: list[int], masks: list[int], blocks: range,
    scan: _Scan,
) -> int:  # fmt: skip
    """Returns the bit behind AC coefficients of a progressive scan, and notes which are not zero.

    Args:
        words: The 32 bits from each byte of the data on.
        lengths: Bits of each code of the scan's AC table.
        symbols: What each stands for.
        masks: Bit k of a block's mask is set where its coefficient k is not zero.
        blocks: The blocks that the data holds.
        scan: Which coefficients, and whether they are refined.

    Raises:
        ValueError: A code does not exist or moves beyond the last coefficient.
        IndexError: The data ends before.
    """
    at = blank = 0
    last, inside = scan.last, (1 << scan.last + 1) - 1
    for block in blocks:
        known, place = masks[block] & inside if scan.high else 0, scan.first
        while not blank and place <= last:
            window = words[at >> 3] >> 16 - (at & 7) & 0xFFFF
            run, size = divmod(symbols[window], 16)
            if not lengths[window]:
                raise ValueError("a code that does not exist")
            at += lengths[window] + size
            if not size and run != 15:
                blank = (1 << run) + (words[at >> 3] >> 32 - (at & 7) - run & (1 << run) - 1)
                at += run
                break
            place, passed = _after_zeros(known, place, last, run) if known else (place + run, 0)
            at += passed
            if size and place > last:
                raise ValueError("a coefficient beyond the last")
            if size:
                masks[block] |= 1 << place
            place += 1
        if blank:
            at += (known >> place).bit_count()
            blank -= 1
    return at


def _after_zeros(mask: int, place: int, last: int, zeros: int) -> tuple[int, int]:
    """Returns the zero after ``zeros`` others, and how many coefficients not zero lie before it."""
    passed = 0
    while place <= last:
        if mask >> place & 1:
            passed += 1
        elif zeros:
            zeros -= 1
        else:
            break
        place += 1
    return place, passed
