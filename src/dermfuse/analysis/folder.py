"""Many images to one results folder: in order, in parallel, resumable, in flat memory.

    analysis.json     what made the results: release, settings
    results.jsonl     one line per image, in the order they were given
    results.csv       the same, flat
    errors.csv        what could not be analysed, and why (only if something failed)
    report.html       the same for a reader; report-2.html and so on beyond 1,000 images

A call that finds the folder goes on with it: images that are done and have not changed are not
analysed again, those that failed are tried once more.
"""

import base64
import hashlib
import json
import logging
import os
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from dermfuse.analysis.journal import Journal
from dermfuse.analysis.reading import read_any
from dermfuse.analysis.sheets import survey, write_report, write_sheets
from dermfuse.analysis.sources import Item
from dermfuse.errors import DermfuseError, RunError
from dermfuse.runs import NOTICE, environment, new_folder, read_json, require_free, write_json

FORMAT = 1
MANIFEST_NAME = "analysis.json"
RESULTS_NAME = "results.jsonl"
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_WINDOW = 2  # images in flight per thread: the next ones wait read, no more
_LOG = logging.getLogger(__name__)

State = Literal["analysed", "reused", "failed"]


class Record(Protocol):
    """What is known of one image."""

    def to_dict(self) -> dict[str, Any]:
        """Returns it as JSON values; ``thumbnail`` may be the bytes of a JPEG."""


Analyze = Callable[[NDArray[np.uint8], str], Record]


@dataclass(frozen=True, slots=True)
class FolderOptions:
    """How a folder is worked through.

    Args:
        identity: What a result depends on besides its image, as JSON values: the release's
            sha256, the operating point. A folder made with another one is refused.
        threads: That read and analyse images; each holds one image.
        resume: Whether a results folder may exist and is gone on with.
        report: Whether the HTML report is written.
        facts: More for the report's foot, name to value.
    """

    identity: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    threads: int = field(default_factory=lambda: os.cpu_count() or 1)
    resume: bool = True
    report: bool = True
    facts: Mapping[str, str] = field(default_factory=lambda: _NOTHING)

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise DermfuseError(f"{self.threads} threads", expected="1 or more")


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
    analyze: Analyze,
    out: Path,
    *,
    options: FolderOptions | None = None,
    progress: Callable[[Step], None] | None = None,
) -> FolderOutcome:
    """Analyses images one after the other and leaves their results in a folder.

    A file that cannot be read, and a fault of ``analyze`` itself, is recorded and the rest goes
    on. An interrupt leaves whole lines; the same call goes on after them.

    Args:
        items: The images, drawn as they are needed.
        analyze: Takes pixels and a name; called from several threads at once.
        out: The results folder.
        options: Threads, resuming, report, and what identifies the analysis.
        progress: Told of every image, in order, from the calling thread.

    Raises:
        RunError: The folder holds something else, was made by another release or with other
            settings, exists although ``resume`` is off, or is in use by another process.
        StorageError: It cannot be written.
    """
    options = options or FolderOptions()
    _claim(out, options)
    counts: dict[State, int] = {"analysed": 0, "reused": 0, "failed": 0}
    offsets = array("q")
    with Journal(out / RESULTS_NAME) as journal:
        for offset, step in _steps(items, analyze, journal, threads=options.threads):
            offsets.append(offset)
            counts[step.state] += 1
            if progress is not None:
                progress(step)
        dropped = journal.arrange(offsets)
        found = survey(journal)
        write_sheets(journal, found, out)
        pages = write_report(journal, found, out, facts=options.facts) if options.report else 0
    return FolderOutcome(
        folder=out, **counts, dropped=dropped, malignant=found.malignant, benign=found.benign,
        withheld=found.withheld, errors=tuple(found.errors), pages=pages,
    )  # fmt: skip


def read_results(folder: Path) -> Iterator[dict[str, Any]]:
    """Yields every line of a results folder: an image's record, or its ``error``.

    Raises:
        RunError: The folder holds no results.
    """
    path = folder / RESULTS_NAME
    if not path.is_file():
        raise RunError(
            f"{folder} holds no results",
            expected=f"a folder with {RESULTS_NAME}",
            action="Write one with: dermfuse analyze ... --out",
        )
    with path.open("rb") as lines:
        yield from map(json.loads, lines)


def _claim(out: Path, options: FolderOptions) -> None:
    """Makes a results folder, or makes sure that one belongs to this analysis."""
    manifest = out / MANIFEST_NAME
    identity = json.loads(json.dumps(dict(options.identity), default=_plain))
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
    items: Iterable[Item], analyze: Analyze, journal: Journal, *, threads: int
) -> Iterator[tuple[int, Step]]:
    """Yields where each image's line begins, and what became of it, in the order of the items."""
    waiting: deque[tuple[Item, int | Future[bytes]]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="dermfuse-analysis")
    try:
        for item in items:
            facts = _facts(item)
            known = journal.find(item.name, facts)
            work = known if known is not None else pool.submit(_line, item, facts, analyze)
            waiting.append((item, work))
            if len(waiting) >= _WINDOW * threads:
                yield _finish(*waiting.popleft(), journal)
        while waiting:
            yield _finish(*waiting.popleft(), journal)
    finally:  # an interrupt waits for the images in work, not for those in line
        pool.shutdown(wait=True, cancel_futures=True)


def _finish(item: Item, work: "int | Future[bytes]", journal: Journal) -> tuple[int, Step]:
    if isinstance(work, int):
        return work, Step(item.name, "reused")
    line = work.result()
    error = json.loads(line).get("error", "") if b'"error"' in line else ""
    return journal.append(line), Step(item.name, "failed" if error else "analysed", error)


def _facts(item: Item) -> dict[str, Any]:
    """Returns what tells whether an image has changed; empty if it cannot be told."""
    if isinstance(item.source, bytes):
        digest = hashlib.sha256(item.source).hexdigest()
        return {"bytes": len(item.source), "sha256": digest}
    try:
        state = item.source.stat()
    except (OSError, ValueError):
        return {}
    return {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}


def _line(item: Item, facts: Mapping[str, Any], analyze: Analyze) -> bytes:
    """Returns an image's line; whatever goes wrong becomes its ``error``."""
    start = {"name": item.name, "file": dict(facts)}
    if item.fault:
        return _encode({**start, "error": item.fault, "notice": NOTICE})
    try:
        record = analyze(read_any(item.source, name=item.name), item.name).to_dict()
        return _encode({**start, **record, **start})
    except DermfuseError as error:
        return _encode({**start, "error": str(error), "notice": NOTICE})
    except Exception as error:
        # One image must not end the work on 100,000, nor stand in the way of going on with it.
        _LOG.exception("%s: a fault of dermfuse itself", item.name)
        said = f"A fault of dermfuse itself ({type(error).__name__}). Please report it."
        return _encode({**start, "error": said, "notice": NOTICE})


def _encode(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, allow_nan=False, default=_plain).encode()


def _plain(value: object) -> object:
    """Returns as JSON values what JSON has none for: bytes, NumPy's numbers, paths."""
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"a {type(value).__name__} has no JSON value")
