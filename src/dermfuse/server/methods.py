"""What HTTP asks of every address: HEAD where there is GET, OPTIONS, and a true Allow."""

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send


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
