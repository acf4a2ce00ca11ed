"""Whether an ONNX file holds all of its numbers: others lie outside of its card's digest.

ONNX is protocol buffers: a message is a row of fields, each a number, a kind and a content, and
some contents are messages again. Only the path to tensors is followed.
"""

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from dermfuse.errors import ReleaseError

_DEEPEST = 64  # messages within messages
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_WIDTHS = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_NUMBERS = 1 << 29  # fields of a message are numbered below
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14  # of a TensorProto: where else, and that it is elsewhere

_INNER: Mapping[str, Mapping[int, str]] = MappingProxyType({
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
})  # fmt: skip
"""Of each message, the fields that lead to tensors, as onnx.proto numbers them."""


def refuse_external_data(content: bytes, name: str) -> None:
    """Refuses a network that takes numbers from other files.

    Args:
        content: Of an ONNX file.
        name: Of the file, for the message.

    Raises:
        ReleaseError: It does, or is no ONNX file.
    """
    try:
        is_whole = _is_whole(memoryview(content))
    except (ValueError, IndexError) as error:
        raise ReleaseError(
            f"{name} is no ONNX file ({error})", expected="a network as dermfuse exports it"
        ) from error
    if not is_whole:
        raise ReleaseError(
            f"{name} takes numbers from other files (ONNX external data)",
            expected="a network whose file holds all of its numbers",
            action="Save it as one file",
        )


def _is_whole(content: memoryview) -> bool:
    """Returns whether no tensor of a model says that its numbers are elsewhere.

    Raises:
        ValueError, IndexError: It is no model.
    """
    waiting = [("model", content, 0)]
    has_graph = False
    while waiting:
        kind, message, depth = waiting.pop()
        for number, value in _fields(message):
            if kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION) and value:
                return False
            inner = _INNER[kind].get(number)
            if inner is None or isinstance(value, int):
                continue
            if depth == _DEEPEST:
                raise ValueError("it is nested too deeply")
            has_graph |= (kind, inner) == ("model", "graph")
            waiting.append((inner, value, depth + 1))
    if not has_graph:
        raise ValueError("it has no graph")
    return True


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yields (number, value) of each field of a message; numbers as they are, else the content."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        number, kind = tag >> 3, tag & 7
        if not 0 < number < _NUMBERS:
            raise ValueError(f"a field has number {number}")
        if kind == _VARINT:
            value, at = _varint(message, at)
            yield number, value
            continue
        if kind == _LENGTH:
            width, at = _varint(message, at)
        elif kind in _WIDTHS:
            width = _WIDTHS[kind]
        else:
            raise ValueError(f"a field is of kind {kind}")
        if at + width > len(message):
            raise ValueError("it is cut off")
        yield number, message[at : at + width]
        at += width


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """Returns a number of seven bits a byte, lowest first, and where what follows begins."""
    value = 0
    for shift in range(0, 70, 7):
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number is too long")
