"""The application of one process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException
from starlette.responses import Response

from dermfuse import __version__
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.isolation import DecoderLimits, Decoders
from dermfuse.errors import DermfuseError
from dermfuse.records.folders import NOTICE
from dermfuse.server.answers import RefusedError, error_response, status_of
from dermfuse.server.forms import Uploads
from dermfuse.server.metrics import Metrics
from dermfuse.server.middleware import Watch, allow
from dermfuse.server.pages import BrowserApp, render_home, render_reference
from dermfuse.server.queue import SPARE, AnalysisQueue
from dermfuse.server.routes import make_router
from dermfuse.server.service import Service
from dermfuse.server.settings import ServerSettings


def create_app(settings: ServerSettings) -> FastAPI:
    """Returns the application, its networks loaded.

    Args:
        settings: What it is started with.

    Raises:
        ReleaseError: The release cannot be used.
        ConfigError: The folder of the browser app holds none.
    """
    service = _make_service(settings)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        await service.close()

    app = FastAPI(
        title="dermfuse",
        version=__version__,
        description=NOTICE,
        lifespan=lifespan,
        docs_url=None,  # the pages that come with FastAPI load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # to where a client's Host says
    )
    app.add_middleware(Watch, metrics=service.metrics, root_path=settings.root_path)
    app.add_exception_handler(DermfuseError, _explain)
    app.add_exception_handler(HTTPException, _explain_http)
    app.include_router(make_router(service, settings.token))
    _add_pages(app, service, settings)
    return app


def _make_service(settings: ServerSettings) -> Service:
    limits = settings.limits
    metrics = Metrics()
    queue = AnalysisQueue(
        threads=settings.threads,
        waiting=limits.waiting,
        seconds=limits.analysis_seconds,
        on_change=metrics.show_queue,
    )
    pixels = DecoderLimits(max_pixels=limits.pixels)
    decoders = Decoders(settings.threads + SPARE, limits=pixels)  # as many as the queue has threads
    analyzer = Analyzer(settings.release, looks=settings.looks, isolate=decoders)
    return Service(analyzer, queue, Uploads(limits), metrics)


def _add_pages(app: FastAPI, service: Service, settings: ServerSettings) -> None:
    @app.get("/docs", include_in_schema=False)
    async def docs() -> HTMLResponse:
        return HTMLResponse(render_reference(app.openapi()))

    if settings.app is not None:  # last: a mount would hide that an address has other methods
        app.router.default = BrowserApp(settings.app)
        return

    @app.get("/", include_in_schema=False)
    async def home() -> HTMLResponse:
        return HTMLResponse(render_home(service.analyzer.release.name))


async def _explain(request: Request, error: Exception) -> Response:
    """Answers an error that names what was found; one that no client can fix is raised again."""
    if not isinstance(error, DermfuseError) or status_of(error) == 500:
        raise error
    return error_response(error, request_id=request.state.request_id)


async def _explain_http(request: Request, error: Exception) -> Response:
    """Answers what the framework refuses: an unknown path, another method."""
    if not isinstance(error, HTTPException):
        raise error
    headers = dict(error.headers or {})
    if error.status_code == 405:
        headers["Allow"] = allow(headers.get("Allow", ""))
        if request.method == "OPTIONS":
            return Response(status_code=204, headers={"Allow": headers["Allow"]})
    refused = RefusedError(error.status_code, error.detail, action="See /docs", headers=headers)
    return error_response(refused, request_id=request.state.request_id)
