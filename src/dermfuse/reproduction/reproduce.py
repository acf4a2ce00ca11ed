"""The command's function: plan, train and predict, measure, report.

What a plan would cost before it is begun: time and disk.
"""

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from dermfuse.data.folders import (
    DataFolders,
    Truth,
    has_split,
    load_dataset,
    load_truth,
    name_folders,
    require_split,
)
from dermfuse.errors import DermfuseError, RunError
from dermfuse.evaluation.bootstrap import DRAWS
from dermfuse.folders import NOTICE, RunFolder, environment, new_folder, read_json
from dermfuse.jobs.estimate import RunEstimate, require_sides
from dermfuse.jobs.queue import make_queue, require_time, train_queue
from dermfuse.jobs.trainings import (
    Command,
    Jobs,
    Run,
    RunProgress,
    Watch,
    Workplace,
    is_begun,
    survey,
    train_command,
)
from dermfuse.report import Picture
from dermfuse.reproduction.assembly import Assembler
from dermfuse.reproduction.harvest import (
    Harvest,
    has_test_images,
    parts_to_predict,
    tasks_with_test_truth,
)
from dermfuse.reproduction.outcome import Outcome, RunResult
from dermfuse.reproduction.page import write_outcome
from dermfuse.reproduction.paper import fusion_of
from dermfuse.reproduction.plan import CHOICES, DEFAULT_FOLDS, Plan, make_plan

Draw = Callable[[Sequence[Path], Sequence[Path]], Sequence[Picture]]
"""From run folders and predictions folders to figures."""
Stage = Callable[[str, int, int], None]
"""Called with (what begins, its number from 1, how many)."""

_DRAWN = (
    "dc-mobilenetv1",
    "dc-densenet121",
    "fusion-dc",
    "u-mobilenetv1",
    "u-densenet121",
    "fusion-u",
)
"""What the paper's figures are of."""

