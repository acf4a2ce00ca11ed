"""JPEG's Huffman tables as look-ups of 16 bits: how far one symbol, or several, reach.

Only lengths are looked up. That tells where every block of a scan ends, and so whether coded data
and image fit, without a single coefficient being computed.

The AC scans of a progressive JPEG, followed by the lengths of their codes (T.81, G.1.2).

Refining takes a bit for each coefficient that is known not to be zero, so that which ones are is
kept as one mask for each block.

A JPEG's header: how it is coded, how deep it is, and what its colours are.

Of the markers before the first scan; fill bytes before a marker (T.81, B.1.1.2) are skipped.

Whether a JPEG's coded data is whole: every block is followed from its first bit to its last.

libjpeg mends what is damaged without a word: where bits run out it invents zeros, where some are
left over it skips them. Either moves or blanks part of the picture. The codes' lengths alone tell:
each stretch between restart markers has to hold exactly the blocks that it should.
"""

import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

END = 1000
"""Added to the places a step moves on by if it ends the block."""
INVALID = 5000
"""The places a step moves on by where no code fits."""
_ZERO_RUN = 0xF0  # sixteen zeros
_MOST_SYMBOLS = 6  # that are joined into one step


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
    def single(self) -> tuple[list[int], list[int]]:
        """Bits of one AC code with its value, and the coefficients that it moves on by.

        ``END`` stands for the end of the block, ``INVALID`` for no code.
        """
        bits, places = self._single
        return bits.tolist(), places.tolist()

    @cached_property
    def several(self) -> tuple[list[int], list[int]]:
        """The same of as many AC codes as lie within the 16 bits."""
        bits, places = (each.copy() for each in self._single)
        going = np.arange(2**16)
        for _ in range(_MOST_SYMBOLS - 1):
            going = going[(places[going] < END) & (bits[going] < 16)]
            rest = (going << bits[going]) & 0xFFFF
            whole = (self.length[rest] > 0) & (bits[going] + self.length[rest] <= 16)
            going, rest = going[whole], rest[whole]
            bits[going] += self._single[0][rest]
            places[going] += self._single[1][rest]
        return bits.tolist(), places.tolist()

    @cached_property
    def _single(self) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        size, run = self.symbol & 15, self.symbol >> 4
        ends = (size == 0) & (self.symbol != _ZERO_RUN)
        places = np.where(self.length == 0, INVALID, np.where(ends, END, run + 1))
        return np.where(self.length > 0, self.length + size, 0).astype(np.int32), places.astype(
            np.int32
        )


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
    return Table(
        np.concatenate([np.repeat(each, spans), blank]),
        np.concatenate([np.repeat(values, spans), blank]),
    )


def first_pass(
    words: Sequence[int], table: Table, masks: list[int], blocks: slice, first: int, last: int
) -> int:
    """Returns the bit behind the first scan of some coefficients, and notes which are not zero.

    Args:
        words: The 32 bits from each byte of the data on.
        table: The scan's AC table.
        masks: Bit k of a block's mask is set where its coefficient k is not zero.
        blocks: The blocks that the data holds.
        first: First coefficient.
        last: Last coefficient.

    Raises:
        ValueError: A code does not exist or moves beyond the last coefficient.
        IndexError: The data ends before.
    """
    at = blank = 0
    lengths, symbols = table.codes
    block = blocks.start - 1
    while (block := block + 1 + blank) < blocks.stop:
        place, blank = first, 0
        while place <= last:
            window = words[at >> 3] >> 16 - (at & 7) & 0xFFFF
            run, size = divmod(symbols[window], 16)
            at += _length(lengths[window])
            if size:
                place += run
                if place > last:
                    raise ValueError("a coefficient beyond the last")
                masks[block] |= 1 << place
                at += size
                place += 1
            elif run == 15:
                place += 16
            else:
                blank = (1 << run) + _bits(words, at, run) - 1
                at += run
                break
    return at


