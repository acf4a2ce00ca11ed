"""The programs that the tests in a real browser need."""

import os
import shutil

import pytest


def browser_tool(name: str) -> str:
    """Returns the path of a program; skips the test where it is not installed."""
    path = shutil.which(os.environ.get(f"DERMFUSE_{name.upper()}", name))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path
