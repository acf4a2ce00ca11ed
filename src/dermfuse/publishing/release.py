"""A release from a plan and data, or from runs that are there.

The networks that ship are trained on all images and measured by those trained in folds. From a plan
they are trained, exported, measured and written with their card:

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
from dermfuse.analysis.batch import BulkOptions, analyze_paths
from dermfuse.analysis.conversion import pack_results
from dermfuse.config import Task
from dermfuse.data.folders import DataFolders, has_split, load_dataset, name_folders
from dermfuse.data.groups import read_leave_out
from dermfuse.data.isic2016 import ID_COLUMN, OTHER_ID_COLUMNS, load_isic2016, read_lines
from dermfuse.errors import ConfigError, DataError, ExportError, RunError
from dermfuse.imaging.symmetries import Looks
from dermfuse.predictions.scores import write_scores
from dermfuse.publishing.card import CardSources, gather_card, write_card_page
from dermfuse.publishing.gate import fit_gate
from dermfuse.publishing.measured import (
    ask_folds,
    export_folds,
    export_shipped,
    make_class_release,
    make_mask_release,
    require_recipe,
)
from dermfuse.publishing.plan import NetworkRuns, ReleasePlan, Weights, plan_runs, read_plan
from dermfuse.records.folders import (
    NOTICE,
    core_count,
    environment,
    require_free,
    whole_folder,
)
from dermfuse.release.cards import Precision
from dermfuse.release.folder import (
    OUT_OF_FOLD_NAME,
    RELEASE_NAME,
    Gate,
    Release,
    read_release,
    require_text,
    write_release,
)
from dermfuse.release.networks import load_network
from dermfuse.training.jobs import (
    DONE,
    Command,
    Run,
    RunProgress,
    Stage,
    Watch,
    Workplace,
    survey,
    train_command,
)
from dermfuse.training.prediction import TrainedNetwork, load_run, split_lesions
from dermfuse.training.queue import (
    Queue,
    make_queue,
    require_time,
    selections,
    train_queue,
)
from dermfuse.training.samples import TrainingSet

_STAGES = 5
_Shipping = tuple[TrainedNetwork, list[TrainedNetwork]]  # a network, and its folds
RELEASE_FOLDER, BLIND_FOLDER, CARD_NAME = "release", "blind", "model-card.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """What to release.

    Args:
        runs: The networks that ship, any number: one or more score, one or more outline.
        folds: Runs of the same presets, trained in folds; all that is measured comes from them.
        data: The dataset folder, or several.
        out: The release folder; new.
        name: The release's name.
        precision: How the networks store and compute.
        looks: At how many orientations of an image they look.
        weights: How class networks are weighed.
        report_on: Folders, or lists of image ids, whose images are measured apart as well.
    """

    runs: Sequence[Path]
    folds: Sequence[Path]
    data: DataFolders
    out: Path
    name: str
    precision: Precision = "int8-weights"
    looks: Looks = 1
    weights: Weights = "fitted"
    report_on: Sequence[Path] = ()

    def __post_init__(self) -> None:
        require_text(self.name, "the release's name", error=ConfigError)
        object.__setattr__(self, "out", Path(self.out))
        for name in ("runs", "folds", "report_on"):
            object.__setattr__(self, name, [Path(each) for each in getattr(self, name)])


def build_release(request: ReleaseRequest, *, stage: Stage | None = None) -> Release:
    """Writes a release folder and returns its record.

    Of a pair network the mean of both class heads ships: what ships validated on nothing, so there
    is no better one to choose, and none is chosen in the folds either.

    Args:
        request: What to release.
        stage: Called when a stage begins.

    Raises:
        ExportError: There is none that scores or none that outlines, a network has no folds, or
            they were trained in another way.
        DermfuseError: A run, the data or the folder cannot be used.
    """
    announce = stage or (lambda *_: None)
    subsets = read_subsets(request.report_on)
    finals, folds = (
        [load_run(run, mean_head=True) for run in runs] for runs in (request.runs, request.folds)
    )
    classes, masks = _by_task([(final, _folds_of(final, folds)) for final in finals])
    if subsets:
        require_subsets(subsets, _labels(classes[0][1], request.data))
    with whole_folder(request.out, what="release") as out:
        return _build_release(request, classes, masks, subsets, out, announce)


def read_subsets(paths: Sequence[Path]) -> dict[str, frozenset[str]]:
    """Returns the image ids of each subset by its name, that of the folder or of the list.

    Args:
        paths: Dataset folders, whose training images are meant, and CSV files with a column
            ``image_id``, or whose first column holds ids.

    Raises:
        DataError: A path is neither, or names no image; or two have one name.
    """
    found: dict[str, frozenset[str]] = {}
    for path in paths:
        name = path.resolve().stem
        if name in found:
            raise DataError(
                f"two subsets are called {name}",
                expected="a name for each, that of the folder or of the list",
                action="Rename one of them",
            )
        found[name] = _read_ids(path)
    return found


def require_subsets(subsets: Mapping[str, frozenset[str]], labels: Mapping[str, bool]) -> None:
    """Refuses a subset that nothing can be measured of, before anything is measured.

    Args:
        subsets: Names and ids.
        labels: Whether each image that is measured is malignant.

    Raises:
        DataError: A subset holds no malignant, or no benign image of those measured.
    """
    for name, ids in subsets.items():
        measured = [labels[image_id] for image_id in ids & labels.keys()]
        malignant, benign = measured.count(True), measured.count(False)
        if not (malignant and benign):
            raise DataError(
                f"of {name} {malignant} malignant and {benign} benign images are measured",
                expected="images of both classes",
                action="Name a folder or a list of images that the networks were trained on",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeRequest(Workplace):
    """What to make, and where.

    Args:
        plan: The name of a plan of the package, or the path of your own.
        leave_out: A list of images, masks and labels that may not be used.
        report_on: Folders, or lists of image ids, whose images are measured apart as well.
    """

    plan: str
    leave_out: Path | None = None
    report_on: Sequence[Path] = ()

    def __post_init__(self) -> None:
        Workplace.__post_init__(self)
        if self.leave_out is not None:
            object.__setattr__(self, "leave_out", Path(self.leave_out))
        object.__setattr__(self, "report_on", [Path(each) for each in self.report_on])


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

    def to_dict(self) -> dict[str, Any]:
        """Returns plan and estimate as JSON values."""
        return {"plan": self.plan.name, **self.queue.to_dict()}


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
        request: What to make.
        progress: Called with (done, all) runs while steps are timed.

    Raises:
        ConfigError: See ``read_plan``; or ``jobs`` or ``minutes`` is not above 0.
        DataError: The data, the list of what is left out or a subset cannot be used; or what ships
            could not be measured on them.
        RunError: ``request.out`` is no such folder, or holds what was made of another plan.
    """
    plan = read_plan(request.plan)
    dataset = load_dataset(request.data, "train")
    subsets = read_subsets(request.report_on)
    if request.leave_out:
        ids = {*dataset.missing_images, *(lesion.image_id for lesion in dataset.lesions)}
        read_leave_out(request.leave_out, known=ids)
    networks = plan_runs(plan, request, leave_out=request.leave_out)
    runs = tuple(chain.from_iterable(network.all for network in networks))
    request.require_place(what="release")
    _require_own(request, plan, networks)
    _require_measurable(networks, selections(request.data), subsets)
    queue = make_queue(runs, request, on_cpu=core_count(), progress=progress)
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

    Finished runs are reused and interrupted ones continued. A run that fails is reported and what
    does not depend on it is trained. The release is written once all runs of the networks that
    ship are there; it, the predictions and the card are each whole or not there, and what is
    there already is kept.

    Args:
        request: What to make.
        prepared: What ``prepare_release`` returned for it, where it was called before.
        watch: Called about once a second while runs are trained.
        stage: Called when a stage begins.
        command: What the process of a run runs.

    Raises:
        ConfigError: See ``prepare_release``; or the deadline leaves no time for one epoch.
        DermfuseError: The release cannot be built.
    """
    announce = stage or (lambda *_: None)
    prepared = prepared or prepare_release(request)
    queue = prepared.queue
    waiting = [run for run in survey(queue.runs, request) if run.state == "waiting"]
    require_time(queue, request.minutes)
    request.open(what="release")
    announce(f"training {len(waiting)} of {len(queue.runs)} runs", 1, 4)
    ended = train_queue(queue, request, watch=watch, command=command)
    states = {run.name: run.state for run in ended}
    shipping = [network for network in prepared.networks if network.whole]
    if any(states[run.name] not in DONE for network in shipping for run in network.all):
        return MakeReport(ended, None, {})
    release = _build(request, prepared.plan, shipping, announce)
    written = {"release": request.out / RELEASE_FOLDER}
    if blind := _predict(request, announce):
        written["blind"] = blind
    announce("writing the model card", 4, 4)
    written["card"] = page = request.out / CARD_NAME
    if not page.is_file():
        sources = CardSources(release=request.out / RELEASE_FOLDER, data=request.data)
        write_card_page(gather_card(sources), page)
    return MakeReport(ended, release, written)


def _build_release(
    request: ReleaseRequest,
    classes: Sequence[_Shipping],
    masks: Sequence[_Shipping],
    subsets: Mapping[str, frozenset[str]],
    out: Path,
    announce: Stage,
) -> Release:
    data, precision, looks = request.data, request.precision, request.looks
    finals = [final for final, _ in (*classes, *masks)]
    announce("exporting the networks", 1, _STAGES)
    cards = {one.run: export_shipped(one, data, out, precision=precision) for one in finals}
    class_cards, mask_cards = ([cards[one.run] for one, _ in part] for part in (classes, masks))
    with TemporaryDirectory(prefix="dermfuse-folds-") as temporary:
        class_folds, mask_folds = (
            [export_folds(of, data, Path(temporary), precision=precision) for _, of in part]
            for part in (classes, masks)
        )
        announce("asking the folds", 2, _STAGES)
        asked = ask_folds(class_folds, looks=looks)
        announce("outlining", 3, _STAGES)
        outlining = make_mask_release(mask_cards, mask_folds, looks=looks, subsets=subsets)
    announce("fitting the gate", 4, _STAGES)
    lesions = split_lesions(finals[0], data, "train")
    scoring = [load_network(out / f"{card.name}.json", threads=1) for card in class_cards]
    gate, withheld = fit_gate(asked, scoring, lesions, out, looks=looks)
    announce("fusing, calibrating and measuring", 5, _STAGES)
    scored, out_of_fold = make_class_release(
        class_cards, asked, withheld, looks=looks, weights=request.weights, subsets=subsets
    )
    facts = _facts(finals, request, gate)
    release = Release(request.name, scored, outlining, gate, looks, facts)
    write_scores(out / OUT_OF_FOLD_NAME, out_of_fold)
    write_release(out, release)
    return release


def _folds_of(final: TrainedNetwork, folds: Sequence[TrainedNetwork]) -> list[TrainedNetwork]:
    """Returns the folds of a network's recipe, those of its name, in the order of the folds."""
    chosen = [fold for fold in folds if fold.config.name == final.config.name]
    for fold in chosen:
        require_recipe(final, fold)
    if not chosen:
        raise ExportError(
            f"{final.run} has no folds",
            expected=f"runs of {final.config.name} that held images back",
            action="Train some with: dermfuse train --set data.folds=3 --set data.fold=0",
        )
    return sorted(chosen, key=lambda fold: fold.config.data.fold)


