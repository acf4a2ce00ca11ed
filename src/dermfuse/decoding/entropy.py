"""Whether a JPEG's coded data is whole: every block is followed from its first bit to its last.

libjpeg mends what is damaged without a word: where bits run out it invents zeros, where some are
left over it skips them. Either moves or blanks part of the picture. The codes' lengths alone tell:
each stretch between restart markers has to hold exactly the blocks that it should.
"""

import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from dermfuse.decoding.huffman import END, Table, build_table
from dermfuse.decoding.jpeg import MAX_SEGMENTS, Component, Frame, read_frame, read_segment
from dermfuse.decoding.refinement import first_pass, refine_pass

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
