"""The addresses of the interface, and the token that some of them ask for."""

import hashlib
import hmac
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import Message, Receive, Scope, Send

from dermfuse.errors import ConfigError
from dermfuse.server.answers import (
    AnalysisRecord,
    ErrorRecord,
    HealthRecord,
    ModelRecord,
    RefusedError,
)
from dermfuse.server.forms import FIELD, FORM, RAW, Uploads
from dermfuse.server.service import OVERLAYS, Service, read_question

_SCHEME = HTTPBearer(auto_error=False, description="The token that the server was given.")
_Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]
_BYTES = {"type": "string", "format": "binary"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            FORM: {
                "schema": {"type": "object", "required": [FIELD], "properties": {FIELD: _BYTES}}
            },
            **{media_type: {"schema": _BYTES} for media_type in RAW},
        },
    }
}
_ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorRecord, "description": description}
    for status, description in {
        400: "A form without a file, or a parameter that is not known",
        401: "No token, or another than the server's",
        408: "The body took too long",
        413: "The body is too large",
        415: "A type of body, or a format, that is not read",
        422: "An image that cannot be read: damaged, too small, too many pixels",
        500: "A fault of the server",
        503: "The server is busy; Retry-After says when to try again",
        504: "The analysis took too long",
    }.items()
}
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PARAMETERS = ("overlays", "operating_point")


def make_router(service: Service, token: str | None) -> APIRouter:
    """Returns the routes of the interface.

    Args:
        service: Answers.
        token: That the image and the model ask for; None for no question.
    """
    router = APIRouter()
    guard = [Depends(require_token(token))] if token else []

    @router.post(
        "/v1/analyze",
        dependencies=guard,
        openapi_extra=_BODY,
        response_description="The analysis",
        responses={200: {"model": AnalysisRecord}, **_ERRORS},
        tags=["analysis"],
    )
    async def analyze(
        request: Request,
        overlays: Annotated[
            str, Query(description=f"Pictures to answer with: {', '.join(OVERLAYS)}, or both.")
        ] = "",
        operating_point: Annotated[
            str, Query(description="Name of the threshold; the release's default if left out.")
        ] = "",
    ) -> Response:
        """Say how likely a lesion is melanoma, outline it, describe it. Research only.

        The answer is that of Analysis.to_dict in the library. Overlays are PNG files in base64.
        """
        _check_parameters(request)
        question = read_question(
            service.analyzer, operating_point=operating_point, overlays=overlays
        )
        return ReadResponse(await service.analyze(request, question), service.uploads)

    @router.get(
        "/v1/model",
        dependencies=guard,
        response_model=ModelRecord,
        response_description="The release's record",
        responses={401: _ERRORS[401]},
        tags=["server"],
    )
    async def model() -> dict[str, Any]:
        """Say what the networks are, their operating points, and what was measured of them."""
        return service.model()

    @router.get(
        "/v1/health",
        response_model=HealthRecord,
        response_description="It runs",
        tags=["server"],
    )
    async def health() -> dict[str, Any]:
        """Say that the server runs, and what it has to do."""
        return service.health()

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        response_description="The counts",
        tags=["server"],
    )
    async def metrics() -> Response:
        """Count, in Prometheus's text format."""
        return Response(service.metrics.render(), media_type=_METRICS_TYPE)

    return router


def require_token(token: str) -> Callable[[_Shown], Awaitable[None]]:
    """Returns a dependency for routes that ask for the token: it refuses with 401.

    Args:
        token: As ``load_token`` returns it.
    """
    known = _digest(token)

    async def check(shown: _Shown) -> None:
        if shown is None or not hmac.compare_digest(_digest(shown.credentials), known):
            raise RefusedError(
                401,
                "no token" if shown is None else "a token that is not this server's",
                expected="the header Authorization: Bearer TOKEN",
                headers={"WWW-Authenticate": "Bearer"},
            )

    return check


class ReadResponse(Response):
    """JSON that counts as held until the client has read it: the connection keeps 64 kB at most.

    Args:
        body: The JSON.
        uploads: Counts it.
    """

    media_type = "application/json"

    def __init__(self, body: bytes, uploads: Uploads) -> None:
        super().__init__(body, headers={"Cache-Control": "no-store"})
        self._uploads = uploads

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer, and waits until it is read or the client cut off."""

        async def send_and_wait(message: Message) -> None:
            is_body = message["type"] == "http.response.body"
            await send({**message, "more_body": True} if is_body else message)

        with self._uploads.holding(len(self.body)):
            await super().__call__(scope, receive, send_and_wait)
            await send({"type": "http.response.body", "body": b""})


def _check_parameters(request: Request) -> None:
    """Refuses parameters that are not known: a mistyped one would be a silent default."""
    odd = [name for name in request.query_params if name not in _PARAMETERS]
    if odd:
        raise ConfigError(
            f'no parameter is called "{odd[0]}"', expected=f"{' or '.join(_PARAMETERS)} or none"
        )


def _digest(token: str) -> bytes:
    """Returns a digest: those of two tokens are as long, so comparing tells nothing."""
    return hashlib.sha256(token.encode()).digest()
