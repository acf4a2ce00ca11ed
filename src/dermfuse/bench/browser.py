"""How fast the browser app analyses here, beside the library on the same images.

Chromium runs without a window. It and the library take turns, a block of images each, so that
whatever else the machine does slows both; both use as many threads. The app is asked twice: with
the headers that let it use threads, and as on a first visit to a host that does not send them.
"""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.bench import Comparison
from dermfuse.bench.chromium import find_chromium, open_app
from dermfuse.bench.drawn import describe_drawn, draw_files, write_files
from dermfuse.bench.machine import Machine, describe_machine
from dermfuse.bench.reports import name_precisions, ratios_of
from dermfuse.bench.rounds import Clock, count_rounds, require_counts, take_rounds
from dermfuse.release.folder import choose_release, read_cards, read_release
from dermfuse.report.page import markdown_table
from dermfuse.web.build import build_web
from dermfuse.web.hosting import host_folder


@dataclass(frozen=True, slots=True)
class Part:
    """What is timed.

    Args:
        words: What it is called.
        times: The app's own times that it adds up.
    """

    words: str
    times: tuple[str, ...]


PARTS: Mapping[str, Part] = {
    "score": Part("decoding and class networks", ("decode", "classes")),
    "analysis": Part("everything", ("total",)),
    "shown": Part("until it is shown", ("shown",)),
}
"""What is told of the app, by name."""

_MOST = 10_000


@dataclass(frozen=True, slots=True)
class BrowserOptions:
    """How much is measured.

    Args:
        images: So many are drawn.
        rounds: How often either side does all of them.
        starts: New browsers whose first result is timed.
    """

    images: int = 5
    rounds: int = 8
    starts: int = 5

    def __post_init__(self) -> None:
        require_counts(_MOST, images=self.images, rounds=self.rounds, starts=self.starts)


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserSide:
    """What was measured with or without the headers that isolate the page.

    Args:
        isolated: Whether they were sent.
        threads: That the app used, and the library.
        first_result_seconds: From asking for the page, nothing kept, to the first result.
        clocks: Of each of ``PARTS``: decoding and class networks; everything; until it is shown.
        score: The app beside ``Analyzer.score``.
        analysis: The app beside ``Analyzer.analyze``.
    """

    isolated: bool
    threads: int
    first_result_seconds: tuple[float, ...]
    clocks: Mapping[str, Clock]
    score: Comparison
    analysis: Comparison

    @property
    def beside_library(self) -> Mapping[str, Comparison]:
        """What the library does as well, in words, and how fast the app is beside it."""
        return {"score": self.score, "full analysis": self.analysis}

    def to_dict(self) -> dict[str, Any]:
        """Returns flat JSON values."""
        record: dict[str, Any] = {
            "isolated": self.isolated,
            "threads": self.threads,
            "first_result_seconds": round(statistics.median(self.first_result_seconds), 2),
            "first_result_seconds_longest": round(max(self.first_result_seconds), 2),
        }
        for name, clock in self.clocks.items():
            latency = clock.latency
            record[f"{name}_ms"] = round(latency.milliseconds, 1)
            record[f"{name}_ms_percentile_90"] = round(latency.percentile_90, 1)
        return record | ratios_of(self.score, "score") | ratios_of(self.analysis, "analysis")


@dataclass(frozen=True, slots=True, kw_only=True)
class BrowserReport:
    """What was measured, and on what.

    Args:
        release: Its name.
        precision: Of its networks.
        data: The images.
        images: How many.
        rounds: How often either side did all of them.
        starts: New browsers.
        browser: Chromium's version.
        app_bytes: Of all files of the app, not compressed.
        download_bytes: That the server sent for a first visit with one analysis, service worker
            included; not compressed either.
        sides: Isolated, and not.
        machine: What this was measured on.
    """

    release: str
    precision: str
    data: str
    images: int
    rounds: int
    starts: int
    browser: str
    app_bytes: int
    download_bytes: int
    sides: tuple[BrowserSide, ...]
    machine: Machine

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        record = {name: getattr(self, name) for name in self.__slots__}
        return record | {
            "sides": [side.to_dict() for side in self.sides],
            "machine": asdict(self.machine),
        }