def refine_pass(
    words: Sequence[int], table: Table, masks: list[int], blocks: slice, first: int, last: int
) -> int:
    """Returns the bit behind a refining scan; arguments as for ``first_pass``.

    Raises:
        ValueError: As ``first_pass``.
        IndexError: The data ends before.
    """
    at = blank = 0
    lengths, symbols = table.codes
    inside = (1 << last + 1) - 1
    for block in range(blocks.start, blocks.stop):
        place = first
        while not blank and place <= last:
            window = words[at >> 3] >> 16 - (at & 7) & 0xFFFF
            run, size = divmod(symbols[window], 16)
            at += _length(lengths[window])
            if not size and run != 15:
                blank = (1 << run) + _bits(words, at, run)
                at += run
                break
            at += size
            place, passed = _after_zeros(masks[block], place, last, run)
            at += passed
            if size:
                if place > last:
                    raise ValueError("a coefficient beyond the last")
                masks[block] |= 1 << place
            place += 1
        if blank:
            at += ((masks[block] & inside) >> place).bit_count()
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


def _length(bits: int) -> int:
    if not bits:
        raise ValueError("a code that does not exist")
    return bits


def _bits(words: Sequence[int], at: int, count: int) -> int:
    """Returns the next ``count`` bits, 14 at most, as a number."""
    return words[at >> 3] >> 32 - (at & 7) - count & (1 << count) - 1


_FRAMES = {
    0xC0: "baseline", 0xC1: "extended", 0xC2: "progressive", 0xC3: "lossless",
    0xC5: "hierarchical", 0xC6: "hierarchical", 0xC7: "hierarchical",
    0xC9: "arithmetic-coded", 0xCA: "arithmetic-coded", 0xCB: "arithmetic-coded",
    0xCD: "arithmetic-coded", 0xCE: "arithmetic-coded", 0xCF: "arithmetic-coded",
    0xF7: "JPEG-LS",
}  # fmt: skip
_ALONE = {0x01, *range(0xD0, 0xD9)}  # markers without a segment
_SCAN_MARKER, _END = 0xDA, 0xD9
_JFIF, _EXIF_SEGMENT, _ADOBE, _REMARK = 0xE0, 0xE1, 0xEE, 0xFE
_REMARKS = {*range(0xE0, 0xF0), _REMARK} - {_JFIF, _ADOBE}
_EXIF = b"Exif\0\0"
_NO_FILL = re.compile(rb"[^\xff]")

MAX_SEGMENTS = 2_000
"""So many of 64 kB are more than any camera or program writes around a picture."""
_READ = ("baseline", "extended", "progressive")


@dataclass(frozen=True, slots=True)
class Segment:
    """One marker segment.

    Attributes:
        marker: The marker's second byte.
        body: What follows its length.
        end: Where it ends in the file.
    """

    marker: int
    body: bytes
    end: int

    @property
    def is_alone(self) -> bool:
        """Whether the marker has no length and no body."""
        return self.marker in _ALONE or self.marker == _END


@dataclass(frozen=True, slots=True)
class Component:
    """A channel as the frame header lists it.

    Attributes:
        identifier: Any number; some writers put a letter.
        horizontal: Sampling factor.
        vertical: Sampling factor.
    """

    identifier: int
    horizontal: int
    vertical: int


