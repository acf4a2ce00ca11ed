"""Paths in, a results folder out: the Analyzer over many images."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.cluster import connect
from dermfuse.analysis.folder import (
    FolderOptions,
    FolderOutcome,
    Step,
    run_folder,
)
from dermfuse.analysis.isolation import PATIENT_SECONDS, DecoderLimits, Decoders
from dermfuse.analysis.lines import LineSource
from dermfuse.analysis.sources import expand
from dermfuse.analysis.summaries import Pictures, summarize_with
from dermfuse.analysis.threaded import in_threads
from dermfuse.errors import ConfigError
from dermfuse.looks import describe_looks, describe_other_looks
from dermfuse.release.operating import Rate
from dermfuse.words import MISSED


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOptions:
    """What is written for each image, where it is analysed, and how fast.

    Args:
        threads: Images that are analysed at the same time. None is one; with ``ray``, one per
            processor that Ray has.
        report: Whether the HTML report, with a thumbnail of each image, is written.
        overlays: Whether the outline and the activation map are written over each image, as PNG
            files in ``overlays/``.
        masks: Whether each lesion's mask is written, 0 and 255 at the image's size, as a PNG file
            in ``masks/``.
        resume: Whether a results folder may exist and is gone on with.
        ray: Address of the Ray that analyses: ``local`` starts one, ``auto`` and ``HOST:PORT`` are
            clusters, whose nodes must see the images under the same paths. None analyses in
            threads of this process.

    Raises:
        ConfigError: ``overlays`` or ``masks`` with ``ray``: the workers do not write into the
            folder.
    """

    threads: int | None = None
    report: bool = True
    overlays: bool = False
    masks: bool = False
    resume: bool = True
    ray: str | None = None

    def __post_init__(self) -> None:
        if (self.overlays or self.masks) and self.ray is not None:
            raise ConfigError(
                f"{'overlays' if self.overlays else 'masks'} are asked for, and Ray",
                expected="one of them: workers do not write into the results folder",
                action="Leave out one, or draw those of chosen images in a second call",
            )


def analyze_paths(
    analyzer: Analyzer,
    paths: Sequence[str | Path],
    out: str | Path,
    *,
    options: BulkOptions | None = None,
    progress: Callable[[Step], None] | None = None,
) -> FolderOutcome:
    """Analyses files, folders and lists and leaves what was found in a results folder.

    Args:
        analyzer: With one thread per image, as the images are spread over threads here.
        paths: Files, folders, lists, or ``-`` for standard input.
        out: The results folder; see ``dermfuse.analysis.folder``.
        options: What is written, and where the work is done.
        progress: Told of every image, in order.

    Raises:
        DataError: Nothing is given, or a path does not exist or holds no image.
        ConfigError: No Ray answers at the address.
        DependencyError: Ray is asked for and not installed.
        RunError: As for ``run_folder``; or Ray's workers cannot go on.
        StorageError: The folder cannot be written.
    """
    out = Path(out)
    options = options or BulkOptions()
    items = expand(paths, skip=out)

    with _lines(analyzer, out, options) as lines:
        return run_folder(
            items,
            lines,
            out,
            options=FolderOptions(
                identity={
                    **identity(analyzer),
                    "overlays": options.overlays,
                    "masks": options.masks,
                },
                resume=options.resume,
                report=options.report,
                facts=_facts(analyzer),
            ),
            progress=progress,
            finish=_pictures(out, options).keep,
        )


def _pictures(out: Path, options: BulkOptions) -> Pictures:
    return Pictures(out, overlays=options.overlays, masks=options.masks)


def identity(analyzer: Analyzer) -> dict[str, Any]:
    """Returns what a result depends on besides its image."""
    return {
        "release": analyzer.release.name,
        "networks": analyzer.digests,
        "operating_point": analyzer.operating_point.name,
        "looks": analyzer.looks,
        "score_all": analyzer.score_all,
    }


@contextmanager
def _lines(analyzer: Analyzer, out: Path, options: BulkOptions) -> Iterator[LineSource]:
    """Yields where the lines come from: threads here, or the workers of a Ray meanwhile."""
    if options.ray is None:
        summarize = summarize_with(
            analyzer, thumbnail=options.report, pictures=_pictures(out, options)
        )
        threads = 1 if options.threads is None else options.threads
        with _own_decoders(analyzer, threads) as decoders:
            yield in_threads(summarize, threads=threads, read=decoders.read)
        return
    with connect(options.ray, workers=options.threads) as workers:
        from dermfuse.analysis.distributed import (  # noqa: PLC0415 — used with Ray alone
            analyze_of,
            from_workers,
        )

        yield from_workers(
            analyze_of(analyzer, thumbnail=options.report),
            workers=workers,
            max_pixels=analyzer.max_pixels,
        )


@contextmanager
def _own_decoders(analyzer: Analyzer, count: int) -> Iterator[Decoders]:
    """Yields the processes that decode for an analyzer; if it has none, so many meanwhile."""
    if analyzer.decoders is not None:
        yield analyzer.decoders
        return
    limits = DecoderLimits(max_pixels=analyzer.max_pixels, seconds=PATIENT_SECONDS)
    with Decoders(count, limits=limits) as decoders:
        decoders.start(count)
        yield decoders


def _facts(analyzer: Analyzer) -> dict[str, str]:
    point = analyzer.operating_point
    missed = analyzer.release.classes.sensitivity_with_missed(point)
    other = describe_other_looks(analyzer.looks, measured=analyzer.release.looks)
    return {
        "Release": analyzer.release.name,
        "Looks": other or f"Each network looks at {describe_looks(analyzer.looks)} of an image",
        "Operating point": (
            f"{point.name}: malignant from {point.threshold:.3f} on; sensitivity "
            f"{_rate(point.sensitivity)}, specificity {_rate(point.specificity)}"
            + (f"; sensitivity {_rate(missed)}, {MISSED}" if missed else "")
        ),
    }


def _rate(rate: Rate) -> str:
    return f"{rate.value:.2f} ({rate.low:.2f} to {rate.high:.2f})"