def bench_browser(
    release: str | Path | None = None,
    *,
    options: BrowserOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> BrowserReport:
    """Builds the app, serves it and times it in Chromium, beside the library.

    DERMFUSE_CHROMIUM names the browser where it is not called chromium.

    Args:
        release: A release folder; the networks that are part of the package if left out.
        options: How much is measured.
        progress: Called with (done, all) rounds.

    Raises:
        ReleaseError: The release cannot be used.
        DependencyError: Node.js, the app's source or the browser is missing, or fails.
        ConfigError: A count is out of range.
    """
    release = None if release is None else Path(release)
    options = options or BrowserOptions()
    folder = choose_release(release)
    found = read_release(folder)
    precision = name_precisions(read_cards(folder, found))
    find_chromium()
    files = draw_files(options.images)
    advance = count_rounds(progress, 2 * options.rounds)
    with tempfile.TemporaryDirectory(prefix="dermfuse-bench-") as temporary:
        work = Path(temporary)
        app = build_web(work / "app", release=folder)
        write_files(work / "images", files, len(files))
        isolated, plain = (
            _measure(folder, files, work, isolated=each, options=options, advance=advance)
            for each in (True, False)
        )
    return BrowserReport(
        release=found.name,
        precision=precision,
        data=describe_drawn(options.images),
        images=options.images,
        rounds=options.rounds,
        starts=options.starts,
        browser=isolated.browser,
        app_bytes=app.bytes,
        download_bytes=isolated.download_bytes,
        sides=(isolated.side, plain.side),
        machine=describe_machine(with_torch=False),
    )


def render_browser(report: BrowserReport) -> str:
    """Returns the app's size and its speed beside the library's as a table in Markdown."""
    rows = [
        ("download, once, not compressed", f"{report.download_bytes / 1e6:.1f} MB"),
        *(
            (f"{words}, {_threads(side.threads)}", _times_as_long(found))
            for side in report.sides
            for words, found in side.beside_library.items()
        ),
    ]
    machine = report.machine
    note = (
        f"{report.release}, {report.precision}, in Chromium {report.browser}, beside the library "
        f"with as many threads; {report.data}, {report.rounds} rounds in turns, smallest and "
        f"largest ratio of a round. Measured on a CPU ({machine.cpu}, {machine.cores} logical "
        f"cores). The download is what the server sent for a first visit with one analysis, "
        f"the app's files for use without a connection included. Written by `dermfuse bench "
        f"browser`."
    )
    return f"{markdown_table(('browser app', 'measured'), rows)}\n\n{note}"


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"


def _times_as_long(found: Comparison) -> str:
    low, high = 1 / found.highest_ratio, 1 / found.lowest_ratio
    return f"{1 / found.ratio:.1f} times the library's time ({low:.1f} to {high:.1f})"


@dataclass(frozen=True, slots=True)
class _Driven:
    side: BrowserSide
    browser: str
    download_bytes: int


def _measure(
    folder: Path,
    files: Sequence[bytes],
    work: Path,
    *,
    isolated: bool,
    options: BrowserOptions,
    advance: Callable[[], None],
) -> _Driven:
    """Returns what the app does, served in one of two ways, beside the library."""
    paths = sorted((work / "images").iterdir())
    with (
        host_folder(work / "app", isolated=isolated) as host,
        open_app(host.url, paths, starts=options.starts, plan=work / "plan.json") as tab,
    ):
        download = host.sent_bytes // (options.starts + 1)
        analyzer = Analyzer(folder, threads=tab.threads, score_all=True)
        tasks = {"score": analyzer.score, "analysis": analyzer.analyze}
        library = {name: Clock() for name in tasks}
        app_clocks = {name: Clock() for name in PARTS}
        for _ in range(options.rounds):
            for name, clock in take_rounds(tasks, files, rounds=1).items():
                library[name].blocks += clock.blocks
            times = tab.analyze_all()
            for name, part in PARTS.items():
                seconds = [sum(each[time] for time in part.times) / 1000 for each in times]
                app_clocks[name].blocks.append(seconds)
            advance()
    side = BrowserSide(
        isolated=isolated,
        threads=tab.threads,
        first_result_seconds=tab.first_results,
        clocks=app_clocks,
        **{
            name: Comparison.from_rates(app_clocks[name].rates, library[name].rates)
            for name in tasks
        },
    )
    return _Driven(side, tab.version, download)
