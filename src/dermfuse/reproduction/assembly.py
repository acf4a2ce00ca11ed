"""Ours beside the paper's: from predictions and run records to the tables of an outcome.

Numbers of parameters and file sizes are counted from the networks themselves.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from dermfuse.config import ModelConfig, Task
from dermfuse.data.folders import Truth
from dermfuse.models import build_network, count_parameters
from dermfuse.models.classifier import DiscriminantNetwork
from dermfuse.records.folders import RunFolder
from dermfuse.report.page import say
from dermfuse.reproduction.harvest import TEST, VALIDATION, Harvest
from dermfuse.reproduction.measurement import (
    Replicate,
    compare_drawn,
    draw_folder,
    holm,
    measure,
    noise_margin,
    paper_error,
)
from dermfuse.reproduction.outcome import (
    Comparison,
    ContrastResult,
    Leakage,
    Provenance,
    RowResult,
    TableResult,
)
from dermfuse.reproduction.page import WORDS
from dermfuse.reproduction.paper import TESTED, Contrast, Metric, PaperRow, PaperTable
from dermfuse.reproduction.plan import changes
from dermfuse.training.jobs import Run
from dermfuse.training.queue import TrainingImages, count_samples

_MIB = 2**20
_FLOAT32_BYTES = 4


def measure_size(model: ModelConfig) -> tuple[int, float]:
    """Returns parameters and MiB of the network that a configuration names.

    Parameters are counted as the paper does: those that are trained of a pair network, all
    (BatchNorm statistics included) of any other. The file is float32, of what is deployed:
    without the discriminant branch.

    Example:
        >>> measure_size(ModelConfig())[0]
        3230914
    """
    network = build_network(model)
    paired = isinstance(network, DiscriminantNetwork)
    parameters = count_parameters(network, trainable=paired)
    deployed = network.deploy("a") if isinstance(network, DiscriminantNetwork) else network
    return parameters, _FLOAT32_BYTES * count_parameters(deployed, trainable=False) / _MIB


@dataclass(slots=True)
class Assembler:
    """Measures every row once, however many tables it stands in.

    Args:
        harvest: Makes the predictions.
        truth: Labels and masks.
        test_tasks: The tasks that are measured on the test set; the others on validation.
        draws: Bootstrap draws.
    """

    harvest: Harvest
    truth: Truth
    test_tasks: frozenset[str]
    draws: int
    _drawn: dict[tuple[str, Task], tuple[Replicate, ...]] = field(default_factory=dict)

    def table(self, table: PaperTable) -> TableResult:
        """Returns a table with what was measured in it."""
        plan, task = self.harvest.plan, table.task
        folds = plan.mask_folds if task == "segmentation" else plan.folds
        return TableResult(
            number=table.number,
            title=table.title,
            task=task,
            metrics=table.metrics,
            measured_on=say(WORDS, "measured_on", tested=task in self.test_tasks, folds=folds),
            rows=tuple(self._row(table, row) for row in table.rows),
            tests=self._tests(table),
        )

    def leakage(self) -> tuple[Leakage, ...]:
        """Returns the validation scores of both splits, of the presets whose runs are finished."""
        whole = self.harvest.finished - self.harvest.stopped
        found = (
            self.harvest.attempt(f"{preset}, leakage", partial(self._leakage_of, preset, *pair))
            for preset, pair in self.harvest.plan.leakage_pairs.items()
            if all(run.name in whole for run in pair)
        )
        return tuple(each for of_preset in found for each in of_preset or ())

    def _row(self, table: PaperTable, row: PaperRow) -> RowResult:
        drawn = self._measured(row.source, table.task) if row.source else ()
        sized = bool(row.source and (row.parameters or row.file_mb))
        first = self.harvest.plan.runs_of(row.source, 0) if sized else ()
        sizes = [measure_size(runs[0].config.model) for runs in first]
        return RowResult(
            label=row.label,
            source=row.source,
            cells=tuple(_compare(m, row.values.get(m), drawn) for m in table.metrics),
            paper_parameters=row.parameters,
            parameters=sum(count for count, _ in sizes) if sizes and row.parameters else None,
            paper_file_mb=row.file_mb,
            file_mb=round(sum(mb for _, mb in sizes), 1) if sizes and row.file_mb else None,
            provenance=self._provenance(row.source, drawn) if drawn else None,
        )

    def _measured(self, source: str, task: Task) -> tuple[Replicate, ...]:
        """Returns the draws of each replicate of a row; none where it was not run."""
        key = source, task
        if key not in self._drawn:
            draw = partial(self._draw, source, task)
            self._drawn[key] = self.harvest.attempt(f"{source}, measured", draw) or ()
        return self._drawn[key]

    def _draw(
        self, source: str, task: Task, only: frozenset[str] | None = None
    ) -> tuple[Replicate, ...]:
        part = TEST if task in self.test_tasks else VALIDATION
        return tuple(
            draw_folder(folder, self.truth, task, draws=self.draws, only=only)
            for folder in self.harvest.replicates(source, part)
        )

    def _pair(self, contrast: Contrast, task: Task) -> list[tuple[Replicate, ...]]:
        """Returns the draws of both rows, on the images that both predict."""
        sources = contrast.treated, contrast.control
        pair = [self._measured(source, task) for source in sources]
        ids = [frozenset(one.image_ids) for each in pair for one in each]
        if [len(each) for each in pair] != [1, 1] or ids[0] == ids[1]:
            return pair
        return [self._draw(source, task, ids[0] & ids[1]) for source in sources]

    def _provenance(self, source: str, drawn: Sequence[Replicate]) -> Provenance:
        plan, place = self.harvest.plan, self.harvest.place
        seeds = range(plan.seeds)
        runs = [run for seed in seeds for of in plan.runs_of(source, seed) for run in of]
        records = [RunFolder(place.run_folder(run)).read_record("epochs") for run in runs]
        epochs = [int(record["epochs"]) for record in records]
        stopped = [
            f"{run.preset} stopped after {count} of {run.config.train.epochs} epochs"
            for run, count in zip(runs, epochs, strict=True)
            if run.name in self.harvest.stopped and len(runs) > 1  # else `epochs` says it
        ]
        settings = [*stopped, *(text for run in runs for text in changes(run))]
        inits = dict.fromkeys(run.config.model.init for run in runs)
        return Provenance(
            runs=tuple(run.name for run in runs),
            seeds=plan.seeds,
            epochs=(min(epochs), max(epochs)),
            planned_epochs=max(run.config.train.epochs for run in runs),
            init=" and ".join(inits),
            settings=tuple(dict.fromkeys(settings)),
            devices=tuple(dict.fromkeys(device_of(record) for record in records)),
            data=tuple(dict.fromkeys(str(record["data"]["summary"]) for record in records)),
            seconds=round(sum(float(record["seconds"]) for record in records), 1),
            image_count=len(drawn[0].image_ids),
            malignant_count=drawn[0].malignant_count,
        )

    def _tests(self, table: PaperTable) -> tuple[ContrastResult, ...]:
        labels = {row.source: row.label for row in table.rows}
        found: list[ContrastResult] = []
        for contrast in table.contrasts:
            treated, control = self._pair(contrast, table.task)
            metrics = TESTED[table.task]
            tests = {metric: compare_drawn(treated, control, metric) for metric in metrics}
            found += [
                ContrastResult(
                    what=contrast.what,
                    treated=labels[contrast.treated],
                    control=labels[contrast.control],
                    metric=metric,
                    paper_difference=table.published_difference(contrast, metric),
                    difference=test.difference.value,
                    low=test.difference.low,
                    high=test.difference.high,
                    p_value=test.p_value,
                    corrected=1.0,
                )
                for metric, test in tests.items()
                if test and test.p_value is not None
            ]
        corrected = holm([test.p_value for test in found])
        return tuple(
            replace(test, corrected=value) for test, value in zip(found, corrected, strict=True)
        )

    def _leakage_of(self, preset: str, paper: Run, source: Run) -> list[Leakage]:
        place, task = self.harvest.place, source.config.model.task
        record, honest = (
            RunFolder(place.run_folder(run)).read_record("validation") for run in (paper, source)
        )
        folder = self.harvest.of_run(source)
        drawn = draw_folder(folder, self.truth, task, draws=self.draws)
        ours = drawn.estimates()
        return [
            Leakage(
                preset=preset,
                metric=metric,
                paper_split=float(record["validation"][metric]),
                paper_split_images=validation_samples(paper, record),
                source_split=ours[metric].value,
                source_split_images=len(drawn.image_ids),
                low=ours[metric].low,
                high=ours[metric].high,
                epochs=int(honest["epochs"]),
            )
            for metric in TESTED[task]
        ]


def validation_samples(run: Run, record: Mapping[str, Any]) -> int:
    """Returns how many augmented samples a run by the paper's split validates on."""
    data = record["data"]
    images = int(data["train_images"]) + int(data["validation_images"])
    malignant = int(data.get("malignant_images", 0))
    counted = TrainingImages(images - malignant, malignant, masks=images)
    return round(count_samples(run.config, counted) * run.config.data.validation_fraction)


def device_of(record: Mapping[str, Any]) -> str:
    """Returns what a run was trained on; empty where its record does not say."""
    if not {"device", "machine", "precision"} <= record.keys():
        return ""
    return f"{record['device']} ({record['machine']}, {record['precision']})"


def _compare(metric: Metric, paper: float | None, drawn: Sequence[Replicate]) -> Comparison:
    if not drawn:
        return Comparison(metric, paper, None)
    ours = measure(drawn, metric)
    if paper is None:
        return Comparison(metric, None, ours)
    error = paper_error(metric, paper, ours, drawn[0])
    # Between trainings ours is a mean of several; the paper's is one.
    between = [ours.deviation / ours.seeds**0.5, ours.deviation] if ours.deviation else []
    margin = noise_margin(ours.standard_error, error, *between)
    difference = ours.value - paper
    return Comparison(metric, paper, ours, difference, error, margin, abs(difference) <= margin)
