"""The AC scans of a progressive JPEG, followed by the lengths of their codes (T.81, G.1.2).

Refining takes a bit for each coefficient that is known not to be zero, so that which ones are is
kept as one mask for each block.
"""

from collections.abc import Sequence

from dermfuse.decoding.huffman import Table


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
