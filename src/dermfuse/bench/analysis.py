"""How fast dermfuse analyses here, beside eager float32 PyTorch doing the same work.

| | dermfuse | plain |
|---|---|---|
| networks | ONNX Runtime, in the release's precision | PyTorch modules in float32, random weights |
| files | decoded once by Pillow | the same |
| input | bytes; scaling lies in the graph | a float tensor of each square |
| masks | maps of one size added, then resized once by Pillow | each resized by torch, then added |
| measures, quality, appearance | ``dermfuse.analysis`` | the same code: it is not compared |

Since the measures are shared, the ratio is told with them and without. Both sides use as many
threads, and take turns, block by block, so that whatever else the machine does slows both.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths
from dermfuse.analysis.isolation import PATIENT_SECONDS, DecoderLimits, Decoders
from dermfuse.bench import Comparison
from dermfuse.bench.drawn import describe_drawn, draw_files, read_files, write_files
from dermfuse.bench.fresh import measure_cold_start
from dermfuse.bench.machine import describe_machine
from dermfuse.bench.reports import AnalysisReport, ThreadReport, name_precisions
from dermfuse.bench.rounds import count_rounds, require_counts, take_rounds
from dermfuse.bench.sides import build_tasks, torch_threads
from dermfuse.errors import installing
from dermfuse.imaging.symmetries import Looks, check_looks
from dermfuse.release.folder import choose_release, read_cards, read_release

THREADS = (1, 2)
"""That one image may use, and that a folder is analysed by; each is measured."""

_MOST = 100_000


@dataclass(frozen=True, slots=True)
class AnalysisOptions:
    """How much is measured.

    Args:
        looks: At how many orientations of an image each network looks, on both sides; as many as
            the release was measured with if None.
        images: Of ``data`` the first so many; else so many are drawn.
        rounds: How often each side does all of them.
        plain: Whether PyTorch is measured beside, if it is installed.
        folder_images: Files of the folder that is analysed by one thread and by two.
        starts: New processes whose median is taken.
        later_images: Analyses after which memory is read again.
    """

    looks: int | None = None
    images: int = 10
    rounds: int = 10
    plain: bool = True
    folder_images: int = 24
    starts: int = 5
    later_images: int = 50

    def __post_init__(self) -> None:
        if self.looks is not None:
            check_looks(self.looks)
        require_counts(
            _MOST,
            images=self.images,
            rounds=self.rounds,
            folder_images=self.folder_images,
            starts=self.starts,
            later_images=self.later_images,
        )


def bench_analysis(
    release: str | Path | None = None,
    *,
    data: str | Path | None = None,
    options: AnalysisOptions | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AnalysisReport:
    """Measures how long an analysis takes, a score alone, a new process, and a folder.

    Args:
        release: A release folder; the networks that are part of the package if left out.
        data: An image or a folder of them; None draws synthetic ones.
        options: How much is measured.
        progress: Called with (done, all) rounds.

    Raises:
        ReleaseError: The release cannot be used.
        DataError: There are no images in ``data``.
        ImageError: One of them cannot be read.
        ConfigError: A count is out of range, or PyTorch cannot build a network of the release.
    """
    release = None if release is None else Path(release)
    data = None if data is None else Path(data)
    options = options or AnalysisOptions()
    folder = choose_release(release)
    found = read_release(folder)
    looks = check_looks(found.looks if options.looks is None else options.looks)
    cards = read_cards(folder, found)
    files = draw_files(options.images) if data is None else read_files(data, options.images)
    with_torch = options.plain and find_spec("torch") is not None
    advance = count_rounds(progress, (len(THREADS) + 1) * options.rounds)
    by_threads = tuple(
        _time_images(folder, files, threads, looks, options.rounds, advance, with_torch=with_torch)
        for threads in THREADS
    )
    with tempfile.TemporaryDirectory(prefix="dermfuse-bench-") as temporary:
        images = write_files(Path(temporary) / "images", files, options.folder_images)
        cold_start = measure_cold_start(
            folder,
            next(images.iterdir()),
            looks=looks,
            starts=options.starts,
            later_images=options.later_images,
        )
        throughput = _time_folder(folder, images, Path(temporary), options, advance)
    return AnalysisReport(
        release=found.name,
        networks=tuple(f"{card.name} ({card.input.size} px)" for card in cards),
        precision=name_precisions(cards),
        looks=looks,
        data=describe_drawn(len(files)) if data is None else str(data),
        images=len(files),
        rounds=options.rounds,
        by_threads=by_threads,
        cold_start=cold_start,
        folder=throughput,
        folder_images=options.folder_images,
        plain_left_out="" if with_torch else _why_left_out(options),
        machine=describe_machine(with_torch=with_torch),
    )


def _time_images(
    folder: Path,
    files: Sequence[bytes],
    threads: int,
    looks: Looks,
    rounds: int,
    advance: Callable[[], None],
    *,
    with_torch: bool,
) -> ThreadReport:
    with torch_threads(threads, with_torch=with_torch):
        tasks = build_tasks(folder, looks=looks, threads=threads, with_torch=with_torch)
        clocks = take_rounds(tasks, files, rounds=rounds, progress=advance)
    return ThreadReport.from_clocks(threads, clocks)


def _time_folder(
    folder: Path,
    images: Path,
    temporary: Path,
    options: AnalysisOptions,
    advance: Callable[[], None],
) -> Comparison:
    """Returns the images per second of two threads beside those of one; they take turns."""
    decoders = Decoders(
        max(THREADS), limits=DecoderLimits(seconds=PATIENT_SECONDS)
    )  # as the command has them
    analyzer = Analyzer(folder, looks=options.looks, isolate=decoders)
    rates: dict[int, list[float]] = {threads: [] for threads in THREADS}
    for number in range(options.rounds):
        for threads in THREADS:
            out = temporary / f"out-{number}-{threads}"
            how = BulkOptions(threads=threads, report=False)
            start = time.perf_counter()
            outcome = analyze_paths(analyzer, [images], out, options=how)
            rates[threads].append(outcome.analysed / (time.perf_counter() - start))
        advance()
    one, two = (rates[threads] for threads in THREADS)
    return Comparison.from_rates(two, one)


def _why_left_out(options: AnalysisOptions) -> str:
    if not options.plain:
        return "it was not asked for"
    return f"it is not installed here. {installing('train')}"
