from pathlib import Path

import pytest

from dermfuse.web.build import compile_app

from .browsers import browser_tool


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app without networks."""
    for name in ("node", "npm", "chromium"):
        browser_tool(name)
    folder = tmp_path_factory.mktemp("compiled")
    compile_app(folder)
    return folder
