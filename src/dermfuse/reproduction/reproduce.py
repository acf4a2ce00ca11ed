"""What ``dermfuse reproduce`` does: plan, train and predict, measure, report."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dermfuse.data.folders import (
    DataFolders,
    has_split,
    load_dataset,
    load_truth,
    name_folders,
    require_split,
)
from dermfuse.errors import DermfuseError
from dermfuse.evaluation.bootstrap import DRAWS
from dermfuse.records.folders import RunFolder, environment
from dermfuse.report.page import Picture
from dermfuse.reproduction.assembly import Assembler, device_of
from dermfuse.reproduction.harvest import (
    TASKS,
    Harvest,
    parts_to_predict,
    tasks_with_test_truth,
)
from dermfuse.reproduction.outcome import Outcome, RunResult
from dermfuse.reproduction.page import write_outcome
from dermfuse.reproduction.paper import FUSIONS
from dermfuse.reproduction.plan import CHOICES, DEFAULT_FOLDS, Plan, make_plan
from dermfuse.training.jobs import (
    DONE,
    Command,
    Run,
    RunProgress,
    Stage,
    Watch,
    Workplace,
    is_begun,
    survey,
    train_command,
)
from dermfuse.training.queue import Queue, make_queue, require_time, train_queue

Draw = Callable[[Sequence[Path], Sequence[Path]], Sequence[Picture]]
"""From run folders and predictions folders to figures."""

_DRAWN = tuple(source for name, fusion in FUSIONS.items() for source in (*fusion.presets, name))
"""What the paper's figures are of."""

_MAP_FACTOR = 8  # an 8-bit map takes about that many times the bytes of its mask


