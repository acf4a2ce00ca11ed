"""Paths in, a results folder out: the Analyzer over many images.

Many images to one results folder: in order, in parallel, resumable, in flat memory.

    analysis.json     what made the results: release, settings
    results.jsonl     one line per image, in the order they were given
    results.csv       the same, flat, what is withheld first
    errors.csv        what could not be analysed, and why (only if something failed)
    report.html       the same for a reader; report-2.html and so on beyond 1,000 images

A call that finds the folder goes on with it: images that are done and have not changed are not
analysed again, nor are those that ended their decoder; others that failed are tried once more.
What a killed call has left unfinished is removed, and so are report pages that no longer belong
to the results.

Lines from the threads of this process.
"""

import json
from array import array
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.inputs import Item, expand
from dermfuse.analysis.isolation import PATIENT_SECONDS, DecoderLimits, Decoders
from dermfuse.analysis.journal import Journal, parse_line
from dermfuse.analysis.ray import connect
from dermfuse.analysis.tables import (
    Analyze,
    LineSource,
    Pictures,
    Work,
    file_facts,
    make_line,
    plain,
    remove_pages,
    summarize_with,
    survey,
    write_report,
    write_sheets,
)
from dermfuse.errors import ConfigError, DermfuseError, RunError
from dermfuse.folders import (
    NOTICE,
    environment,
    new_folder,
    read_json,
    require_free,
    sweep_unfinished,
    write_json,
)
from dermfuse.imaging.reading import Read, read_any
from dermfuse.imaging.symmetries import describe_looks, describe_other_looks
from dermfuse.report.words import MISSED

FORMAT = 2
"""From 2 on nothing is said about the lesion of an image that is withheld."""
MANIFEST_NAME = "analysis.json"
RESULTS_NAME = "results.jsonl"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_NEW = -1  # no line's offset

State = Literal["analysed", "reused", "failed"]


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """How a folder is worked through.

    Args:
        identity: What a result depends on besides its image, as JSON values: the release's
            sha256, the operating point, the looks. A folder made with another one is refused.
        resume: Whether a results folder may exist and is gone on with.
        report: Whether the HTML report is written.
        facts: More for the report's foot, name to value.
    """

    identity: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    resume: bool = True
    report: bool = True
    facts: Mapping[str, str] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Step:
    """One image that is through, told while the work goes on.

    Attributes:
        name: Of the image.
        state: What became of it.
        error: Why it failed, in one line.
    """

    name: str
    state: State
    error: str = ""


