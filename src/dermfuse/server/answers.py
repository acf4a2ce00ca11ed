"""What the server answers: the schemas for OpenAPI, and how an error becomes an answer.

Answers are written from the library's own records and never through these models: they declare,
they do not convert. No key may be missing and none may be added; tests hold real answers against
them.
"""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse

from dermfuse.errors import ConfigError, DependencyError, DermfuseError, ImageError, ReleaseError
from dermfuse.records.folders import NOTICE

_STATUSES: tuple[tuple[type[DermfuseError], int], ...] = (
    (ImageError, 422),
    (DependencyError, 415),  # a format that this installation does not read
    (ReleaseError, 400),  # once the server runs: an operating point that is not there
    (ConfigError, 400),
)


class RefusedError(DermfuseError):
    """A request that is not served.

    Args:
        status: The status of the HTTP answer.
        found: As for ``DermfuseError``; so are the next two.
        expected: What was expected instead.
        action: What the client can do.
        headers: Headers that the answer carries beside its own.
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
    """Returns the HTTP status of an error; 500 where a client cannot fix it.

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


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid")


class RateRecord(_Closed):
    """A share of a class, with its 95 % interval."""

    value: float = Field(ge=0, le=1)
    low: float = Field(ge=0, le=1)
    high: float = Field(ge=0, le=1)


class QualityRecord(_Closed):
    """One check of the image."""

    value: float
    threshold: float
    raised: bool
    sentence: str


class MeasuresRecord(_Closed):
    """Measures of the lesion (docs/analysis.md); null where one is not defined."""

    pieces: int
    cut_by_frame: bool
    kept_share: float | None
    frame_contact: float | None
    centroid_px: tuple[float, float] | None
    equivalent_diameter_px: float | None
    longest_diameter_px: float | None
    axes_px: tuple[float, float] | None
    angle_degrees: float | None
    asymmetry_longer: float | None
    asymmetry_shorter: float | None
    asymmetry: float | None
    colour_asymmetry: float | None
    compactness: float | None
    solidity: float | None
    border_step: float | None
    colour_shares: dict[str, float] | None
    colour_count: int | None


class OverlaysRecord(_Closed):
    """PNG files in base64, of those that were asked for; null where the image is withheld."""

    outline: str | None = None
    activation: str | None = None


class AnalysisRecord(_Closed):
    """What is said about an image. Where it is withheld, all about the lesion is null."""

    name: Literal[""] = Field(description="An upload has no name.")
    release: str
    width_px: int
    height_px: int
    malignant_probability: float | None = Field(
        ge=0, le=1, description="Probability of melanoma, calibrated; null where it is withheld."
    )
    predicted: Literal["malignant", "benign"] | None
    operating_point: str
    threshold: float
    sensitivity: RateRecord
    specificity: RateRecord
    scores: dict[str, float] = Field(description="Of each class network, not calibrated.")
    uncertainty: float | None = Field(
        description="Standard deviation over looks and networks; null where there is one of each."
    )
    looks: int
    dermoscopy: bool | None = Field(
        description="False: unlike the images learnt from. Null: the release cannot tell."
    )
    dermoscopy_distance: float | None = Field(description="From the images learnt from.")
    lesion_area_fraction: float | None = Field(ge=0, le=1, description="Lesion share of the frame.")
    measures: MeasuresRecord | None
    quality: dict[str, QualityRecord]
    warnings: list[str] = Field(description="What a reader must know before the numbers.")
    outline: list[list[tuple[float, float]]] | None = Field(
        description="Closed outlines, (x, y) in pixels of the upright image."
    )
    notice: str
    overlays: OverlaysRecord = Field(
        default=OverlaysRecord(), description="Only if they were asked for."
    )


class ErrorParts(_Closed):
    """What went wrong: found, expected, what to do."""

    kind: str
    found: str
    expected: str
    action: str


class ErrorRecord(_Closed):
    """A request that failed."""

    error: ErrorParts
    request_id: str
    notice: str


class HealthRecord(_Closed):
    """What runs, and what it has to do."""

    status: Literal["ok"]
    version: str
    release: str
    looks: int
    waiting: int
    running: int
    notice: str


class ModelRecord(_Closed):
    """The release's record, and the SHA-256 of each network's file."""

    format: int
    name: str
    classes: dict[str, Any]
    masks: dict[str, Any]
    gate: dict[str, Any] | None
    looks: int
    facts: dict[str, Any]
    digests: dict[str, str]
    notice: str
