"""From a plan and data to a release: trained, exported, measured, written with its card.

OUT/configs/, runs/, logs/   the trainings; runs of the plan's names that lie there are reused
OUT/release/                 the release, measured out of fold
OUT/blind/                   what it predicts for the test images, packed for scoring elsewhere
OUT/model-card.md, .json     its model card
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.bulk import BulkOptions, analyze_paths
from dermfuse.analysis.conversion import pack_results
from dermfuse.card import CardSources, gather_card, write_card_page
from dermfuse.data.folders import DataFolders, has_split, load_dataset
from dermfuse.data.leave_out import read_leave_out
from dermfuse.errors import RunError
from dermfuse.jobs.capacity import Jobs, default_jobs
from dermfuse.jobs.estimate import RunsEstimate
from dermfuse.jobs.execution import Command, Watch, Workplace, survey, train_command
from dermfuse.jobs.progress import RunProgress
from dermfuse.jobs.queue import Queue, make_queue, require_time, train_queue
from dermfuse.jobs.run import Run
from dermfuse.release.folder import RELEASE_NAME, Release, read_release
from dermfuse.runs import NOTICE, core_count, new_folder
from dermfuse.shipping.build import ReleaseRequest, Stage, build_release
from dermfuse.shipping.plan import NetworkRuns, ReleasePlan, plan_runs, read_plan
from dermfuse.shipping.subsets import read_subsets

RELEASE_FOLDER, BLIND_FOLDER, CARD_NAME = "release", "blind", "model-card.md"

_DONE = ("trained", "reused")


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeRequest:
    """What shall be made.

    Args:
        plan: The name of a plan of the package, or the path of one of one's own.
        data: The dataset folder, or several.
        out: The folder to write; one that was begun is gone on with.
        imagenet: Folder of ImageNet weights; None downloads them.
        leave_out: A list of images, masks and labels that may not be used.
        report_on: Folders, or lists of image ids, whose images are measured apart as well.
        jobs: Trainings side by side; ``auto`` for one per core up to what fits the memory, and so
            is None with a GPU; without one it is one per core.
        minutes: After which trainings are stopped; None trains to the end.
    """

    plan: str
    data: DataFolders
    out: Path
    imagenet: Path | None = None
    leave_out: Path | None = None
    report_on: Sequence[Path] = ()
    jobs: Jobs = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("out", "imagenet", "leave_out"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        object.__setattr__(self, "report_on", [Path(each) for each in self.report_on])

    @property
    def place(self) -> Workplace:
        """Where the runs are trained."""
        return Workplace(self.out, self.data, self.imagenet)


@dataclass(frozen=True, slots=True)
class Prepared:
    """A plan with its trainings, in the order they will begin.

    Attributes:
        plan: The plan.
        networks: Its networks with their runs.
        queue: All of them: teachers first, else what takes longest.
    """

    plan: ReleasePlan
    networks: tuple[NetworkRuns, ...]
    queue: Queue

    @property
    def runs(self) -> tuple[Run, ...]:
        """The trainings in the order they begin."""
        return self.queue.runs

    @property
    def estimate(self) -> RunsEstimate:
        """What they will cost, in that order."""
        return self.queue.estimate

    def to_dict(self) -> dict[str, Any]:
        """Returns plan and estimate as JSON values."""
        return {"plan": self.plan.name, **asdict(self.estimate), "notice": NOTICE}


@dataclass(frozen=True, slots=True)
class MakeReport:
    """What was made.

    Attributes:
        runs: How each training ended.
        release: None where trainings that it needs are missing.
        written: What lies in the folder, by kind: release, blind, card.
    """

    runs: tuple[RunProgress, ...]
    release: Release | None
    written: Mapping[str, Path]

    @property
    def failed(self) -> tuple[RunProgress, ...]:
        """The trainings that failed."""
        return tuple(run for run in self.runs if run.state == "failed")

    @property
    def left(self) -> tuple[RunProgress, ...]:
        """The trainings that the deadline left."""
        return tuple(run for run in self.runs if run.state == "waiting")

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {
            "runs": [asdict(run) for run in self.runs],
            "release": self.release.to_dict() if self.release else None,
            "written": {kind: str(path) for kind, path in self.written.items()},
            "notice": NOTICE,
        }


def prepare_release(
    request: MakeRequest, *, progress: Callable[[int, int], None] | None = None
) -> Prepared:
    """Returns what would be trained, in which order and how long; nothing is written.

    Args:
        request: What shall be made.
        progress: Called with (done, all) runs while steps are timed.

    Raises:
        ConfigError: As for ``read_plan``; ``jobs`` or ``minutes`` is not above 0.
        DataError: The data, the list of what is left out or a subset cannot be used.
    """
    plan = read_plan(request.plan)
    dataset = load_dataset(request.data, "train")
    read_subsets(request.report_on)
    if request.leave_out:
        ids = {*dataset.missing_images, *(lesion.image_id for lesion in dataset.lesions)}
        read_leave_out(request.leave_out, known=ids)
    networks = plan_runs(plan, request.place, leave_out=request.leave_out)
    runs = tuple(chain.from_iterable(network.all for network in networks))
    queue = make_queue(
        runs,
        request.place,
        jobs=request.jobs,
        on_cpu=default_jobs(),
        minutes=request.minutes,
        progress=progress,
    )
    return Prepared(plan, networks, queue)


def make_release(
    request: MakeRequest,
    *,
    prepared: Prepared | None = None,
    watch: Watch | None = None,
    stage: Stage | None = None,
    command: Command = train_command,
) -> MakeReport:
    """Trains what a plan needs, and writes the release, its blind predictions and its card.

    Finished runs are reused and interrupted ones gone on with. A run that fails is reported and
    what does not depend on it goes on. The release is written once all runs of the networks that
    ship are there; it, the predictions and the card are each whole or not there, and what is
    there already is kept.

    Args:
        request: What shall be made.
        prepared: What ``prepare_release`` returned for it, where it was called before.
        watch: Called about once a second while runs are trained.
        stage: Called when a stage begins.
        command: What the process of a run runs.

    Raises:
        ConfigError: As for ``prepare_release``; the deadline leaves no time for one epoch.
        RunError: ``request.out`` is no such folder, or holds a release of other runs.
        DermfuseError: The release cannot be built.
    """
    announce = stage or (lambda *_: None)
    prepared = prepared or prepare_release(request)
    place = request.place
    waiting = [run for run in survey(prepared.runs, place) if run.state == "waiting"]
    require_time(prepared.queue, request.minutes)
    _open(request.out, retrains=bool(waiting))
    announce(f"training {len(waiting)} of {len(prepared.runs)} runs", 1, 4)
    ended = train_queue(
        prepared.queue, place, minutes=request.minutes, watch=watch, command=command
    )
    states = {run.name: run.state for run in ended}
    shipping = [network for network in prepared.networks if network.whole]
    if any(states[run.name] not in _DONE for network in shipping for run in network.all):
        return MakeReport(ended, None, {})
    release = _build(request, prepared.plan, shipping, announce)
    written = {"release": request.out / RELEASE_FOLDER}
    if blind := _predict(request, announce):
        written["blind"] = blind
    announce("writing the model card", 4, 4)
    written["card"] = _write_card(request)
    return MakeReport(ended, release, written)


def _open(out: Path, *, retrains: bool) -> None:
    """Makes the folder, or takes up one that was begun; a folder of something else is refused."""
    runs = out / "runs"
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not runs.is_dir() and not is_free:
        raise RunError(
            f"{out} holds something else",
            expected="a folder that was begun by this command, or nothing",
            action="Choose another --out",
        )
    if retrains and (out / RELEASE_FOLDER / RELEASE_NAME).is_file():
        raise RunError(
            f"{out / RELEASE_FOLDER} was made of other runs than the plan now trains",
            expected="no release yet",
            action="Move it away, or choose another --out",
        )
    if not runs.is_dir():
        new_folder(runs, what="release")


def _build(
    request: MakeRequest, plan: ReleasePlan, shipping: Sequence[NetworkRuns], announce: Stage
) -> Release:
    out, place = request.out / RELEASE_FOLDER, request.place
    if (out / RELEASE_NAME).is_file():
        return read_release(out)
    return build_release(
        ReleaseRequest(
            runs=[place.run_folder(network.whole) for network in shipping if network.whole],
            folds=[place.run_folder(run) for network in shipping for run in network.folds],
            data=request.data,
            out=out,
            name=plan.name,
            precision=plan.precision,
            looks=plan.looks,
            report_on=request.report_on,
        ),
        stage=lambda what, number, count: announce(f"release, {what} ({number} of {count})", 2, 4),
    )


def _predict(request: MakeRequest, announce: Stage) -> Path | None:
    """Returns the packed predictions of the test images; None where there are none."""
    out = request.out / BLIND_FOLDER
    if out.is_dir() or not has_split(request.data, "test"):
        return out if out.is_dir() else None
    images = [str(lesion.image_path) for lesion in load_dataset(request.data, "test").lesions]
    announce("predicting the test images", 3, 4)
    analyzer = Analyzer(request.out / RELEASE_FOLDER, score_all=True)
    options = BulkOptions(threads=core_count(), report=False, masks=True)
    with TemporaryDirectory(prefix="dermfuse-blind-") as temporary:
        results = Path(temporary) / "results"
        analyze_paths(analyzer, images, results, options=options)
        pack_results(results, out)
    return out


def _write_card(request: MakeRequest) -> Path:
    page = request.out / CARD_NAME
    if not page.is_file():
        sources = CardSources(release=request.out / RELEASE_FOLDER, data=request.data)
        write_card_page(gather_card(sources), page)
    return page
