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
from typing import Literal, TypeVar

from dermfuse.data.folders import Truth
from dermfuse.errors import DermfuseError
from dermfuse.predictions.folder import MANIFEST_NAME, pack
from dermfuse.predictions.fusion import FitOn, average, fuse, join
from dermfuse.records.folders import is_fresh
from dermfuse.reproduction.paper import FUSIONS, Fusion
from dermfuse.reproduction.plan import Plan, split_source
from dermfuse.training.jobs import Run, Workplace
from dermfuse.training.prediction import keep_predictions, pack_run, predict_part

_LOG = logging.getLogger(__name__)

Part = Literal["validation", "test"]
TASKS = frozenset({"classification", "segmentation"})

VALIDATION: Part = "validation"
TEST: Part = "test"

_Made = TypeVar("_Made")


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
        made = self.attempt(f"{source}, {part}", lambda: self._replicates(source, part)) or ()
        self.made[source] = made
        return made

    def pack_tests(self) -> tuple[Path, ...]:
        """Packs the test predictions of every run, ensemble of folds and fusion; returns where.

        A run that is not trained to its end is not packed.
        """
        makers: dict[str, Callable[[], Path]] = {
            run.name: partial(self.of_run, run, TEST)
            for run in self.plan.runs
            if run.name in self.finished - self.stopped
        }
        makers |= {
            f"{source}-seed{seed}": partial(self._of_seed, source, seed, TEST)
            for source in self.plan.sources
            for seed in range(self.plan.seeds)
            if split_source(source)[1] is None and (self.plan.folds_of(source) or source in FUSIONS)
        }
        packed = (
            self.attempt(f"{name}, {TEST}, packed", partial(self._packed, name, make))
            for name, make in makers.items()
        )
        return tuple(folder for folder in packed if folder)

    def attempt(self, what: str, make: Callable[[], _Made]) -> _Made | None:
        """Returns what is made; None where a run lacks, or where making it fails.

        Args:
            what: Under which a failure is noted.
            make: Makes it.
        """
        try:
            return make()
        except _Untrained:
            return None
        except DermfuseError as error:
            self.failures[what] = str(error)
            _LOG.warning("%s: %s", what, error)
            return None

    def of_run(self, run: Run, part: Part = VALIDATION, *, tta: bool = False) -> Path:
        """Returns the predictions of one finished run.

        Args:
            run: A finished run of the plan.
            part: ``validation`` or ``test``.
            tta: Whether its network looks eight times.

        Raises:
            DermfuseError: It cannot be predicted with.
        """
        name = f"{part}-tta" if tta else part
        folder, out = self.place.run_folder(run), self.place.predictions_folder(run)
        return predict_part(folder, name, data=self.place.data, out=out)

    def _packed(self, name: str, make: Callable[[], Path]) -> Path:
        out, run = (self.place.out / part / name for part in ("blind", "runs"))
        folder = make()
        if not is_fresh(out / "run.json", [folder / MANIFEST_NAME]):
            if out.exists():  # ours, and out of date
                shutil.rmtree(out)
            pack_run(folder, out, run=run) if run.is_dir() else pack(folder, out)
        return out

    def _replicates(self, source: str, part: Part) -> tuple[Path, ...]:
        preset, how = split_source(source)
        if how == "folds" and part == VALIDATION:  # all folds but one were trained on the image
            return ()
        is_whole = part == VALIDATION or how == "folds"
        folds = [None] if is_whole else range(max(self.plan.folds_of(source), 1))
        seeds = range(self.plan.seeds)
        if how == "seeds":
            each = {
                _named(source, fold): [self._of_seed(preset, seed, part, fold) for seed in seeds]
                for fold in folds
            }
            return tuple(self._joined(name, part, of, average) for name, of in each.items())
        asked = source if how == "tta" else preset
        return tuple(self._of_seed(asked, seed, part, fold) for seed in seeds for fold in folds)

    def _of_seed(self, source: str, seed: int, part: Part, fold: int | None = None) -> Path:
        """Returns what a preset or a fusion predicts with one seed: one fold, or all as one.

        Of validation all folds are joined, as each has predicted other images; of the test split
        they are averaged.
        """
        fusion, name = FUSIONS.get(source), _named(f"{source}-seed{seed}", fold)
        if fusion is None:
            preset, how = split_source(source)
            runs = self.plan.needs[preset, seed]
            if not all(run.name in self.finished for run in runs):
                raise _Untrained
            asked = runs if fold is None else runs[fold : fold + 1]
            folders = [self.of_run(run, part, tta=how == "tta") for run in asked]
            return self._joined(name, part, folders, join if part == VALIDATION else average)
        if part == VALIDATION and fusion.fitted and self.plan.folds_of(source):
            return self._cross_fitted(source, fusion, seed)
        pair = [self._of_seed(preset, seed, part, fold) for preset in fusion.presets]
        fitted_on = fusion.presets if fusion.fitted else ()
        fit = [self._of_seed(preset, seed, VALIDATION, fold) for preset in fitted_on]
        return self._fused(name, part, pair, fit)

    def _cross_fitted(self, source: str, fusion: Fusion, seed: int) -> Path:
        """Returns the fusion of each fold by the weight that does best on the other folds."""
        name = f"{source}-seed{seed}"
        folds = range(self.plan.folds_of(source))
        each = [
            [self._of_seed(preset, seed, VALIDATION, fold) for fold in folds]
            for preset in fusion.presets
        ]
        parts = []
        for fold, pair in enumerate(zip(*each, strict=True)):
            left_out = f"{VALIDATION}-without-fold{fold + 1}"
            others = [
                self._joined(f"{preset}-seed{seed}", left_out, [*of[:fold], *of[fold + 1 :]], join)
                for preset, of in zip(fusion.presets, each, strict=True)
            ]
            parts.append(self._fused(_named(name, fold), VALIDATION, pair, others))
        return self._joined(name, VALIDATION, parts, join)

    def _joined(
        self,
        name: str,
        part: str,
        folders: Sequence[Path],
        how: Callable[[Sequence[Path], Path], object],
    ) -> Path:
        """Returns several predictions folders as one; one alone as it is."""
        if len(folders) == 1:
            return folders[0]
        out = self.place.out / "predictions" / name / part
        return keep_predictions(out, _manifests(folders), lambda: how(folders, out))

    def _fused(self, name: str, part: str, pair: Sequence[Path], fit: Sequence[Path]) -> Path:
        """Returns the fusion of two folders, by the plain mean or by the weight fitted on two."""
        out = self.place.out / "predictions" / name / part
        on = FitOn(fit[0], fit[1], truth=self.place.data) if fit else None
        return keep_predictions(
            out, _manifests([*pair, *fit]), lambda: fuse(pair[0], pair[1], out, fit=on)
        )


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
        tasks = TASKS if task == "joint" else {task}
        on_test, is_doubled = tasks & test_tasks, run.name in doubled
        asked = {
            VALIDATION: by_image,
            TEST: tests or (by_image and on_test),
            f"{VALIDATION}-tta": is_doubled and tasks - test_tasks,
            f"{TEST}-tta": is_doubled and on_test,
        }
        found[run.name] = tuple(part for part, is_asked in asked.items() if is_asked)
    return found


def tasks_with_test_truth(truth: Truth) -> frozenset[str]:
    """Returns the tasks whose truth is there for the whole test split."""
    known = {"classification": truth.labels.keys(), "segmentation": truth.masks.keys()}
    complete = truth.complete
    return frozenset(task for task, ids in known.items() if complete and complete <= ids)


class _Untrained(Exception):  # noqa: N818 — no error: such a row has no predictions
    """A row lacks a run."""


def _named(name: str, fold: int | None) -> str:
    return name if fold is None else f"{name}-fold{fold + 1}"


def _manifests(folders: Sequence[Path]) -> list[Path]:
    return [folder / MANIFEST_NAME for folder in folders]
