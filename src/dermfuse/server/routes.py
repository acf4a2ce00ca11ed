"""The addresses of the server.

What a request's head may hold: HTTP's own parser takes more than is safe.

The optional bearer token: where it comes from, and how a request shows it.

What HTTP asks of every address: HEAD where there is GET, OPTIONS, and a true Allow.

Where a proxy shows the server.
"""

import hashlib
import hmac
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response
from fastapi.responses import PlainTextResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dermfuse.errors import ConfigError
from dermfuse.server.answers import OVERLAYS, RefusedError, error_response, read_question
from dermfuse.server.forms import FIELD, FORM, RAW
from dermfuse.server.schemas import AnalysisRecord, ErrorRecord, HealthRecord, ModelRecord
from dermfuse.server.service import Service

HEADERS = 100


class SafeHeads:
    """Answers heads of too many headers, or that say in two ways how long a body is.

    The connection is closed after such an answer: a proxy may have seen another end of the
    request, and what follows may be somebody else's.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        refused = _refusal(scope) if scope["type"] == "http" else None
        if refused is None:
            await self._app(scope, receive, send)
            return
        response = error_response(refused, request_id=scope["state"]["request_id"])
        await response(scope, receive, send)


def _refusal(scope: Scope) -> RefusedError | None:
    headers: list[tuple[bytes, bytes]] = scope["headers"]
    if len(headers) > HEADERS:
        return _refused(431, f"{len(headers)} headers", expected=f"{HEADERS} at most")
    if scope["http_version"] not in ("1.0", "1.1"):
        return _refused(505, "another version of HTTP", expected="HTTP/1.1")
    names = {name for name, _ in headers}
    if b"transfer-encoding" in names:
        if b"content-length" in names:
            return _refused(
                400, "Content-Length and Transfer-Encoding in one head", expected="one of them"
            )
        if scope["http_version"] == "1.0":
            return _refused(400, "Transfer-Encoding in HTTP/1.0", expected="Content-Length")
    return None


def _refused(status: int, found: str, *, expected: str) -> RefusedError:
    return RefusedError(status, found, expected=expected, headers={"Connection": "close"})


TOKEN_VARIABLE = "DERMFUSE_TOKEN"  # noqa: S105 — the variable's name
SHORTEST_TOKEN = 16


_SCHEME = HTTPBearer(auto_error=False, description="The token that the server was given.")
_Shown = Annotated[HTTPAuthorizationCredentials | None, Depends(_SCHEME)]


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


def load_token(file: Path | None, environment: Mapping[str, str]) -> str | None:
    """Returns the token of a file or of the variable ``DERMFUSE_TOKEN``; None if there is neither.

    Args:
        file: Holds the token; white space around it is not part of it.
        environment: The process's.

    Raises:
        ConfigError: Both are given, the file cannot be read, or the token is too short or has
            other characters than visible ASCII.

    Example:
        >>> load_token(None, {"DERMFUSE_TOKEN": "0123456789abcdef"})
        '0123456789abcdef'
    """
    if file is None:
        if TOKEN_VARIABLE not in environment:
            return None
        token, where = environment[TOKEN_VARIABLE], TOKEN_VARIABLE
    elif TOKEN_VARIABLE in environment:
        raise ConfigError(f"a token in {file} and one in {TOKEN_VARIABLE}", expected="one of them")
    else:
        token, where = _read(file), str(file)
    if len(token) < SHORTEST_TOKEN or not all("!" <= character <= "~" for character in token):
        raise ConfigError(
            f"the token in {where} is too short, or not of visible ASCII alone",
            expected=f"{SHORTEST_TOKEN} characters or more without white space",
            action="Make one with: openssl rand -hex 32",
        )
    return token


def _read(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"{file} cannot be read ({getattr(error, 'strerror', None) or error})",
            expected="a file with a token",
        ) from error


def _digest(token: str) -> bytes:
    """Returns a digest: those of two tokens are as long, so comparing tells nothing."""
    return hashlib.sha256(token.encode()).digest()


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
    400: {
        "model": ErrorRecord,
        "description": "A form without a file, or a parameter that is not known",
    },
    401: {"model": ErrorRecord, "description": "No token, or another than the server's"},
    408: {"model": ErrorRecord, "description": "The body took too long"},
    413: {"model": ErrorRecord, "description": "The body is too large"},
    415: {"model": ErrorRecord, "description": "A type of body, or a format, that is not read"},
    422: {
        "model": ErrorRecord,
        "description": "An image that cannot be read: damaged, too small, too many pixels",
    },
    500: {"model": ErrorRecord, "description": "A fault of the server"},
    503: {
        "model": ErrorRecord,
        "description": "The server is busy; Retry-After says when to come again",
    },
    504: {"model": ErrorRecord, "description": "The analysis took too long"},
}
_METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class ReadResponse(Response):
    """An answer that is done when the client has read it: the connection keeps 64 kB at most."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Sends the answer, and waits until it is read or the client cut off."""

        async def send_and_wait(message: Message) -> None:
            is_body = message["type"] == "http.response.body"
            await send({**message, "more_body": True} if is_body else message)

        await super().__call__(scope, receive, send_and_wait)
        await send({"type": "http.response.body", "body": b""})


async def _until_read() -> AsyncIterator[ExitStack]:
    """Yields what is left when the answer has been read."""
    with ExitStack() as stack:
        yield stack


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
        until_read: Annotated[ExitStack, Depends(_until_read)],
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
        body = await service.analyze(request, question)
        until_read.enter_context(service.uploads.holding(len(body)))
        headers = {"Cache-Control": "no-store"}
        return ReadResponse(body, media_type="application/json", headers=headers)

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


def _check_parameters(request: Request) -> None:
    """Refuses parameters that are not known: a slip would be a silent default."""
    known = ("overlays", "operating_point")
    odd = [name for name in request.query_params if name not in known]
    if odd:
        raise ConfigError(
            f'no parameter is called "{odd[0]}"', expected=f"{' or '.join(known)} or none"
        )


class HeadAsGet:
    """Answers HEAD as GET without the body: wraps an application that knows GET alone.

    Args:
        app: The application.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return

        async def send_head(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        # A copy: the server beneath must still know that no body may follow.
        asked = {**scope, "method": "GET"}
        try:
            await self._app(asked, receive, send_head)
        finally:
            scope["route"] = asked.get("route")


def allow(methods: str) -> str:
    """Returns what an address allows, from what its route names.

    Example:
        >>> allow("GET"), allow("POST")
        ('GET, HEAD, OPTIONS', 'OPTIONS, POST')
    """
    named = {name.strip() for name in methods.split(",")}
    return ", ".join(sorted(named | {"OPTIONS"} | ({"HEAD"} if "GET" in named else set())))


def options_response(allowed: str) -> Response:
    """Returns the answer to OPTIONS: what is allowed, and nothing else."""
    return Response(status_code=204, headers={"Allow": allowed})


class UnderPath:
    """Serves an application below a path, whether the proxy takes that off or leaves it on.

    Args:
        app: The application.
        root_path: Like ``/lesions``; empty where the server lies at the root.
    """

    def __init__(self, app: ASGIApp, *, root_path: str) -> None:
        self._app = app
        self._root_path = root_path

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        if scope["type"] == "http":
            scope["root_path"] = self._root_path
        await self._app(scope, receive, send)
