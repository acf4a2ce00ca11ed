"""Many images to one results folder: in order, in parallel, resumable, in flat memory.

    analysis.json     what made the results: release, settings
    results.jsonl     one line per image, in the order they were given
    results.csv       the same, flat, what is withheld first
    errors.csv        what could not be analysed, and why (only if something failed)
    report.html       the same for a reader; report-2.html and so on beyond 1,000 images
    overlays/, masks/ pictures of the images, if they are asked for

A call that finds the folder continues it: images that are done and have not changed are not
analysed again, nor are those that ended their decoder; others that failed are tried once more.
What a killed call has left unfinished is removed, and so are report pages that no longer belong
to the results.
"""

import json
from array import array
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.inputs import Item, expand
from dermfuse.analysis.isolation import Decoders
from dermfuse.analysis.journal import (
    Analyze,
    Journal,
    LineSource,
    Work,
    file_facts,
    make_line,
    parse_line,
)
from dermfuse.analysis.tables import Pictures, Tables, summarize_with
from dermfuse.errors import ConfigError, RunError
from dermfuse.imaging.reading import Read, read_any
from dermfuse.imaging.symmetries import describe_looks, describe_other_looks
from dermfuse.records.folders import (
    NOTICE,
    environment,
    new_folder,
    read_json,
    require_free,
    sweep_unfinished,
    write_json,
)
from dermfuse.report import MISSED

