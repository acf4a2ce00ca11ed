"""Run lengths unpack to what was packed, never to more than was asked for."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermfuse.imaging.dicom import decode_run_lengths, unpack_bits


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        (b"\x00a", b"a"),
        (b"\x01ab", b"ab"),
        (b"\xffa", b"aa"),
        (b"\x81a", b"a" * 128),
        (b"\x80\x80\x00a", b"a"),  # 128 is no operation
        (b"\x02abc\xfez", b"abczzz"),
    ],
)
def test_codes_by_hand(segment: bytes, expected: bytes) -> None:
    assert unpack_bits(segment, len(expected)) == expected


def test_what_goes_beyond_the_length_is_dropped() -> None:
    assert unpack_bits(b"\x81a\x81b", 3) == b"aaa"


@pytest.mark.parametrize("segment", [b"", b"\x80", b"\x05ab", b"\xff"])
def test_a_segment_that_ends_early_is_refused(segment: bytes) -> None:
    with pytest.raises(ValueError, match="the segment ends after"):
        unpack_bits(segment, 6)


@given(st.binary(max_size=200), st.integers(0, 300))
def test_the_length_is_kept_or_the_segment_refused(segment: bytes, length: int) -> None:
    try:
        unpacked = unpack_bits(segment, length)
    except ValueError:
        return
    assert len(unpacked) == length


def test_a_header_cut_off_or_of_another_count_is_refused() -> None:
    shape = {"rows": 1, "columns": 1, "samples": 1, "sample_bytes": 1}
    with pytest.raises(ValueError, match="within its header"):
        decode_run_lengths(bytes(63), **shape)
    with pytest.raises(ValueError, match=r"0 segments\. Expected: 1"):
        decode_run_lengths(bytes(64), **shape)


def test_high_bytes_come_first() -> None:
    header = np.array([2, 64, 66] + [0] * 13, "<u4").tobytes()
    values = decode_run_lengths(
        header + b"\x00\x01\x00\x02", rows=1, columns=1, samples=1, sample_bytes=2
    )
    assert values.tolist() == [[258]]
