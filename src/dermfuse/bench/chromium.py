"""Chromium with the app open, driven through ``web/e2e/bench.mjs``."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermfuse.errors import DependencyError
from dermfuse.web.build import SOURCE

Times = Mapping[str, float]
"""Milliseconds of an analysis: decode, classes, masks, rest, total, and until it is shown."""


def find_chromium() -> str:
    """Returns the path of the browser: ``chromium``, or what DERMFUSE_CHROMIUM names.

    Raises:
        DependencyError: There is none.
    """
    name = os.environ.get("DERMFUSE_CHROMIUM", "chromium")
    path = shutil.which(name)
    if path is None:
        raise DependencyError(
            f"{name} is not installed",
            expected="Chromium",
            action="Install it from your system's packages, or name it in DERMFUSE_CHROMIUM",
        )
    return path


@dataclass(frozen=True, slots=True)
class Tab:
    """The app in a browser that has analysed an image.

    Args:
        process: The driver.
        first_results: Seconds from asking for the page to the first result, of browsers before
            this one.
        version: Of the browser.
        threads: That the app uses.
    """

    process: subprocess.Popen[str]
    first_results: tuple[float, ...]
    version: str
    threads: int

    def analyze_all(self) -> list[Times]:
        """Lets the app analyse all images, and returns the times of each."""
        if self.process.stdin is None:
            raise ValueError("the driver takes no orders")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        times: list[Times] = _read(self.process)
        return times


@contextmanager
def open_app(url: str, images: Sequence[Path], *, starts: int, plan: Path) -> Iterator[Tab]:
    """Yields the app in a browser, and closes it.

    Args:
        url: Where it is served.
        images: That it will analyse.
        starts: Browsers before that one, whose first result is timed.
        plan: A file for what the driver is told.

    Raises:
        DependencyError: The browser or Node.js is missing, or the driver fails.
    """
    content = {"url": url, "chromium": find_chromium(), "files": [str(each) for each in images]}
    plan.write_text(json.dumps(content | {"starts": starts}), encoding="utf-8")
    command = ["node", str(SOURCE / "e2e" / "bench.mjs"), str(plan)]
    with subprocess.Popen(  # noqa: S603 — our own script; it ends when nobody speaks to it
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = tuple(_read(process) / 1000 for _ in range(starts))
        ready = _read(process)
        yield Tab(process, first, ready["version"], ready["threads"])


def _read(process: "subprocess.Popen[str]") -> Any:  # noqa: ANN401 — a JSON value
    """Returns the next line of the driver as a JSON value."""
    line = process.stdout.readline() if process.stdout else ""
    if not line:
        said = process.stderr.read().strip().splitlines() if process.stderr else []
        raise DependencyError(
            f"the browser could not be driven ({' '.join(said[:3]) or 'no message'})",
            expected="a browser that opens the app",
            action="Try: make browser",
        )
    return json.loads(line)