FORMAT = 2
"""From 2 on an image that is withheld has no outline and no measures."""
MANIFEST_NAME = "analysis.json"
RESULTS_NAME = "results.jsonl"
State = Literal["analysed", "reused", "failed"]
_WINDOW = 2  # images in flight per thread: the next ones wait read, no more


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
        resume: Whether a results folder may exist and is continued.
        ray: Address of the Ray that analyses: ``local`` starts one, ``auto`` and ``HOST:PORT`` are
            clusters, whose nodes must see the images under the same paths. None analyses in
            threads of this process.

    Raises:
        ConfigError: ``threads`` is below 1, or ``overlays`` or ``masks`` with ``ray``: the workers
            do not write into the folder.
    """

    threads: int | None = None
    report: bool = True
    overlays: bool = False
    masks: bool = False
    resume: bool = True
    ray: str | None = None

    def __post_init__(self) -> None:
        if self.threads is not None and self.threads < 1:
            raise ConfigError(f"threads is {self.threads}", expected="1 or more")
        if (self.overlays or self.masks) and self.ray is not None:
            raise ConfigError(
                f"{'overlays' if self.overlays else 'masks'} are asked for, and Ray",
                expected="one of them: workers do not write into the results folder",
                action="Leave out one, or draw those of chosen images in a second call",
            )


@dataclass(frozen=True, slots=True)
class Step:
    """One image that is through, reported while the work continues.

    Attributes:
        name: The image's name.
        state: What became of it.
        error: Why it failed, in one line.
    """

    name: str
    state: State
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
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
        pages: How many the report has; 0 without one.
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

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON object."""
        errors = [{"name": name, "error": error} for name, error in self.errors]
        return asdict(self) | {"folder": str(self.folder), "errors": errors, "notice": NOTICE}


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
        analyzer: Asked about each image; give it one thread, for images are spread over threads.
        paths: Files, folders, lists, or ``-`` for standard input.
        out: The results folder; see ``dermfuse.analysis.batch``.
        options: What is written, and where the work is done.
        progress: Called with every image, in order.

    Raises:
        DataError: Nothing is given, or a path does not exist or holds no image.
        ConfigError: No Ray answers at the address.
        DependencyError: Ray is asked for and not installed.
        RunError: See ``run_folder``; or Ray's workers cannot continue.
        StorageError: The folder cannot be written.
    """
    out = Path(out)
    options = options or BulkOptions()
    items = expand(paths, skip=out)
    with ExitStack() as stack:
        return run_folder(
            items,
            _line_source(analyzer, out, options, stack),
            out,
            options=options,
            identity=identity(analyzer) | {"overlays": options.overlays, "masks": options.masks},
            facts=_facts(analyzer),
            progress=progress,
        )


def identity(analyzer: Analyzer) -> dict[str, Any]:
    """Returns what a result depends on besides its image."""
    return {
        "release": analyzer.release.name,
        "networks": analyzer.digests,
        "operating_point": analyzer.operating_point.name,
        "looks": analyzer.looks,
        "score_all": analyzer.score_all,
    }


def in_threads(analyze: Analyze, *, threads: int = 1, read: Read = read_any) -> LineSource:
    """Returns a source of lines that reads and analyses images in threads of this process.

    Args:
        analyze: Takes pixels and a name; called from several threads at once.
        threads: How many; each holds one image.
        read: Takes a source and a name.
    """

    def produce(works: Iterator[Work]) -> Generator[bytes | int, None, None]:
        waiting: deque[Future[bytes] | int] = deque()
        pool = ThreadPoolExecutor(threads, thread_name_prefix="dermfuse-analysis")
        try:
            for work in works:
                if work.place is None:
                    waiting.append(pool.submit(make_line, work, analyze, read))
                else:
                    waiting.append(work.place)
                if len(waiting) >= _WINDOW * threads:
                    yield _result(waiting.popleft())
            while waiting:
                yield _result(waiting.popleft())
        finally:  # an interrupt waits for the images in work, not for those in line
            pool.shutdown(wait=True, cancel_futures=True)

    return produce


def run_folder(
    items: Iterable[Item],
    lines: LineSource,
    out: str | Path,
    *,
    options: BulkOptions | None = None,
    identity: Mapping[str, Any] | None = None,
    facts: Mapping[str, str] | None = None,
    progress: Callable[[Step], None] | None = None,
) -> FolderOutcome:
    """Analyses images one after the other and leaves their results in a folder.

    A file that cannot be read, and a fault of the analysis itself, is recorded and the rest is
    analysed. An interrupt leaves whole lines; the same call continues after them.

    Args:
        items: The images, drawn as they are needed.
        lines: Makes the lines of those that are not done: ``in_threads``, or workers on other
            machines.
        out: The results folder.
        options: Whether an earlier call is continued, and what is left besides the results.
        identity: What a result depends on besides its image, as JSON values: the networks'
            digests, the operating point, the looks. A folder made with another one is refused.
        facts: More for the report's foot, name to value.
        progress: Called with every image, in order, in the calling thread.

    Raises:
        RunError: The folder holds something else, was made by another release or with other
            settings, exists although ``resume`` is off, or is in use by another process.
        StorageError: It cannot be written.
    """
    out = Path(out)
    options = options or BulkOptions()
    _claim(out, dict(identity or {}), resume=options.resume)
    states: Counter[str] = Counter()
    tables, offsets = Tables(), array("q")
    with Journal(out / RESULTS_NAME) as journal:
        sweep_unfinished(out)  # the journal is locked: nobody else writes here
        with closing(lines(_works(items, journal))) as made:
            for line in made:
                if isinstance(line, int):
                    offsets.append(line)
                    record = journal.read(line)
                else:
                    offsets.append(journal.append(line))
                    record = json.loads(line)
                tables.add(record)
                step = _step(record, is_new=isinstance(line, bytes))
                states[step.state] += 1
                if progress is not None:
                    progress(step)
        journal.require_place()
        dropped = journal.count - len(offsets)
        offsets = journal.arrange(offsets)
        shown = (facts or {}) if options.report else None
        pages = tables.write(journal, offsets, out, facts=shown)
        pictures = Pictures(out, overlays=options.overlays, masks=options.masks)
        pictures.keep(map(journal.read, offsets))
        journal.require_place()
    return FolderOutcome(
        folder=out, analysed=states["analysed"], reused=states["reused"], dropped=dropped,
        **tables.counts, withheld_names=tuple(tables.withheld), errors=tuple(tables.errors),
        pages=pages,
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


def _line_source(
    analyzer: Analyzer, out: Path, options: BulkOptions, stack: ExitStack
) -> LineSource:
    """Returns where the lines come from: threads here, or the workers of a Ray meanwhile."""
    if options.ray is not None:
        from dermfuse.analysis.ray import analyze_of, connect, from_workers  # noqa: PLC0415 — an extra

        workers = stack.enter_context(connect(options.ray, workers=options.threads))
        analyze = analyze_of(analyzer, thumbnail=options.report)
        return from_workers(analyze, workers=workers, max_pixels=analyzer.max_pixels)
    threads = options.threads or 1
    decoders = analyzer.decoders
    if decoders is None:
        decoders = Decoders.patient(threads, max_pixels=analyzer.max_pixels)
        stack.enter_context(decoders)
    pictures = Pictures(out, overlays=options.overlays, masks=options.masks)
    summarize = summarize_with(analyzer, thumbnail=options.report, pictures=pictures)
    return in_threads(summarize, threads=threads, read=decoders.read)


def _claim(out: Path, identity: dict[str, Any], *, resume: bool) -> None:
    """Makes a results folder, or makes sure that one belongs to this analysis."""
    manifest = out / MANIFEST_NAME
    if not resume:
        require_free(out, what="results")
    if not manifest.is_file():
        new_folder(out, what="results")
        about = {"format": FORMAT, "identity": identity, "notice": NOTICE}
        write_json(manifest, about | environment())
        return
    found = read_json(manifest)
    before = found.get("identity")
    if found.get("format") == FORMAT and before == identity:
        return
    before = before if isinstance(before, dict) else {}
    keys = [k for k in identity | before if before.get(k) != identity.get(k)]
    then, now = (
        ", ".join(f"{k} {settings.get(k)!r}" for k in keys) for settings in (before, identity)
    )
    raise RunError(
        f"{out} holds results made with {then or 'another version of dermfuse'}",
        expected=f"the same release and settings as now: {now or f'format {FORMAT}'}",
        action="Choose another folder, or remove this one",
    )


def _works(items: Iterable[Item], journal: Journal) -> Iterator[Work]:
    """Yields the images as they are drawn, each with the place of its line if it is done."""
    for item in items:
        facts = file_facts(item)
        yield Work(item, facts, journal.find(item.name, facts))


def _step(record: Mapping[str, Any], *, is_new: bool) -> Step:
    if error := record.get("error", ""):
        return Step(record["name"], "failed", error)
    return Step(record["name"], "analysed" if is_new else "reused")


def _result(line: Future[bytes] | int) -> bytes | int:
    return line if isinstance(line, int) else line.result()


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
