"""How an error becomes an answer: JSON with what was found, what was expected, what to do."""

from collections.abc import Mapping

from starlette.responses import JSONResponse

from dermfuse.errors import ConfigError, DependencyError, DermfuseError, ImageError, ReleaseError
from dermfuse.runs import NOTICE

_STATUSES: tuple[tuple[type[DermfuseError], int], ...] = (
    (ImageError, 422),
    (DependencyError, 415),  # a format that this installation does not read
    (ReleaseError, 400),  # once the server runs: an operating point that is not there
    (ConfigError, 400),
)


class RefusedError(DermfuseError):
    """A request that is not served.

    Args:
        status: Of the HTTP answer.
        found: As for ``DermfuseError``; so are the next two.
        expected: What was expected instead.
        action: What the client can do.
        headers: That the answer carries beside its own.
    """

    def __init__(
        self,
        status: int,
        found: str,
        *,
        expected: str = "",
        action: str = "",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(found, expected=expected, action=action)
        self.status = status
        self.headers = dict(headers or {})


def busy(found: str, *, retry_seconds: int) -> RefusedError:
    """Returns the refusal of a server that has enough to do."""
    return RefusedError(
        503,
        found,
        action=f"Try again in {retry_seconds} s",
        headers={"Retry-After": str(retry_seconds)},
    )


def status_of(error: DermfuseError) -> int:
    """Returns the HTTP status of an error; 500 where a client cannot mend it.

    Example:
        >>> status_of(ImageError("the file is empty")), status_of(DermfuseError("the disk is full"))
        (422, 500)
    """
    if isinstance(error, RefusedError):
        return error.status
    return next((status for kind, status in _STATUSES if isinstance(error, kind)), 500)


def error_response(error: DermfuseError, *, request_id: str) -> JSONResponse:
    """Returns the answer to a request that failed.

    Args:
        error: Why; its parts are shown.
        request_id: To find the line of the log by.
    """
    return JSONResponse(
        {
            "error": {
                "kind": type(error).__name__,
                "found": error.found,
                "expected": error.expected,
                "action": error.action,
            },
            "request_id": request_id,
            "notice": NOTICE,
        },
        status_code=status_of(error),
        headers=error.headers if isinstance(error, RefusedError) else None,
    )
