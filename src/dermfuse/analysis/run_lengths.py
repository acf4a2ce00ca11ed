"""DICOM's RLE coding (PS3.5, Annex G), decoded to no more bytes than the image has.

A run of two bytes stands for up to 128 bytes: a small file may claim a very large image, so that
decoding stops at the size that the header announced.
"""

import struct

import numpy as np
from numpy.typing import NDArray

_HEADER_BYTES = 64


def decode_run_lengths(
    frame: bytes, *, rows: int, columns: int, samples: int, sample_bytes: int
) -> NDArray[np.generic]:
    """Returns one frame of run-length coded pixels.

    Args:
        frame: The frame, its header of segment offsets included.
        rows: Height.
        columns: Width.
        samples: Channels; each is a plane of its own.
        sample_bytes: 1 or 2; the bytes of a sample are segments of their own, highest first.

    Returns:
        uint8 or uint16, (H, W) or (H, W, samples).

    Raises:
        ValueError: The frame is cut off or does not have the segments expected.
    """
    if len(frame) < _HEADER_BYTES:
        raise ValueError("the frame ends within its header")
    count, *offsets = struct.unpack_from("<16L", frame)
    if count != samples * sample_bytes:
        raise ValueError(f"{count} segments. Expected: {samples * sample_bytes}.")
    ends = [*offsets[1:count], len(frame)]
    planes = [
        np.frombuffer(unpack_bits(frame[start:end], rows * columns), np.uint8)
        for start, end in zip(offsets[:count], ends, strict=True)
    ]
    stacked = np.stack(planes).reshape(samples, sample_bytes, rows, columns)
    if sample_bytes == 1:
        values: NDArray[np.generic] = stacked[:, 0]  # (samples, H, W)
    else:
        values = stacked[:, 0].astype(np.uint16) * np.uint16(256) + stacked[:, 1]
    return values[0] if samples == 1 else np.ascontiguousarray(np.moveaxis(values, 0, -1))


def unpack_bits(segment: bytes, length: int) -> bytearray:
    r"""Returns the first ``length`` bytes of a PackBits segment.

    Raises:
        ValueError: The segment holds fewer.

    Example:
        >>> bytes(unpack_bits(b"\x02abc\xfez", 6))
        b'abczzz'
    """
    unpacked = bytearray()
    position = 0
    while len(unpacked) < length:
        if position >= len(segment):
            raise ValueError(f"the segment ends after {len(unpacked)} of {length} bytes")
        code = segment[position]
        if code < 128:  # so many bytes and one, as they are
            unpacked += segment[position + 1 : position + 2 + code]
            position += 2 + code
        elif code > 128:  # one byte, repeated
            unpacked += segment[position + 1 : position + 2] * (257 - code)
            position += 2
        else:  # no operation
            position += 1
    return unpacked[:length]
