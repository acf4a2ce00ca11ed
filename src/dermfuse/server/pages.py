"""The pages that the server draws itself; nothing in them comes from elsewhere.

The folder of the browser app, served as browsers need it.
"""

import os
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.exceptions import HTTPException
from starlette.responses import RedirectResponse, Response
from starlette.staticfiles import PathLike, StaticFiles
from starlette.types import Receive, Scope, Send

from dermfuse import __version__
from dermfuse.errors import ConfigError
from dermfuse.report.page import template


def render_home(release: str) -> str:
    """Returns the page of a server that has no browser app.

    Args:
        release: Name of the release.
    """
    return template("server", "home.html").render(version=__version__, release=release)


def render_reference(schema: dict[str, Any]) -> str:
    """Returns what an OpenAPI document says as a page.

    Args:
        schema: The document.
    """
    operations = [
        {"path": path, "method": method.upper(), **operation}
        for path, methods in schema["paths"].items()
        for method, operation in methods.items()
    ]
    return template("server", "reference.html").render(version=__version__, operations=operations)


TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".ico": "image/x-icon",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".mjs": "text/javascript; charset=utf-8",
    ".onnx": "application/octet-stream",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
"""By suffix; a machine's own table may be missing or wrong."""

_ALLOW = {"Allow": "GET"}
_HASHED = "/assets/"  # Vite writes a digest into the names of what lies here
_FOREVER = "public, max-age=31536000, immutable"
_ASK_AGAIN = "no-cache"


class BrowserApp(StaticFiles):
    """The files of ``dermfuse web build``.

    Args:
        folder: Where they lie.

    Raises:
        ConfigError: The folder holds no app.
    """

    def __init__(self, folder: Path) -> None:
        if not (folder / "index.html").is_file():
            raise ConfigError(
                f"{folder} holds no index.html",
                expected="the folder of a built browser app",
                action="Check --app",
            )
        super().__init__(directory=folder, html=True)
        self.path = "/"  # the route that the log and the counts name

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        scope["route"] = self
        await super().__call__(scope, receive, send)

    async def get_response(self, path: str, scope: Scope) -> Response:
        """Returns a file; 405 for a method that no file knows, 404 where there is none.

        A folder without its trailing slash is redirected to by a relative address: the host that
        a client names may be another's.
        """
        is_read = scope["method"] in ("GET", "HEAD")
        response = await super().get_response(
            path, scope if is_read else {**scope, "method": "GET"}
        )
        if not is_read:
            raise HTTPException(404 if response.status_code == 404 else 405, headers=_ALLOW)
        if isinstance(response, RedirectResponse):
            name = quote(scope["path"].rpartition("/")[2])
            response.headers["Location"] = f"./{name}/"
        return response

    def file_response(
        self,
        full_path: PathLike,
        stat_result: os.stat_result,
        scope: Scope,
        status_code: int = 200,
    ) -> Response:
        """Returns a file with its type, and with how long a browser may keep it."""
        response = super().file_response(full_path, stat_result, scope, status_code)
        known = TYPES.get(Path(full_path).suffix.lower())
        if known and response.status_code != 304:
            response.headers["Content-Type"] = known
        is_hashed = scope["path"].removeprefix(scope.get("root_path", "")).startswith(_HASHED)
        response.headers["Cache-Control"] = _FOREVER if is_hashed else _ASK_AGAIN
        return response