@dataclass(frozen=True, slots=True)
class Frame:
    """What a JPEG's header says.

    Attributes:
        coding: In a word, like ``baseline``.
        precision: Bits per sample.
        width: In pixels.
        height: In pixels.
        components: Its channels.
        has_jfif: Whether there is a JFIF segment: YCbCr.
        adobe_transform: Of an Adobe segment: 0 for RGB or CMYK, 1 for YCbCr, 2 for YCCK.
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
        if self.coding not in _READ:
            return (
                f"a JPEG image that is {self.coding}"
                if self.coding != "JPEG-LS"
                else "a JPEG-LS image"
            )
        return "" if self.precision == 8 else f"a JPEG image of {self.precision} bits per sample"

    @property
    def pixel_bytes(self) -> float:
        """What libjpeg and Pillow hold for each pixel: of progressive ones each coefficient."""
        if self.coding != "progressive":
            return 4
        widest = max(each.horizontal for each in self.components)
        tallest = max(each.vertical for each in self.components)
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


def is_jpeg(head: bytes) -> bool:
    """Returns whether a file that begins with these bytes is meant to be JPEG."""
    return head[:2] == b"\xff\xd8"


def read_segment(data: bytes, at: int) -> Segment:
    """Returns the marker segment at a place; fill bytes before it are skipped.

    Raises:
        ValueError: No marker is there.
        struct.error: The segment is cut off.
    """
    if data[at : at + 1] != b"\xff":
        raise ValueError(f"no marker at byte {at}")
    behind = _NO_FILL.search(data, at)
    at = len(data) if behind is None else behind.start()
    (marker,) = struct.unpack_from("B", data, at)
    if marker in _ALONE or marker == _END:
        return Segment(marker, b"", at + 1)
    (length,) = struct.unpack_from(">H", data, at + 1)
    if length < 2 or at + 1 + length > len(data):
        raise ValueError(f"a segment of {length} bytes at byte {at}")
    return Segment(marker, data[at + 3 : at + 1 + length], at + 1 + length)


def read_frame(data: bytes) -> Frame:
    """Returns what the header of a JPEG (or JPEG-LS) stream says.

    Raises:
        ValueError: There is no frame header before the first scan.
        struct.error: The header is cut off.
    """
    jfif, transform = False, None
    for segment in header_segments(data):
        marker, body = segment.marker, segment.body
        if marker in _FRAMES:
            return _frame(marker, body, jfif, transform)
        if marker == _JFIF and body[:5] == b"JFIF\0":
            jfif = True
        elif marker == _ADOBE and body[:5] == b"Adobe" and len(body) >= 12:
            transform = body[11]
    raise ValueError("no frame header")


def header_segments(data: bytes) -> Iterator[Segment]:
    """Yields the segments up to the first scan, which is the last of them.

    Raises:
        ValueError: No marker is where one has to be, or there are more than ``MAX_SEGMENTS``.
        struct.error: A segment is cut off.
    """
    at = 2
    for _ in range(MAX_SEGMENTS):
        segment = read_segment(data, at)
        at = segment.end
        yield segment
        if segment.marker in (_SCAN_MARKER, _END):
            return
    raise ValueError(f"more than {MAX_SEGMENTS:,} segments")


def without_remarks(data: bytes) -> tuple[bytes, bytes]:
    """Returns a JPEG without the segments that are not of its picture, and its EXIF block.

    Pillow joins those of one kind one by one, and parses them.

    Raises:
        ValueError, struct.error: As ``header_segments``.
    """
    kept: list[bytes] = [data[:2]]
    exif: list[bytes] = []
    for segment in header_segments(data):
        if segment.marker == _EXIF_SEGMENT and segment.body.startswith(_EXIF):
            exif.append(segment.body[len(_EXIF) if exif else 0 :])
        if segment.marker in _REMARKS:
            continue
        start = segment.end - len(segment.body) - (0 if segment.is_alone else 2)
        kept += [b"\xff", bytes([segment.marker]), data[start : segment.end]]
    return b"".join([*kept, data[segment.end :]]), b"".join(exif)


def _frame(marker: int, body: bytes, jfif: bool, transform: int | None) -> Frame:
    precision, height, width, count = struct.unpack_from(">BHHB", body)
    components = tuple(
        Component(identifier, factors >> 4, factors & 15)
        for identifier, factors, _ in (
            struct.unpack_from("BBB", body, 6 + 3 * i) for i in range(count)
        )
    )
    return Frame(_FRAMES[marker], precision, width, height, components, jfif, transform)


_TABLES, _RESTART, _SCAN, _EOI = 0xC4, 0xDD, 0xDA, 0xD9
_ENDS_SCAN = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # fill bytes before it are stripped
_RESTARTS = re.compile(rb"\xff([\xd0-\xd7])")
MAX_SCANS = 100
"""Ten are usual; a decoder goes through the whole picture for each."""
_MAX_VISITS = 24_000_000  # of blocks, in all scans: two minutes' work of a small file otherwise
_FILL_BYTES = 16  # fewer zeros than these may fill up a stretch
_SHORT = 48  # bytes: arrays are slower
_LISTED = 2_000_000  # words that may lie in a list of Python's, 40 bytes each
_HOLE = bytes(64)  # as long as the zeros of more than two blocks whose coefficients are all alike
_DAMAGED = "its coded data is damaged, or ends before the picture does"
_LATE = "its coded data goes on where the picture ends"
_HOLED = "part of its coded data is blank"


@dataclass(frozen=True, slots=True)
class Scan:
    """What one scan codes.

    Attributes:
        components: Places of its channels in the frame.
        tables: The DC and AC table numbers of each.
        first: First coefficient.
        last: Last coefficient.
        high: Bit that was coded before, 0 for none.
        low: Bit that is coded now.
    """

    components: tuple[int, ...]
    tables: tuple[tuple[int, int], ...]
    first: int
    last: int
    high: int
    low: int


@dataclass(slots=True)
class _State:
    """What is known of a stream so far."""

    frame: Frame
    codes: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)  # DC 0 to 3, AC 16 to 19
    interval: int = 0
    segments: int = 0
    scans: int = 0
    visits: int = 0
    done: dict[tuple[int, int], int] = field(default_factory=dict)  # bit by channel, coefficient
    known: dict[int, list[int]] = field(default_factory=dict)  # masks of non-zero coefficients

    def table(self, number: int) -> Table:
        """Returns a Huffman table; it is built when it is used."""
        return build_table(*self.codes[number])

    def count(self, blocks: int) -> None:
        """Counts a scan of so many blocks.

        Raises:
            DamageError: There are too many.
        """
        self.scans += 1
        self.visits += blocks
        if self.scans > MAX_SCANS or (self.scans > 1 and self.visits > _MAX_VISITS):
            raise DamageError(f"it has more than {min(self.scans - 1, MAX_SCANS)} scans")


class DamageError(Exception):
    """Coded data and picture do not fit."""


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


def _walk(data: bytes) -> str:
    state = _State(read_frame(data))
    at = 2
    while True:
        segment = read_segment(data, at)
        at = segment.end
        state.segments += 1
        if state.segments > MAX_SEGMENTS:
            return f"it has more than {MAX_SEGMENTS:,} segments"
        if segment.marker == _TABLES:
            state.codes |= dict(_codes(segment.body))
        elif segment.marker == _RESTART:
            (state.interval,) = struct.unpack_from(">H", segment.body)
        elif segment.marker == _SCAN:
            end = _ENDS_SCAN.search(data, at)
            if end is None:
                return ""
            _check_scan(data[at : end.start()], _scan(segment.body, state.frame), state)
            at = end.start()
        elif segment.marker == _EOI:
            return _missing(state)


def _missing(state: _State) -> str:
    """Returns what scans are missing: each coefficient has to be coded to its last bit."""
    whole = all(
        state.done.get((channel, place)) == 0
        for channel in range(len(state.frame.components))
        for place in range(64)
    )
    return "" if whole else "some of its scans are missing"


def _codes(body: bytes) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    at = 0
    while at + 17 <= len(body):
        counts = body[at + 1 : at + 17]
        end = at + 17 + sum(counts)
        if end > len(body):
            raise ValueError("a Huffman table is cut off")
        yield body[at], (counts, body[at + 17 : end])
        at = end


def _scan(body: bytes, frame: Frame) -> Scan:
    places = {component.identifier: i for i, component in enumerate(frame.components)}
    pairs = [(body[1 + 2 * i], body[2 + 2 * i]) for i in range(body[0])]
    first, last, bits = struct.unpack_from("BBB", body, 1 + 2 * body[0])
    if frame.coding != "progressive":
        first, last, bits = 0, 63, 0
    if not pairs or not first <= last <= 63 or (first and len(pairs) > 1):
        raise ValueError("a scan header that makes no sense")
    return Scan(
        tuple(places[identifier] for identifier, _ in pairs),
        tuple((selector >> 4, selector & 15) for _, selector in pairs),
        first, last, bits >> 4, bits & 15,
    )  # fmt: skip


def _check_scan(coded: bytes, scan: Scan, state: _State) -> None:
    """Follows the blocks of one scan.

    Raises:
        DamageError: They do not fit the data.
    """
    units, blocks = _units(state.frame, scan)
    state.count(units * len(blocks))
    size = state.interval or units
    pieces = _RESTARTS.split(coded, maxsplit=-(-units // size))
    stretches, markers = pieces[0::2], pieces[1::2]
    if len(stretches) != -(-units // size):
        raise DamageError("a restart marker is missing or one too many")
    if any(marker[0] != 0xD0 + i % 8 for i, marker in enumerate(markers)):
        raise DamageError("its restart markers are out of order")
    for i, stretch in enumerate(stretches):
        start = i * size
        _check_stretch(stretch, scan, state, blocks, slice(start, min(start + size, units)))
    for channel in scan.components:
        for place in range(scan.first, scan.last + 1):
            state.done[channel, place] = scan.low


def _units(frame: Frame, scan: Scan) -> tuple[int, list[tuple[int, int]]]:
    """Returns how many units a scan has, and the table numbers of each block in one of them."""
    widest = max(component.horizontal for component in frame.components)
    tallest = max(component.vertical for component in frame.components)
    if len(scan.components) == 1:
        own = frame.components[scan.components[0]]
        across = _blocks(frame.width, own.horizontal, widest)
        return across * _blocks(frame.height, own.vertical, tallest), [scan.tables[0]]
    blocks = []
    for channel, tables in zip(scan.components, scan.tables, strict=True):
        component: Component = frame.components[channel]
        blocks += [tables] * (component.horizontal * component.vertical)
    return _blocks(frame.width, 1, widest) * _blocks(frame.height, 1, tallest), blocks


def _blocks(length: int, factor: int, largest: int) -> int:
    """Returns how many blocks of 8 a channel has along a side of the picture."""
    own = -(-length * factor // largest)
    return -(-own // 8)


def _check_stretch(
    coded: bytes, scan: Scan, state: _State, blocks: Sequence[tuple[int, int]], units: slice
) -> None:
    data = coded.rstrip(b"\xff").replace(b"\xff\x00", b"\xff")
    words = _words(data)
    count = units.stop - units.start
    try:
        if state.frame.coding != "progressive":
            layout = [(state.table(dc), state.table(16 + ac)) for dc, ac in blocks]
            if _HOLE in data and not _codes_flat_blocks(layout):
                raise DamageError(_HOLED)
            end = _follow(words, layout, count)
        elif scan.first == 0 and scan.high:
            end = count * len(blocks)  # one bit each
        elif scan.first == 0:
            end = _follow_dc(words, [state.table(dc) for dc, _ in blocks], count)
        else:
            masks = state.known.setdefault(scan.components[0], [0] * _units(state.frame, scan)[0])
            follow = refine_pass if scan.high else first_pass
            end = follow(
                words, state.table(16 + scan.tables[0][1]), masks, units, scan.first, scan.last
            )
    except IndexError:
        raise DamageError(_DAMAGED) from None
    if end > 8 * len(data):
        raise DamageError(_DAMAGED)
    left = data[-(-end // 8) :]
    if len(left) >= _FILL_BYTES or any(left):
        raise DamageError(_LATE)


def _codes_flat_blocks(blocks: list[tuple[Table, Table]]) -> bool:
    """Returns whether zeros may be many flat blocks: an AC code of zeros ends the block.

    If it does not, zeros are blocks of 63 coefficients that are all alike, which no picture has;
    behind a hole in a file decoders often find their way back, and count as many blocks as before.
    """
    return all(ac.single[1][0] == END for _, ac in blocks)


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


def _follow(words: Sequence[int], blocks: list[tuple[Table, Table]], count: int) -> int:
    """Returns the bit behind ``count`` units of sequential blocks.

    Raises:
        DamageError: A code does not exist, or a block has more than 64 coefficients.
        IndexError: The data ends before.
    """
    layout = [(dc.categories, *ac.several, ac) for dc, ac in blocks]
    at = 0
    for _ in range(count):
        for dc_bits, bits, places, table in layout:
            step = dc_bits[words[at >> 3] >> 16 - (at & 7) & 0xFFFF]
            if not step:
                raise DamageError(_DAMAGED)
            at += step
            start, place = at, 1
            while place < 64:
                window = words[at >> 3] >> 16 - (at & 7) & 0xFFFF
                at += bits[window]
                place += places[window]
            if place != 64 and not END < place < END + 64:
                at = _follow_singly(words, table, start)
    return at


def _follow_singly(words: Sequence[int], table: Table, at: int) -> int:
    """Returns the bit behind a block's AC coefficients, one symbol at a time.

    Several at once may reach from a block without an end code into the next.
    """
    bits, places = table.single
    place = 1
    while place < 64:
        window = words[at >> 3] >> 16 - (at & 7) & 0xFFFF
        at += bits[window]
        place += places[window]
    if place != 64 and not END < place < END + 64:
        raise DamageError(_DAMAGED)
    return at


def _follow_dc(words: Sequence[int], blocks: list[Table], count: int) -> int:
    at = 0
    layout = [table.categories for table in blocks]
    for _ in range(count):
        for categories in layout:
            step = categories[words[at >> 3] >> 16 - (at & 7) & 0xFFFF]
            if not step:
                raise DamageError(_DAMAGED)
            at += step
    return at
