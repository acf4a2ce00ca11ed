"""From the bytes of an upload to the JSON of its answer: the part of a request that computes.

How an error becomes an answer: JSON with what was found, what was expected, what to do.
"""

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from starlette.responses import JSONResponse

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.records import Analysis
from dermfuse.errors import ConfigError, DependencyError, DermfuseError, ImageError, ReleaseError
from dermfuse.folders import NOTICE
from dermfuse.imaging.overlays import encode_png
from dermfuse.release.folder import OperatingPoint

OVERLAYS: Mapping[str, Callable[[Analysis], NDArray[np.uint8] | None]] = {
    "outline": Analysis.contour_overlay,
    "activation": Analysis.activation_overlay,
}
"""What can be asked for, and how it is drawn; of what is withheld nothing is."""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked about an image.

    Args:
        point: The operating point of the call.
        overlays: Names of pictures to answer with.
    """

    point: OperatingPoint
    overlays: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Answer:
    """What is said about an image.

    Args:
        body: JSON.
        call: ``malignant``, ``benign``, or ``withheld`` where there is no probability.
    """

    body: bytes
    call: str


def read_question(analyzer: Analyzer, *, operating_point: str, overlays: str) -> Question:
    """Returns what the parameters of a request ask.

    Args:
        analyzer: Whose release has the operating points.
        operating_point: A name; the release's own default if empty.
        overlays: Names with commas between them, or empty.

    Raises:
        ReleaseError: There is no such operating point.
        ConfigError: There is no such overlay.
    """
    names = tuple(dict.fromkeys(name.strip() for name in overlays.split(",") if name.strip()))
    unknown = [name for name in names if name not in OVERLAYS]
    if unknown:
        raise ConfigError(
            f'no overlay is called "{unknown[0]}"',
            expected=f"{' or '.join(OVERLAYS)}, or both with a comma between them",
        )
    return Question(analyzer.release.classes.point(operating_point or None), names)


def answer(analyzer: Analyzer, image: bytes, question: Question) -> Answer:
    """Returns what is said about an image: ``Analysis.to_dict`` as JSON, and the overlays.

    Args:
        analyzer: Says it.
        image: The bytes of a file.
        question: What is asked.

    Raises:
        ImageError: The image cannot be read.
        DependencyError: It is a DICOM file, and pydicom is not installed.
    """
    analysis = replace(analyzer.analyze(image), operating_point=question.point)
    record = analysis.to_dict()
    if question.overlays:
        record["overlays"] = {name: _packed(OVERLAYS[name](analysis)) for name in question.overlays}
    body = json.dumps(record, allow_nan=False, separators=(",", ":")).encode()
    return Answer(body, record["predicted"] or "withheld")


def _packed(drawn: NDArray[np.uint8] | None) -> str | None:
    """Returns a picture as a PNG file in base64."""
    return None if drawn is None else base64.b64encode(encode_png(drawn)).decode()


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
