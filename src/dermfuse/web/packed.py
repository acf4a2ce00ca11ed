"""Arrays as JSON values: base64 that a few lines of any language read."""

import base64
import zlib
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.analysis.gate import Cloud, Dermoscopy


def pack_floats(values: NDArray[np.floating[Any]]) -> dict[str, Any]:
    """Returns an array as its shape and little-endian single precision in base64.

    Example:
        >>> pack_floats(np.array([1.0, 2.0]))
        {'shape': [2], 'float32': 'AACAPwAAAEA='}
    """
    content = np.ascontiguousarray(values, dtype="<f4").tobytes()
    return {"shape": list(values.shape), "float32": base64.b64encode(content).decode()}


def pack_bytes(values: NDArray[np.uint8]) -> dict[str, Any]:
    """Returns an array of bytes as its shape and a zlib stream in base64."""
    stream = zlib.compress(np.ascontiguousarray(values).tobytes(), 9)
    return {"shape": list(values.shape), "zlib": base64.b64encode(stream).decode()}


def unpack_bytes(packed: dict[str, Any]) -> NDArray[np.uint8]:
    """Returns what ``pack_bytes`` packed.

    Example:
        >>> unpack_bytes(pack_bytes(np.array([[1, 2]], np.uint8)))
        array([[1, 2]], dtype=uint8)
    """
    content = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(content, np.uint8).reshape(packed["shape"])


def pack_dermoscopy(found: Dermoscopy) -> dict[str, Any]:
    """Returns the arrays of a release's gate, by cloud and name."""
    return {
        cloud.name: {
            array.name: pack_floats(getattr(getattr(found, cloud.name), array.name))
            for array in fields(Cloud)
        }
        for cloud in fields(Dermoscopy)
    }