@dataclass(frozen=True, slots=True)
class FolderOutcome:
    """What a call has left in a results folder.

    Attributes:
        folder: The results folder.
        analysed: Images analysed in this call.
        reused: Images that were done before and had not changed.
        failed: Images that could not be analysed.
        dropped: Earlier lines of images that changed, failed then, or are no longer given.
        malignant: Called malignant.
        benign: Called benign.
        withheld: Analysed and called neither.
        withheld_names: The first 100 of them: they need eyes first.
        errors: Names and reasons of the first 100 that failed; all stand in ``errors.csv``.
        pages: Of the report; 0 without one.
    """

    folder: Path
    analysed: int
    reused: int
    failed: int
    dropped: int
    malignant: int
    benign: int
    withheld: int
    withheld_names: tuple[str, ...]
    errors: tuple[tuple[str, str], ...]
    pages: int

    @property
    def exit_code(self) -> int:
        """0, or 3 if anything failed."""
        return 3 if self.failed else 0

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON object."""
        counts = {name: getattr(self, name) for name in self.__slots__}
        errors = [{"name": name, "error": error} for name, error in self.errors]
        return {**counts, "folder": str(self.folder), "errors": errors, "notice": NOTICE}


def run_folder(
    items: Iterable[Item],
    lines: LineSource,
    out: str | Path,
    *,
    options: FolderOptions | None = None,
    progress: Callable[[Step], None] | None = None,
    finish: Callable[[Iterator[Mapping[str, Any]]], object] | None = None,
) -> FolderOutcome:
    """Analyses images one after the other and leaves their results in a folder.

    A file that cannot be read, and a fault of the analysis itself, is recorded and the rest goes
    on. An interrupt leaves whole lines; the same call goes on after them.

    Args:
        items: The images, drawn as they are needed.
        lines: Makes the lines of those that are not done: ``threaded.in_threads``, or workers on
            other machines.
        out: The results folder.
        options: Resuming, report, and what identifies the analysis.
        progress: Told of every image, in order, from the calling thread.
        finish: Given every record at the end, while nobody else may write into the folder.

    Raises:
        RunError: The folder holds something else, was made by another release or with other
            settings, exists although ``resume`` is off, or is in use by another process.
        StorageError: It cannot be written.
    """
    out = Path(out)
    options = options or FolderOptions()
    _claim(out, options)
    counts: dict[State, int] = {"analysed": 0, "reused": 0, "failed": 0}
    offsets = array("q")
    with Journal(out / RESULTS_NAME) as journal:
        sweep_unfinished(out)  # the journal is locked: nobody else writes here
        with closing(_steps(items, lines, journal)) as steps:
            for offset, step in steps:
                offsets.append(offset)
                counts[step.state] += 1
                if progress is not None:
                    progress(step)
        journal.require_place()
        dropped = journal.arrange(offsets)
        found = survey(journal)
        write_sheets(journal, found, out)
        pages = 0
        if options.report:
            pages = write_report(journal, found, out, facts=options.facts)
        else:
            remove_pages(out, beyond=0)  # those of an earlier call tell of other results
        if finish is not None:
            finish(record for _, record in journal.records())
        journal.require_place()
    return FolderOutcome(
        folder=out, **counts, dropped=dropped, malignant=found.malignant, benign=found.benign,
        withheld=found.withheld, withheld_names=tuple(found.withheld_names),
        errors=tuple(found.errors), pages=pages,
    )  # fmt: skip


def read_results(folder: str | Path) -> Iterator[dict[str, Any]]:
    """Yields every line of a results folder: an image's record, or its ``error``.

    Raises:
        RunError: The folder holds no results, or a line of them is damaged or cut off.
    """
    folder = Path(folder)
    path = folder / RESULTS_NAME
    if not path.is_file():
        raise RunError(
            f"{folder} holds no results",
            expected=f"a folder with {RESULTS_NAME}",
            action="Write one with: dermfuse analyze ... --out",
        )
    with path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if (record := parse_line(line)) is None:
                raise RunError(
                    f"{path}, line {number} is damaged or cut off",
                    expected="a whole line for each image",
                    action="Call the same dermfuse analyze again: it keeps what is whole",
                )
            yield record


def _claim(out: Path, options: FolderOptions) -> None:
    """Makes a results folder, or makes sure that one belongs to this analysis."""
    manifest = out / MANIFEST_NAME
    identity = json.loads(json.dumps(dict(options.identity), default=plain))
    if not options.resume:
        require_free(out, what="results")
    if not manifest.is_file():
        new_folder(out, what="results")
        write_json(
            manifest,
            {"format": FORMAT, "identity": identity, "notice": NOTICE, **environment()},
        )
        return
    found = read_json(manifest)
    before = found.get("identity")
    if found.get("format") == FORMAT and before == identity:
        return
    before = before if isinstance(before, dict) else {}
    keys = dict.fromkeys([*identity, *before])
    differ = [f"{k} {before.get(k)!r}" for k in keys if before.get(k) != identity.get(k)]
    now = [f"{k} {identity.get(k)!r}" for k in keys if before.get(k) != identity.get(k)]
    raise RunError(
        f"{out} holds results made with {', '.join(differ) or 'another version of dermfuse'}",
        expected=f"the same release and settings as now: {', '.join(now) or f'format {FORMAT}'}",
        action="Choose another folder, or remove this one",
    )


def _steps(
    items: Iterable[Item], lines: LineSource, journal: Journal
) -> Generator[tuple[int, Step], None, None]:
    """Yields where each image's line begins, and what became of it, in the order of the items."""
    places: deque[int] = deque()  # of the images drawn so far: where the line lies, or _NEW

    def works() -> Iterator[Work]:
        for item in items:
            facts = file_facts(item)
            known = journal.find(item.name, facts)
            places.append(_NEW if known is None else known)
            if known is None:
                yield Work(item, facts)

    with closing(lines(works())) as made:
        for line in made:
            while (place := places.popleft()) != _NEW:
                yield place, _reused(journal, place)
            yield journal.append(line), _step(json.loads(line))
    for place in places:
        yield place, _reused(journal, place)


def _reused(journal: Journal, offset: int) -> Step:
    return _step(journal.read(offset), "reused")


def _step(record: Mapping[str, Any], state: State = "analysed") -> Step:
    error = record.get("error", "")
    return Step(record["name"], "failed" if error else state, error)


_WINDOW = 2  # images in flight per thread: the next ones wait read, no more


def in_threads(analyze: Analyze, *, threads: int = 1, read: Read = read_any) -> LineSource:
    """Returns a source of lines that reads and analyses images in threads of this process.

    Args:
        analyze: Takes pixels and a name; called from several threads at once.
        threads: How many; each holds one image.
        read: Takes a source and a name.

    Raises:
        DermfuseError: ``threads`` is below 1.
    """
    if threads < 1:
        raise DermfuseError(f"{threads} threads", expected="1 or more")

    def produce(works: Iterator[Work]) -> Generator[bytes, None, None]:
        waiting: deque[Future[bytes]] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="dermfuse-analysis")
        try:
            for work in works:
                waiting.append(pool.submit(make_line, work, analyze, read))
                if len(waiting) >= _WINDOW * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:  # an interrupt waits for the images in work, not for those in line
            pool.shutdown(wait=True, cancel_futures=True)

    return produce


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
        out: The results folder; see ``dermfuse.analysis.batch``.
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
        from dermfuse.analysis.ray import analyze_of, from_workers  # noqa: PLC0415 — used with Ray alone

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
            f"{point.sensitivity:.2f}, specificity {point.specificity:.2f}"
            + (f"; sensitivity {missed:.2f}, {MISSED}" if missed else "")
        ),
    }