_ALL_TASKS = frozenset({"classification", "segmentation"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What shall be reproduced, and how.

    Args:
        data: The dataset folder, or several.
        out: The folder to write; one that was begun is gone on with.
        imagenet: Folder of ImageNet weights; None downloads them.
        tables: Of ``dermfuse.reproduction.plan.CHOICES``.
        seeds: How often each row is trained.
        folds: Of the cross-validation; 0 is one hold-out split; None cross-validates in five
            folds unless the test set has labels and masks.
        mask_folds: The same for the networks that only outline; None is as ``folds``.
        only: Presets, or patterns of their names, that are trained; all without any. The rows
            of the others are filled if their runs are finished.
        overrides: As for ``make_plan``.
        jobs: Trainings side by side; ``auto`` for one per core up to what fits the memory, and so
            is None with a GPU; without one it is 1.
        minutes: After which training ends; None trains to the end.
        minimum_learning_rate: A plateau run ends once its rate is below this.
        draws: Of the bootstrap.
        blind: Whether the test split is predicted and packed where its truth is missing.
    """

    data: DataFolders
    out: Path
    imagenet: Path | None = None
    tables: Sequence[str] = CHOICES
    seeds: int = 1
    folds: int | None = None
    mask_folds: int | None = None
    only: Sequence[str] = ()
    overrides: Sequence[str] = ()
    jobs: Jobs = None
    minutes: float | None = None
    minimum_learning_rate: float = 0.0
    draws: int = DRAWS
    blind: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        if self.imagenet is not None:
            object.__setattr__(self, "imagenet", Path(self.imagenet))

    @property
    def place(self) -> Workplace:
        """Where the runs are trained."""
        return Workplace(self.out, self.data, self.imagenet)


@dataclass(frozen=True, slots=True)
class ReproductionReport:
    """What was written.

    Args:
        page: The report.
        outcome: Every number of it.
        failed: How many runs failed.
        left: The runs that the deadline left, with their whole epochs.
    """

    page: Path
    outcome: Outcome
    failed: int
    left: tuple[RunProgress, ...] = ()


def plan_request(request: Request) -> Plan:
    """Returns the plan of a request.

    Raises:
        ConfigError: As for ``make_plan``.
        DataError: The data has no training images or no truth.
    """
    require_split(request.data, "train")
    known = tasks_with_test_truth(load_truth(request.data))
    folds = request.folds
    if folds is None:
        folds = 0 if known == _ALL_TASKS else DEFAULT_FOLDS
    return make_plan(
        request.tables,
        seeds=request.seeds,
        folds=folds,
        mask_folds=request.mask_folds,
        overrides=request.overrides,
        minimum_learning_rate=request.minimum_learning_rate,
        test_truth=bool(known),
    )


def reproduce(
    request: Request,
    *,
    watch: Watch | None = None,
    stage: Stage | None = None,
    draw: Draw | None = None,
    report_only: bool = False,
    command: Command = train_command,
) -> ReproductionReport:
    """Trains and evaluates what the asked tables need, and writes the report.

    What is finished in ``request.out`` is reused and what was interrupted gone on with. Every run
    predicts in its own process; here predictions are read. A run that fails, or cannot be
    predicted with, leaves its rows empty; the report says why. One that was stopped, by the
    deadline, say, is reported by its whole epochs, which the report states.

    Args:
        request: What shall be reproduced.
        watch: Called about once a second while runs are trained.
        stage: Called when a stage begins.
        draw: Draws the figures.
        report_only: Trains nothing and reports what is there.
        command: What the process of a run runs.

    Raises:
        ConfigError: The deadline leaves no time for one epoch.
        DermfuseError: The request cannot be planned, or ``request.out`` is no such folder.
    """
    announce = stage or (lambda *_: None)
    plan, place = plan_request(request), request.place
    truth = load_truth(request.data)
    to_train = () if report_only else plan.runs_to_train(request.only)
    require_sides(to_train, place)
    if to_train:
        announce("timing steps of what is to be trained", 1, 4)
    to_train = _ask_to_predict(to_train, plan, request, tasks_with_test_truth(truth))
    queue = make_queue(to_train, place, jobs=request.jobs, minutes=request.minutes)
    require_time(queue, request.minutes)
    _open(request.out, must_exist=report_only)
    if to_train:
        announce(f"training {len(to_train)} runs, {queue.estimate.jobs} side by side", 2, 4)
    ended = train_queue(queue, place, minutes=request.minutes, watch=watch, command=command)
    trained = {each.name: each for each in ended}
    progress = [trained.get(each.name) or _failed_before(each) for each in survey(plan.runs, place)]
    announce("measuring", 3, 4)
    harvest = _harvest(plan, place, progress)
    outcome = _measure(request, harvest, progress, truth)
    announce("writing the report", 4, 4)
    pictures = _draw(draw, harvest) if draw else ()
    outcome = replace(outcome, failures=dict(harvest.failures))
    page = write_outcome(request.out, outcome, pictures)
    failed = sum(each.state == "failed" for each in progress)
    left = tuple(each for each in ended if each.state == "waiting")
    return ReproductionReport(page, outcome, failed, left)


def _ask_to_predict(
    runs: Sequence[Run], plan: Plan, request: Request, test_tasks: AbstractSet[str]
) -> tuple[Run, ...]:
    tests = _packs_tests(request, test_tasks)
    parts = parts_to_predict(plan, test_tasks=test_tasks, tests=tests)
    return tuple(replace(run, parts=parts[run.name]) for run in runs)


def _packs_tests(request: Request, test_tasks: AbstractSet[str]) -> bool:
    """Returns whether the test split is predicted for scoring elsewhere."""
    return request.blind and test_tasks != _ALL_TASKS and has_test_images(request.data)


def _failed_before(found: RunProgress) -> RunProgress:
    """Returns a run that was not tried now as failed if it was when it was last tried."""
    return replace(found, state="failed") if found.error else found


def _harvest(plan: Plan, place: Workplace, progress: Sequence[RunProgress]) -> Harvest:
    states = {each.name: each.state for each in progress}
    finished = frozenset(name for name, state in states.items() if state in ("trained", "reused"))
    stopped = frozenset(
        run.name
        for run in plan.runs
        if states[run.name] == "waiting" and is_begun(run, place.run_folder(run))
    )
    return Harvest(plan, place, finished | stopped, stopped)


def _open(out: Path, *, must_exist: bool) -> None:
    """Makes the folder, or takes up one that was begun; a folder of something else is refused."""
    runs = out / "runs"
    is_ours = runs.is_dir()
    is_free = not out.exists() or (out.is_dir() and not any(out.iterdir()))
    if not is_ours and (must_exist or not is_free):
        raise RunError(
            f"{out} {'is missing' if not out.exists() else 'is no reproduction'}",
            expected="one that was begun by this command" + ("" if must_exist else ", or nothing"),
            action="Choose another --out",
        )
    if not is_ours:
        new_folder(runs, what="reproduction")


def _measure(
    request: Request, harvest: Harvest, progress: Sequence[RunProgress], truth: Truth
) -> Outcome:
    plan = harvest.plan
    tested = tasks_with_test_truth(truth)
    assembler = Assembler(harvest, truth, tested, request.draws)
    tables = tuple(assembler.table(table) for table in plan.tables)
    leakage = assembler.leakage()
    blind = harvest.pack_tests() if _packs_tests(request, tested) else ()
    return Outcome(
        data=name_folders(request.data),
        seeds=plan.seeds,
        folds=plan.folds,
        mask_folds=plan.mask_folds,
        overrides=plan.overrides,
        draws=request.draws,
        environment=environment(),
        tables=tables,
        leakage=leakage,
        runs=tuple(
            _run_result(run, each, harvest.place)
            for run, each in zip(plan.runs, progress, strict=True)
        ),
        failures=dict(harvest.failures),
        blind=tuple(folder.name for folder in blind),
    )


def _run_result(run: Run, progress: RunProgress, place: Workplace) -> RunResult:
    path = RunFolder(place.run_folder(run)).record
    record: dict[str, Any] = {}
    if path.is_file():
        try:
            record = read_json(path)
        except DermfuseError as error:
            record = {"error": str(error)}
    device = (
        f"{record['device']} ({record['machine']}, {record['precision']})"
        if {"device", "machine", "precision"} <= record.keys()
        else ""
    )
    return RunResult(
        name=run.name,
        preset=run.preset,
        seed=run.config.train.seed,
        state=progress.state,
        epochs=progress.epoch,
        seconds=float(record.get("seconds", 0.0)),
        device=device,
        error=progress.error or str(record.get("error", "")),
    )


def _draw(draw: Draw, harvest: Harvest) -> Sequence[Picture]:
    """Returns the figures of the first seed's rows; that none could be drawn is reported.

    As in the paper they are of the pair networks, the U-Nets and their fusions; where none of
    these was trained, of what was. Of a cross-validation the first fold's networks are looked into.
    """
    made = {source: folders[0] for source, folders in harvest.made.items() if folders}
    wanted = [source for source in _DRAWN if source in made] or list(made)
    presets = [source for source in wanted if fusion_of(source) is None and "+" not in source]
    runs = [
        harvest.place.run_folder(run)
        for preset in presets
        if (run := harvest.plan.runs_of(preset, 0)[0]).name in harvest.finished
    ]
    if not wanted:
        return ()
    try:
        return draw(runs, [made[source] for source in wanted])
    except DermfuseError as error:
        harvest.failures["figures"] = str(error)
        return ()


_MAP_FACTOR = 8  # an 8-bit map takes about that many times the bytes of its mask


@dataclass(frozen=True, slots=True)
class PlanEstimate:
    """What all of it is expected to cost.

    Attributes:
        runs: In the order they begin.
        jobs: How many are trained side by side.
        seconds: Of all trainings, side by side, at the least.
        most_seconds: The same at the pace of the slowest steps that were timed.
        disk_mb: Of all folders, predictions with maps included, in 10^6 bytes.
    """

    runs: tuple[RunEstimate, ...]
    jobs: int
    seconds: float
    most_seconds: float
    disk_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the estimate as JSON values."""
        return {**asdict(self), "notice": NOTICE}


def estimate(
    plan: Plan,
    place: Workplace,
    *,
    jobs: Jobs = None,
    minutes: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PlanEstimate:
    """Returns what a plan will cost on this machine; nothing is written.

    Args:
        plan: What is to be trained.
        place: Where; what is finished there costs nothing more.
        jobs: How many runs are trained side by side; see ``estimate_runs``.
        minutes: The deadline; it is checked alone.
        progress: Called with (done, all) runs.

    Raises:
        DermfuseError: As for ``make_queue``.
    """
    found = make_queue(plan.runs, place, jobs=jobs, minutes=minutes, progress=progress).estimate
    disk = sum(each.disk_mb for each in found.runs) + _predictions_mb(plan, place.data)
    return PlanEstimate(found.runs, found.jobs, found.seconds, found.most_seconds, round(disk, 1))


def _predictions_mb(plan: Plan, data: DataFolders) -> float:
    """Returns the bytes of masks and maps, of validation and test, as the true masks are large."""
    lesions = load_dataset(data, "train").lesions
    sizes = [lesion.mask_path.stat().st_size for lesion in lesions if lesion.mask_path]
    tested = _test_count(data)
    segmenters = [run for run in plan.runs if run.config.model.task != "classification"]
    mean = sum(sizes) / max(len(sizes), 1)
    validated = sum(sum(sizes) / max(run.config.data.folds, 1) for run in segmenters)
    return (validated + len(segmenters) * mean * tested) * (1 + _MAP_FACTOR) / 1e6


def _test_count(data: DataFolders) -> int:
    if not has_split(data, "test"):
        return 0
    return len(load_dataset(data, "test").lesions)
