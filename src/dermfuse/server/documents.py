"""The pages that the server draws itself; nothing in them comes from elsewhere."""

from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from dermfuse import __version__
from dermfuse.runs import NOTICE

_PAGES = Environment(
    loader=PackageLoader("dermfuse.server", "pages"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def render_home(release: str) -> str:
    """Returns the page of a server that has no browser app.

    Args:
        release: Name of the release.
    """
    return _PAGES.get_template("home.html").render(
        notice=NOTICE, version=__version__, release=release
    )


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
    return _PAGES.get_template("reference.html").render(
        notice=NOTICE, version=__version__, operations=operations
    )
