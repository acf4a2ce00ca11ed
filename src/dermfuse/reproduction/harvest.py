"""From finished runs to predictions folders: each run, the folds joined, networks fused.

    OUT/predictions/<run>/<part>             of one run
    OUT/predictions/<source>-seed0/<part>    of a row: folds joined, networks fused or averaged
    OUT/blind/<run or row>/                  test predictions, packed

with part ``validation`` or ``test``. A folder that is younger than what it is made from is kept,
an older one is made anew.
"""

import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from dermfuse.data.folders import DataFolders, Truth, has_split
from dermfuse.errors import DermfuseError
from dermfuse.folders import is_fresh
from dermfuse.jobs.trainings import Run, Workplace
from dermfuse.predictions.folder import MANIFEST_NAME
from dermfuse.predictions.fusion import FitOn, average, fuse, join
from dermfuse.predictions.packing import pack
from dermfuse.reproduction.paper import Fusion, fusion_of
from dermfuse.reproduction.plan import Plan, split_source
from dermfuse.training.prediction import keep_predictions, pack_run, predict_part

_LOG = logging.getLogger(__name__)

Part = Literal["validation", "test"]
_TASKS = frozenset({"classification", "segmentation"})

VALIDATION: Part = "validation"
TEST: Part = "test"


@dataclass(slots=True)
class Harvest:
    """Predictions of the rows of a plan.

    Args:
        plan: Whose rows.
        place: Where the runs lie.
        finished: Names of the runs to predict with; a row that lacks one has no predictions.
        stopped: Those of them that are not trained to their end.
        failures: Filled with what could not be predicted, and why.
        made: Filled with the predictions folders of each row that was asked for.
    """

    plan: Plan
    place: Workplace
    finished: frozenset[str]
    stopped: frozenset[str] = frozenset()
    failures: dict[str, str] = field(default_factory=dict)
    made: dict[str, tuple[Path, ...]] = field(default_factory=dict)

    def replicates(self, source: str, part: Part) -> tuple[Path, ...]:
        """Returns the predictions folders that a row's number is the mean over; () without runs.

        On validation there is one per seed: out of fold and joined, so that every training image
        is predicted once. On the test split there is one per trained network.

        Args:
            source: A preset, a fusion or a variation.
            part: ``validation`` or ``test``.
        """
        try:
            found = self._validations(source) if part == VALIDATION else self._tests(source)
        except DermfuseError as error:
            self._fail(f"{source}, {part}", error)
            return ()
        there = tuple(folder for folder in found if folder is not None)
        self.made[source] = there if len(there) == len(found) else ()
        return self.made[source]

    def pack_tests(self) -> tuple[Path, ...]:
        """Packs the test predictions of every run, ensemble of folds and fusion; returns where.

        A run that is not trained to its end is not packed.
        """
        packed = [
            self._packed(run.name, partial(self._of_run, run, TEST))
            for run in self.plan.runs
            if run.name in self.finished - self.stopped
        ]
        packed += [
            self._packed(f"{source}-seed{seed}", partial(self._whole_test, source, seed))
            for source in self.plan.sources
            for seed in range(self.plan.seeds)
            if split_source(source)[1] is None and (self.plan.folds_of(source) or fusion_of(source))
        ]
        return tuple(folder for folder in packed if folder is not None)

    def of_run(self, run: Run) -> Path:
        """Returns the validation predictions of one finished run.

        Raises:
            DermfuseError: It cannot be predicted with.
        """
        return self._of_run(run, VALIDATION)

    def _fail(self, what: str, error: DermfuseError) -> None:
        self.failures[what] = str(error)
        _LOG.warning("%s: %s", what, error)

    def _packed(self, name: str, make: Callable[[], Path | None]) -> Path | None:
        out = self.place.out / "blind" / name
        try:
            folder = make()
            if folder is None:
                return None
            if not is_fresh(out / "run.json", [folder / MANIFEST_NAME]):
                if out.exists():  # ours, and out of date
                    shutil.rmtree(out)
                run = self.place.out / "runs" / name
                pack_run(folder, out, run=run) if run.is_dir() else pack(folder, out)
        except DermfuseError as error:
            self._fail(f"{name}, {TEST}, packed", error)
            return None
        return out

    def _runs(self, preset: str, seed: int) -> tuple[Run, ...]:
        """Returns the runs of a row; none where one of them is not finished."""
        runs = self.plan.runs_of(preset, seed)
        return runs if all(run.name in self.finished for run in runs) else ()

    def _validations(self, source: str) -> list[Path | None]:
        preset, how = split_source(source)
        if how == "folds":  # all folds but one were trained on the image
            return []
        if how == "seeds":
            members = [self._validation(preset, seed) for seed in range(self.plan.seeds)]
            return [self._averaged(source, VALIDATION, members)]
        return [self._validation(source, seed) for seed in range(self.plan.seeds)]

    def _validation(self, source: str, seed: int) -> Path | None:
        """Returns the validation predictions of one seed, out of fold and joined."""
        fusion = fusion_of(source)
        if fusion is None:
            preset, how = split_source(source)
            folders = [
                self._of_run(run, VALIDATION, tta=how == "tta") for run in self._runs(preset, seed)
            ]
            return self._joined(f"{source}-seed{seed}", VALIDATION, folders)
        if fusion.fitted and self.plan.folds_of(source):
            return self._cross_fitted(fusion, seed)
        a, b = (self._validation(preset, seed) for preset in (fusion.a, fusion.b))
        if a is None or b is None:
            return None
        fit = (a, b) if fusion.fitted else None
        return self._fuse_folders(f"{source}-seed{seed}", VALIDATION, (a, b), fit)

    def _tests(self, source: str) -> list[Path | None]:
        preset, how = split_source(source)
        seeds, folds = range(self.plan.seeds), range(max(self.plan.folds_of(source), 1))
        if how == "folds":
            return [self._whole_test(preset, seed) for seed in seeds]
        if how == "seeds":
            return [
                self._averaged(
                    f"{source}-fold{fold + 1}",
                    TEST,
                    [self._test(preset, seed, fold) for seed in seeds],
                )
                for fold in folds
            ]
        return [self._test(source, seed, fold) for seed in seeds for fold in folds]

    def _test(self, source: str, seed: int, fold: int) -> Path | None:
        """Returns the test predictions of one network, or of the fusion of two."""
        fusion = fusion_of(source)
        if fusion is None:
            preset, how = split_source(source)
            runs = self._runs(preset, seed)
            return self._of_run(runs[fold], TEST, tta=how == "tta") if runs else None
        runs_a, runs_b = (self._runs(preset, seed) for preset in (fusion.a, fusion.b))
        if not (runs_a and runs_b):
            return None
        pair = runs_a[fold], runs_b[fold]
        a, b = (self._of_run(run, TEST) for run in pair)
        on: tuple[Path, Path] | None = None
        if fusion.fitted:
            on = self._of_run(pair[0], VALIDATION), self._of_run(pair[1], VALIDATION)
        return self._fuse_folders(f"{source}-seed{seed}-fold{fold + 1}", TEST, (a, b), on)

    def _whole_test(self, source: str, seed: int) -> Path | None:
        """Returns the test predictions of all folds as one, or of the fusion of two such."""
        fusion = fusion_of(source)
        if fusion is None:
            folders: list[Path | None] = [
                self._of_run(run, TEST) for run in self._runs(source, seed)
            ]
            return self._averaged(f"{source}-seed{seed}", TEST, folders)
        a, b = (self._whole_test(preset, seed) for preset in (fusion.a, fusion.b))
        if a is None or b is None:
            return None
        on: tuple[Path, Path] | None = None
        if fusion.fitted:
            fit_a, fit_b = (self._validation(preset, seed) for preset in (fusion.a, fusion.b))
            if fit_a is None or fit_b is None:
                return None
            on = fit_a, fit_b
        return self._fuse_folders(f"{source}-seed{seed}", TEST, (a, b), on)

    def _of_run(self, run: Run, part: Part, *, tta: bool = False) -> Path:
        name = f"{part}-tta" if tta else part
        folder, out = self.place.run_folder(run), self.place.predictions_folder(run)
        return predict_part(folder, name, data=self.place.data, out=out)

    def _joined(self, name: str, part: str, folders: Sequence[Path]) -> Path | None:
        if len(folders) < 2:
            return folders[0] if folders else None
        out = self.place.out / "predictions" / name / part
        return keep_predictions(out, _manifests(folders), lambda: join(folders, out))

    def _averaged(self, name: str, part: str, folders: Sequence[Path | None]) -> Path | None:
        there = [folder for folder in folders if folder is not None]
        if not there or len(there) < len(folders):
            return None
        if len(there) == 1:
            return there[0]
        out = self.place.out / "predictions" / name / part
        return keep_predictions(out, _manifests(there), lambda: average(there, out))

    def _cross_fitted(self, fusion: Fusion, seed: int) -> Path | None:
        """Returns the fusion of each fold by the weight that does best on the other folds."""
        of_a, of_b = (
            [self._of_run(run, VALIDATION) for run in self._runs(preset, seed)]
            for preset in (fusion.a, fusion.b)
        )
        if not (of_a and of_b):
            return None
        parts = []
        for fold, pair in enumerate(zip(of_a, of_b, strict=True)):
            left_out = f"{VALIDATION}-without-fold{fold + 1}"
            others_a, others_b = (
                self._joined(f"{preset}-seed{seed}", left_out, [*of[:fold], *of[fold + 1 :]])
                for preset, of in ((fusion.a, of_a), (fusion.b, of_b))
            )
            name = f"{fusion.name}-seed{seed}-fold{fold + 1}"
            fit = (others_a, others_b) if others_a and others_b else None
            parts.append(self._fuse_folders(name, VALIDATION, pair, fit))
        return self._joined(f"{fusion.name}-seed{seed}", VALIDATION, parts)

    def _fuse_folders(
        self, name: str, part: str, folders: tuple[Path, Path], fit: tuple[Path, Path] | None
    ) -> Path:
        out = self.place.out / "predictions" / name / part
        on = FitOn(*fit, truth=self.place.data) if fit else None
        made_from = _manifests([*folders, *(fit or ())])
        return keep_predictions(out, made_from, lambda: fuse(*folders, out, fit=on))


