"""The app in a real browser: the programs that its tests need, and a script that drives it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dermfuse.web.build import compile_app

E2E = Path(__file__).parents[2] / "web" / "e2e"
MOST_SECONDS = 1800


def browser_tool(name: str) -> str:
    """The path of a program; the test is skipped where it is not installed."""
    path = shutil.which(os.environ.get(f"DERMFUSE_{name.upper()}", name))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def drive(script: str, work: Path, **plan: Any) -> dict[str, Any]:
    """Runs a script of ``web/e2e`` with a plan and returns what it found."""
    path = work / "plan.json"
    plan |= {"chromium": browser_tool("chromium"), "work": work}
    path.write_text(json.dumps(plan, default=str))
    done = subprocess.run(
        [browser_tool("node"), E2E / script, path],
        capture_output=True,
        text=True,
        check=False,
        timeout=MOST_SECONDS,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app without networks."""
    for name in ("node", "npm", "chromium"):
        browser_tool(name)
    folder = tmp_path_factory.mktemp("compiled")
    compile_app(folder)
    return folder
