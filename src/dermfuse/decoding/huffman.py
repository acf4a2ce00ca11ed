"""JPEG's Huffman tables as look-ups of 16 bits: how far one symbol, or several, reach.

Only lengths are looked up. That tells where every block of a scan ends, and so whether coded data
and image fit, without a single coefficient being computed.
"""

from dataclasses import dataclass
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