def _by_task(networks: Sequence[_Shipping]) -> tuple[list[_Shipping], list[_Shipping]]:
    """Returns those that score and those that outline.

    Raises:
        ExportError: Two have one name; there are none of a kind, or one is of both kinds.
    """
    names = [final.config.name for final, _ in networks]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ExportError(
            f"two of the networks that ship are called {twice[0]}",
            expected="one network of each name, by which its folds are known",
            action="Give one of them another name in its config.toml",
        )
    classes, masks, joint = (
        [pair for pair in networks if pair[0].config.model.task == task]
        for task in ("classification", "segmentation", "joint")
    )
    if not classes or not masks or joint:
        raise ExportError(
            f"{len(classes)} networks that score, {len(masks)} that outline and {len(joint)} that"
            " do both",
            expected="one or more that score, one or more that outline, and none that does both",
        )
    return classes, masks


def _labels(folds: Sequence[TrainedNetwork], data: DataFolders) -> dict[str, bool]:
    held_back = [lesion for fold in folds for lesion in split_lesions(fold, data, "validation")]
    return {x.image_id: bool(x.label) for x in held_back if x.label is not None}


def _facts(
    finals: Sequence[TrainedNetwork], request: ReleaseRequest, gate: Gate
) -> Mapping[str, Any]:
    recipes = {final.config.name: final.config.to_mapping() for final in finals}
    for recipe in recipes.values():  # teachers without their folders
        recipe["train"]["teachers"] = [Path(each).name for each in recipe["train"]["teachers"]]
    return {
        "precision": request.precision,
        "weights": request.weights,
        "data": name_folders(request.data),
        "fold_runs": [run.resolve().name for run in request.folds],
        "recipes": recipes,
        "told_apart": dict(gate.measured),
        "measured_on": environment(),
    }


