"""How fast the browser app analyses, beside the library on the same images; how much it loads.

Chromium runs without a window. It and the library take turns, a block of images each, and use as
many threads. The app is measured twice: with the headers that let it use threads, and as on a first
visit to a host that does not send them.
"""

import json
import os
import shutil
import statistics
import subprocess
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hosting import host_folder
from benchmarks.turns import (
    Blocks,
    compare,
    describe_drawn,
    describe_machine,
    draw_files,
    latency,
    name_precisions,
    rates,
    require_counts,
    take_turns,
    write_files,
)
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.errors import DependencyError
from dermfuse.release.folder import choose_release, read_cards, read_release
from dermfuse.report.page import markdown_table
from dermfuse.web.build import SOURCE, build_web

PARTS: Mapping[str, tuple[str, ...]] = {
    "score": ("decode", "classes"),
    "analysis": ("total",),
    "shown": ("shown",),
}
"""What is timed of the app, and which of its own times each adds up."""
BESIDE = {"score": "score", "analysis": "full analysis"}
"""What the library does as well, in words."""


def bench_browser(
    release: Path | None = None, *, images: int = 5, rounds: int = 8, starts: int = 5
) -> dict[str, Any]:
    """Builds the app, serves it and times it in Chromium, beside the library; returns JSON values.

    DERMFUSE_CHROMIUM names the browser where it is not called chromium.

    Args:
        release: A release folder; the networks of the package if left out.
        images: How many are drawn.
        rounds: How often either side does all of them.
        starts: New browsers whose first result is timed.

    Raises:
        ReleaseError: The release cannot be used.
        DependencyError: Node.js, the app's source or the browser is missing, or fails.
        ConfigError: A count is out of range.
    """
    require_counts(images=images, rounds=rounds, starts=starts)
    folder = choose_release(release)
    found = read_release(folder)
    find_chromium()
    files = draw_files(images)
    with tempfile.TemporaryDirectory(prefix="dermfuse-bench-") as temporary:
        work = Path(temporary)
        app = build_web(work / "app", release=folder)
        paths = write_files(work / "images", files, images)
        sides = [
            _measure(folder, files, paths, work, isolated=isolated, rounds=rounds, starts=starts)
            for isolated in (True, False)
        ]
    return {
        "release": found.name,
        "precision": name_precisions(read_cards(folder, found)),
        "data": describe_drawn(images),
        "images": images,
        "rounds": rounds,
        "starts": starts,
        "app_bytes": app.bytes,
        "sides": sides,
        "machine": describe_machine("onnxruntime"),
    }


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


def render_browser(report: Mapping[str, Any]) -> str:
    """Returns the app's size and its speed beside the library's as a table in Markdown."""
    first, machine = report["sides"][0], report["machine"]
    rows = [
        ("download, once, not compressed", f"{first['download_bytes'] / 1e6:.1f} MB"),
        *(
            (f"{words}, {_threads(side['threads'])}", _times_as_long(side, name))
            for side in report["sides"]
            for name, words in BESIDE.items()
        ),
    ]
    note = (
        f"{report['release']}, {report['precision']}, in Chromium {first['browser']}, beside the "
        f"library with as many threads; {report['data']}, {report['rounds']} rounds in turns, "
        f"smallest and largest ratio of a round. Measured on a CPU ({machine['cpu']}, "
        f"{machine['cores']} logical cores). The download is what the server sent for a first "
        f"visit with one analysis, the app's files for use without a connection included. Written "
        f"by `python -m benchmarks browser`."
    )
    return f"{markdown_table(('browser app', 'measured'), rows)}\n\n{note}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _times_as_long(side: Mapping[str, float], name: str) -> str:
    low, high = 1 / side[f"{name}_ratio_highest"], 1 / side[f"{name}_ratio_lowest"]
    middle = 1 / side[f"{name}_ratio"]
    return f"{middle:.1f} times the library's time ({low:.1f} to {high:.1f})"


def _measure(
    folder: Path,
    files: Sequence[bytes],
    paths: Sequence[Path],
    work: Path,
    *,
    isolated: bool,
    rounds: int,
    starts: int,
) -> dict[str, Any]:
    """Returns what the app does, served in one of two ways, beside the library."""
    with (
        host_folder(work / "app", isolated=isolated) as host,
        _open_app(host.url, paths, starts=starts, plan=work / "plan.json") as tab,
    ):
        sent = host.sent_bytes // (starts + 1)
        analyzer = Analyzer(folder, threads=tab.threads, score_all=True)
        tasks = {"score": analyzer.score, "analysis": analyzer.analyze}
        library: dict[str, Blocks] = {name: [] for name in tasks}
        app: dict[str, Blocks] = {name: [] for name in PARTS}
        for _ in range(rounds):
            for name, blocks in take_turns(tasks, files, rounds=1).items():
                library[name] += blocks
            times = tab.analyze_all()
            for name, parts in PARTS.items():
                app[name].append([sum(each[part] for part in parts) / 1000 for each in times])
    record: dict[str, Any] = {
        "isolated": isolated,
        "threads": tab.threads,
        "browser": tab.version,
        "download_bytes": sent,
        "first_result_seconds": round(statistics.median(tab.first_results), 2),
        "first_result_seconds_longest": round(max(tab.first_results), 2),
    }
    for name, blocks in app.items():
        record |= latency(blocks, name)
    for name in tasks:
        record |= compare(rates(app[name]), rates(library[name]), name)
    return record


@dataclass(frozen=True, slots=True)
class _Tab:
    """The app in a browser that has analysed an image, driven through ``web/e2e/bench.mjs``."""

    process: subprocess.Popen[str]
    first_results: tuple[float, ...]
    version: str
    threads: int

    def analyze_all(self) -> list[Mapping[str, float]]:
        """Has the app analyse all images, and returns the milliseconds of each by part."""
        if self.process.stdin is None:
            raise ValueError("the driver takes no orders")
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        times: list[Mapping[str, float]] = _read(self.process)
        return times


@contextmanager
def _open_app(url: str, images: Sequence[Path], *, starts: int, plan: Path) -> Iterator[_Tab]:
    """Yields the app in a browser, after the first results of others, and closes it."""
    content = {"url": url, "chromium": find_chromium(), "files": [str(each) for each in images]}
    plan.write_text(json.dumps(content | {"starts": starts}), encoding="utf-8")
    command = ["node", str(SOURCE / "e2e" / "bench.mjs"), str(plan)]
    with subprocess.Popen(  # noqa: S603 — our own script; it ends when nobody speaks to it
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        first = tuple(_read(process) / 1000 for _ in range(starts))
        ready = _read(process)
        yield _Tab(process, first, ready["version"], ready["threads"])


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
