"""Where a proxy shows the server."""

from starlette.types import ASGIApp, Receive, Scope, Send


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
