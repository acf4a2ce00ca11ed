"""From the body of a form to the bytes of its one file, without a file on a disk."""

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from dermfuse.server.refusals import RefusedError

FIELD = "file"
"""Name of the form's part."""


def file_of_form(content_type: str, body: bytes) -> bytes:
    r"""Returns what the one part of a form holds.

    Args:
        content_type: ``multipart/form-data`` with its boundary.
        body: The form.

    Raises:
        RefusedError: The form is damaged or cut off, or holds anything but a part called ``file``.

    Example:
        >>> part = b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nbytes\r\n--b--'
        >>> file_of_form("multipart/form-data; boundary=b", part)
        b'bytes'
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary:
        raise _refused("a form without a boundary")
    parts = _Parts()
    try:
        parser = MultipartParser(boundary, parts.callbacks)  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError as error:
        raise _refused("a damaged form") from error
    if not parts.complete:
        raise _refused("a form that is cut off")
    if parts.names != [FIELD.encode()]:
        raise _refused("a form without a part, or with one of another name")
    return b"".join(parts.pieces)


class _Parts:
    """What a parser met: the names of the parts, and the bytes of all together."""

    def __init__(self) -> None:
        self.names: list[bytes | None] = []
        self.pieces: list[bytes] = []
        self.complete = False
        self._field, self._value = b"", b""

    @property
    def callbacks(self) -> dict[str, object]:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._add_field,
            "on_header_value": self._add_value,
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self.pieces.append(data[start:end]),
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if self.names:  # at once: to read millions of parts takes a minute
            raise _refused("a form of several parts")
        self.names.append(None)

    def _add_field(self, data: bytes, start: int, end: int) -> None:
        self._field += data[start:end]

    def _add_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            self.names[-1] = parse_options_header(self._value)[1].get(b"name")
        self._field, self._value = b"", b""

    def _end(self) -> None:
        self.complete = True


def _refused(found: str) -> RefusedError:
    return RefusedError(
        400,
        found,
        expected=f"one file, in a part called {FIELD}",
        action=f"Send it as curl -F {FIELD}=@lesion.jpg does",
    )