@dataclass(frozen=True, slots=True, kw_only=True)
class Request(Workplace):
    """What to reproduce, how, and where.

    Args:
        tables: Some of ``dermfuse.reproduction.plan.CHOICES``.
        seeds: How often each row is trained.
        folds: Folds of the cross-validation; 0 is one hold-out split; None takes five
            unless the test set has labels and masks.
        mask_folds: The same for the networks that only outline; None is as ``folds``.
        only: Presets, or patterns of their names, that are trained; all without any. The rows
            of the others are filled if their runs are finished.
        overrides: See ``make_plan``.
        minimum_learning_rate: A plateau run ends once its rate is below this.
        draws: Bootstrap draws.
        blind: Whether the test split is predicted and packed where its truth is missing.
    """

    tables: Sequence[str] = CHOICES
    seeds: int = 1
    folds: int | None = None
    mask_folds: int | None = None
    only: Sequence[str] = ()
    overrides: Sequence[str] = ()
    minimum_learning_rate: float = 0.0
    draws: int = DRAWS
    blind: bool = True


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
        ConfigError: See ``make_plan``.
        DataError: The data has no training images or no truth.
    """
    require_split(request.data, "train")
    known = tasks_with_test_truth(load_truth(request.data))
    folds = request.folds
    if folds is None:
        folds = 0 if known == TASKS else DEFAULT_FOLDS
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

    What is finished in ``request.out`` is reused and what was interrupted is continued. Every run
    predicts in its own process; here what is missing is predicted. A run that fails, or cannot be
    predicted with, leaves its rows empty; the report says why. One that was stopped, by the
    deadline, say, is reported by its whole epochs, which the report states.

    Args:
        request: What to reproduce.
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
    plan, truth = plan_request(request), load_truth(request.data)
    tested = tasks_with_test_truth(truth)
    packs = request.blind and tested != TASKS and has_split(request.data, "test")
    parts = parts_to_predict(plan, test_tasks=tested, tests=packs)
    to_train = () if report_only else plan.runs_to_train(request.only)
    if to_train:
        announce("timing steps of what is to be trained", 1, 4)
    queue = make_queue([replace(run, parts=parts[run.name]) for run in to_train], request)
    require_time(queue, request.minutes)
    request.open(what="reproduction", must_exist=report_only)
    if to_train:
        announce(f"training {len(to_train)} runs, {queue.jobs} side by side", 2, 4)
    ended = train_queue(queue, request, watch=watch, command=command)
    announce("measuring", 3, 4)
    progress = {
        each.name: replace(each, state="failed") if each.error else each  # when it was last tried
        for each in survey(plan.runs, request)
    }
    progress |= {each.name: each for each in ended}
    harvest = _harvest(plan, request, progress)
    assembler = Assembler(harvest, truth, tested, request.draws)
    tables, leakage = tuple(map(assembler.table, plan.tables)), assembler.leakage()
    blind = harvest.pack_tests() if packs else ()
    announce("writing the report", 4, 4)
    pictures = _draw(draw, harvest) if draw else ()
    outcome = Outcome(
        data=name_folders(request.data),
        seeds=plan.seeds,
        folds=plan.folds,
        mask_folds=plan.mask_folds,
        overrides=plan.overrides,
        draws=request.draws,
        environment=environment(),
        tables=tables,
        leakage=leakage,
        runs=tuple(_run_result(run, progress[run.name], request) for run in plan.runs),
        failures=harvest.failures,
        blind=tuple(folder.name for folder in blind),
    )
    page = write_outcome(request.out, outcome, pictures)
    failed = sum(run.state == "failed" for run in outcome.runs)
    left = tuple(each for each in ended if each.state == "waiting")
    return ReproductionReport(page, outcome, failed, left)


def estimate(
    plan: Plan, place: Workplace, *, progress: Callable[[int, int], None] | None = None
) -> Queue:
    """Returns what a plan will cost on this machine; nothing is written.

    Args:
        plan: What is to be trained.
        place: Where; what is finished there costs nothing more.
        progress: Called with (done, all) runs.

    Raises:
        DermfuseError: See ``make_queue``.
    """
    queue = make_queue(plan.runs, place, progress=progress)
    disk = queue.disk_mb + _predictions_mb(plan, place.data)
    return replace(queue, disk_mb=round(disk, 1))


def _harvest(plan: Plan, place: Workplace, progress: Mapping[str, RunProgress]) -> Harvest:
    finished = {name for name, each in progress.items() if each.state in DONE}
    stopped = {
        run.name
        for run in plan.runs
        if progress[run.name].state == "waiting" and is_begun(run, place.run_folder(run))
    }
    return Harvest(plan, place, frozenset(finished | stopped), frozenset(stopped))


def _run_result(run: Run, progress: RunProgress, place: Workplace) -> RunResult:
    record = _read_record(RunFolder(place.run_folder(run)))
    return RunResult(
        name=run.name,
        preset=run.preset,
        seed=run.config.train.seed,
        state=progress.state,
        epochs=progress.epoch,
        seconds=float(record.get("seconds", 0.0)),
        device=device_of(record),
        error=progress.error or str(record.get("error", "")),
    )


def _read_record(folder: RunFolder) -> dict[str, Any]:
    try:
        return folder.read_record() if folder.record.is_file() else {}
    except DermfuseError as error:
        return {"error": str(error)}


def _draw(draw: Draw, harvest: Harvest) -> Sequence[Picture]:
    """Returns the figures of the first seed's rows; that none could be drawn is reported.

    As in the paper they are of the pair networks, the U-Nets and their fusions; where none of
    these was trained, of what was. Of a cross-validation the first fold's networks are looked into.
    """
    made = {source: folders[0] for source, folders in harvest.made.items() if folders}
    wanted = [source for source in _DRAWN if source in made] or list(made)
    needs = harvest.plan.needs
    first = [needs[source, 0][0] for source in wanted if (source, 0) in needs]
    runs = [harvest.place.run_folder(run) for run in first if run.name in harvest.finished]
    try:
        return draw(runs, [made[source] for source in wanted]) if wanted else ()
    except DermfuseError as error:
        harvest.failures["figures"] = str(error)
        return ()


def _predictions_mb(plan: Plan, data: DataFolders) -> float:
    """Returns the bytes of masks and maps, of validation and test, as the true masks are large."""
    lesions = load_dataset(data, "train").lesions
    sizes = [lesion.mask_path.stat().st_size for lesion in lesions if lesion.mask_path]
    tested = len(load_dataset(data, "test").lesions) if has_split(data, "test") else 0
    folds = [
        run.config.data.folds for run in plan.runs if run.config.model.task != "classification"
    ]
    validated = sum(sum(sizes) / max(count, 1) for count in folds)
    mean = sum(sizes) / max(len(sizes), 1)
    return (validated + len(folds) * mean * tested) * (1 + _MAP_FACTOR) / 1e6