def _require_own(request: MakeRequest, plan: ReleasePlan, networks: Sequence[NetworkRuns]) -> None:
    """Refuses a folder that holds a release, predictions or a card that are not the plan's."""
    out = request.out / RELEASE_FOLDER
    if not (out / RELEASE_NAME).is_file():
        require_free(out, what="release")
        for made in (request.out / BLIND_FOLDER, request.out / CARD_NAME):
            if made.is_file() or (made.is_dir() and any(made.iterdir())):
                raise _other_release(made, "a release that is there no more")
        return
    runs = tuple(chain.from_iterable(network.all for network in networks))
    if any(run.state == "waiting" for run in survey(runs, request)):
        raise _other_release(out, "other runs than the plan now trains")
    release = read_release(out)
    keys = ("name", "looks", "precision", "weights")
    now = {key: getattr(plan, key) for key in keys}
    now["fold_runs"] = [run.name for each in networks if each.whole for run in each.folds]
    then = {**release.facts, "name": release.name, "looks": release.looks}
    for key, value in now.items():
        if then.get(key, value) != value:  # an older release does not say all of them
            raise _other_release(out, f"a plan with {key} {then[key]}, which is {value} now")
    reported = release.classes.measured.get("subsets", {})
    if lacking := sorted(read_subsets(request.report_on).keys() - reported.keys()):
        raise _other_release(out, f"the same runs without a report on {lacking[0]}")


