"""A release from runs: networks trained on all images, measured by those trained in folds."""

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermfuse.analysis.networks import load_network
from dermfuse.data.folders import DataFolders, name_folders
from dermfuse.errors import ExportError
from dermfuse.looks import Looks
from dermfuse.release.cards import Precision
from dermfuse.release.folder import OUT_OF_FOLD_NAME, Gate, Release, write_release
from dermfuse.runs import environment, whole_folder
from dermfuse.scores import write_scores
from dermfuse.shipping.classes import make_class_release
from dermfuse.shipping.gate import fit_gate
from dermfuse.shipping.masks import make_mask_release
from dermfuse.shipping.out_of_fold import (
    ask_fold,
    export_folds,
    export_shipped,
    require_recipe,
)
from dermfuse.shipping.subsets import read_subsets, require_subsets
from dermfuse.training.prediction import TrainedNetwork, load_run, split_lesions

Stage = Callable[[str, int, int], None]
"""Called with (what begins, its number from 1, how many)."""

_STAGES = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleaseRequest:
    """What shall be released.

    Args:
        runs: The networks that ship, any number: one or more score, one or more outline.
        folds: Runs of the same presets, trained in folds; all that is measured comes from them.
        data: The dataset folder, or several.
        out: The release folder; new.
        name: Of the release.
        precision: Of the networks.
        looks: At how many orientations of an image they look.
        report_on: Folders, or lists of image ids, whose images are measured apart as well.
    """

    runs: Sequence[Path]
    folds: Sequence[Path]
    data: DataFolders
    out: Path
    name: str
    precision: Precision = "int8-weights"
    looks: Looks = 1
    report_on: Sequence[Path] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        for name in ("runs", "folds", "report_on"):
            object.__setattr__(self, name, [Path(each) for each in getattr(self, name)])


def build_release(request: ReleaseRequest, *, stage: Stage | None = None) -> Release:
    """Writes a release folder and returns its record.

    Of a pair network the mean of both class heads ships: what ships validated on nothing, so there
    is no better one to choose, and none is chosen in the folds either.

    Args:
        request: What shall be released.
        stage: Called when a stage begins.

    Raises:
        ExportError: There is none that scores or none that outlines, a network has no folds, or
            they were trained in another way.
        DermfuseError: A run, the data or the folder cannot be used.
    """
    announce = stage or (lambda *_: None)
    subsets = read_subsets(request.report_on)
    finals = [load_run(run, mean_head=True) for run in request.runs]
    folds = [load_run(run, mean_head=True) for run in request.folds]
    groups = {final.run: _folds_of(final, folds) for final in finals}
    _require_names(finals)
    classes = [final for final in finals if final.config.model.task == "classification"]
    masks = [final for final in finals if final.config.model.task == "segmentation"]
    _require_both(finals, classes, masks)
    if subsets:
        require_subsets(subsets, _labels(groups[classes[0].run], request.data))
    with whole_folder(request.out, what="release") as out:
        return _build(request, groups, classes, masks, out, announce, subsets)


def _build(
    request: ReleaseRequest,
    groups: Mapping[Path, Sequence[TrainedNetwork]],
    classes: Sequence[TrainedNetwork],
    masks: Sequence[TrainedNetwork],
    out: Path,
    announce: Stage,
    subsets: Mapping[str, frozenset[str]],
) -> Release:
    finals, looks = [*classes, *masks], request.looks
    announce("exporting the networks", 1, _STAGES)
    cards = {
        final.run: export_shipped(final, request.data, out, precision=request.precision)
        for final in finals
    }
    with tempfile.TemporaryDirectory(prefix="dermfuse-folds-") as temporary:
        exported = {
            run: export_folds(folds, request.data, Path(temporary), precision=request.precision)
            for run, folds in groups.items()
        }
        announce("asking the folds", 2, _STAGES)
        asked = [[ask_fold(fold, looks=looks) for fold in exported[one.run]] for one in classes]
        announce("outlining", 3, _STAGES)
        mask_release = make_mask_release(
            [(cards[one.run], exported[one.run]) for one in masks], looks=looks, subsets=subsets
        )
    announce("fitting the gate", 4, _STAGES)
    lesions = split_lesions(classes[0], request.data, "train")
    networks = [load_network(out / f"{cards[one.run].name}.json", threads=1) for one in classes]
    fitted = fit_gate(asked, networks, lesions, out, looks=looks)
    announce("fusing, calibrating and measuring", 5, _STAGES)
    fused = make_class_release(
        [(cards[one.run], folds) for one, folds in zip(classes, asked, strict=True)],
        looks=looks,
        subsets=subsets,
        withheld=fitted.withheld,
    )
    release = Release(
        name=request.name,
        classes=fused.release,
        masks=mask_release,
        gate=fitted.gate,
        looks=looks,
        facts=_facts(finals, request, fitted.gate),
    )
    write_scores(out / OUT_OF_FOLD_NAME, fused.out_of_fold)
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


def _require_names(finals: Sequence[TrainedNetwork]) -> None:
    names = [final.config.name for final in finals]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ExportError(
            f"two of the networks that ship are called {twice[0]}",
            expected="one network of each name, by which its folds are known",
            action="Give one of them another name in its config.toml",
        )


def _require_both(
    finals: Sequence[TrainedNetwork],
    classes: Sequence[TrainedNetwork],
    masks: Sequence[TrainedNetwork],
) -> None:
    if not classes or not masks or len(classes) + len(masks) < len(finals):
        joint = len(finals) - len(classes) - len(masks)
        raise ExportError(
            f"{len(classes)} networks that score, {len(masks)} that outline and {joint} that do"
            " both",
            expected="one or more that score, one or more that outline, and none that does both",
        )


def _labels(folds: Sequence[TrainedNetwork], data: DataFolders) -> dict[str, bool]:
    held_back = [lesion for fold in folds for lesion in split_lesions(fold, data, "validation")]
    return {x.image_id: bool(x.label) for x in held_back if x.label is not None}


def _facts(
    finals: Sequence[TrainedNetwork], request: ReleaseRequest, gate: Gate
) -> Mapping[str, Any]:
    return {
        "precision": request.precision,
        "data": name_folders(request.data),
        "fold_runs": [run.resolve().name for run in request.folds],
        "recipes": {final.config.name: _recipe(final) for final in finals},
        "told_apart": dict(gate.measured),
        "measured_on": environment(),
    }


def _recipe(trained: TrainedNetwork) -> dict[str, Any]:
    """Returns a configuration whose teachers are named without their folders."""
    mapping = trained.config.to_mapping()
    teachers = trained.config.train.teachers
    mapping["train"]["teachers"] = [Path(teacher).name for teacher in teachers]
    return mapping