def has_test_images(data: DataFolders) -> bool:
    """Returns whether there is a test split to predict."""
    return has_split(data, "test")


def parts_to_predict(
    plan: Plan, *, test_tasks: AbstractSet[str], tests: bool
) -> Mapping[str, tuple[str, ...]]:
    """Returns what each run predicts when it is trained, by name: ``training.prediction.PARTS``.

    Args:
        plan: Whose runs.
        test_tasks: The tasks that are measured on the test set; the others on validation.
        tests: Whether every run predicts the test images, for scoring elsewhere.
    """
    doubled = {
        run.name
        for (preset, _), runs in plan.needs.items()
        if f"{preset}+tta" in plan.sources
        for run in runs
    }
    found = {}
    for run in plan.runs:
        task, by_image = run.config.model.task, run.config.data.split != "paper"
        tasks = _TASKS if task == "joint" else {task}
        parts: list[str] = [VALIDATION] if by_image and run.config.data.validates else []
        parts += [TEST] if tests or (by_image and tasks & test_tasks) else []
        if run.name in doubled:
            parts += [f"{VALIDATION}-tta"] if tasks - test_tasks else []
            parts += [f"{TEST}-tta"] if tasks & test_tasks else []
        found[run.name] = tuple(parts)
    return found


def tasks_with_test_truth(truth: Truth) -> frozenset[str]:
    """Returns the tasks whose truth is there for the whole test split."""
    found = {
        "classification": _covers(truth.labels.keys(), truth),
        "segmentation": _covers(truth.masks.keys(), truth),
    }
    return frozenset(task for task, there in found.items() if there)


def _covers(with_truth: AbstractSet[str], truth: Truth) -> bool:
    return bool(truth.complete) and truth.complete <= with_truth


def _manifests(folders: Sequence[Path]) -> list[Path]:
    return [folder / MANIFEST_NAME for folder in folders]