def _other_release(made: Path, of: str) -> RunError:
    return RunError(
        f"{made} was made of {of}",
        expected="what this plan makes, or nothing yet",
        action=f"Move {RELEASE_FOLDER}, {BLIND_FOLDER} and {CARD_NAME} away, or choose another"
        " --out",
    )


def _require_measurable(
    networks: Sequence[NetworkRuns],
    select: Callable[[Run], TrainingSet],
    subsets: Mapping[str, frozenset[str]],
) -> None:
    """Refuses data on which what ships could be trained and not be measured."""
    held_back: dict[Task, dict[str, list[tuple[str, ...]]]] = {}
    for network in (each for each in networks if each.whole):
        task, name = network.folds[0].config.model.task, network.network.name
        sides = [select(run).split.validation for run in network.folds]
        held_back.setdefault(task, {})[name] = sides
    (first, sides), *others = held_back["classification"].items()
    for name, of_other in others:
        if of_other != sides:
            raise DataError(
                f"{first} and {name} hold back different images",
                expected="the same ones, on which their scores are fused",
                action="Give both the same leave_out in the plan",
            )
    if not set.intersection(
        *(set(chain.from_iterable(each)) for each in held_back["segmentation"].values())
    ):
        raise DataError(
            f"{', '.join(held_back['segmentation'])} hold back no mask together",
            expected="masks on which their mean is measured",
            action="Give them the same folds in the plan",
        )
    scoring = next(each for each in networks if each.network.name == first)
    known = [select(run) for run in scoring.folds]
    labels = {
        x.image_id: bool(x.label)
        for chosen in known
        for x in chosen.lesions
        if x.image_id in chosen.split.validation
    }
    require_subsets(subsets, labels)


def _read_ids(path: Path) -> frozenset[str]:
    if path.is_dir():
        return frozenset(lesion.image_id for lesion in load_isic2016(path, "train").lesions)
    lines = read_lines(path, action="Name a dataset folder or a CSV of image ids")
    column, rows = 0, [row for _, row in lines]
    names = [field.lower() for field in rows[0]] if rows else []
    if ID_COLUMN in names:
        column, rows = names.index(ID_COLUMN), rows[1:]
    elif names and OTHER_ID_COLUMNS.intersection(names):
        raise DataError(
            f"{path}, line {lines[0][0]}: no {ID_COLUMN} column in the header {','.join(names)}",
            expected=f"a column {ID_COLUMN}, or ids alone",
            action="Correct the header",
        )
    ids = frozenset(row[column].upper() for row in rows if len(row) > column and row[column])
    if not ids:
        raise DataError(f"{path} names no image", expected="an image id in each line")
    return ids


def _build(
    request: MakeRequest, plan: ReleasePlan, shipping: Sequence[NetworkRuns], announce: Stage
) -> Release:
    out = request.out / RELEASE_FOLDER
    if (out / RELEASE_NAME).is_file():
        return read_release(out)
    return build_release(
        ReleaseRequest(
            runs=[request.run_folder(network.whole) for network in shipping if network.whole],
            folds=[request.run_folder(run) for network in shipping for run in network.folds],
            data=request.data,
            out=out,
            name=plan.name,
            precision=plan.precision,
            looks=plan.looks,
            weights=plan.weights,
            report_on=request.report_on,
        ),
        stage=lambda what, number, count: announce(f"release, {what} ({number} of {count})", 2, 4),
    )


def _predict(request: MakeRequest, announce: Stage) -> Path | None:
    """Returns the packed predictions of the test images; None where there are none."""
    out = request.out / BLIND_FOLDER
    if out.is_dir() and any(out.iterdir()):  # an empty one was left by a kill
        return out
    if not has_split(request.data, "test"):
        return None
    images = [str(lesion.image_path) for lesion in load_dataset(request.data, "test").lesions]
    announce("predicting the test images", 3, 4)
    analyzer = Analyzer(request.out / RELEASE_FOLDER, score_all=True)
    options = BulkOptions(threads=core_count(), report=False, masks=True)
    with TemporaryDirectory(prefix="dermfuse-blind-") as temporary:
        results = Path(temporary) / "results"
        outcome = analyze_paths(analyzer, images, results, options=options)
        for name, error in outcome.errors:
            raise DataError(
                f"the test image {name} cannot be predicted ({error.rstrip('.')})",
                expected="test images that can be read",
                action="Correct or remove it; the same command continues",
            )
        pack_results(results, out)
    return out
