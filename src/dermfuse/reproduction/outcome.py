"""What a reproduction came to: the paper's numbers, ours beside them, and the tests."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermfuse.config import Task
from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import LEVEL
from dermfuse.records import build_record, require_format
from dermfuse.records.folders import NOTICE, read_json
from dermfuse.reproduction.measurement import Measurement
from dermfuse.reproduction.paper import PAPER_EPOCHS, Metric
from dermfuse.reproduction.plan import presets_of

FORMAT = 1
"""The version of an outcome's JSON."""
_HEAD = {
    "format": FORMAT,
    "paper": "Wei, Ding and Hu, IEEE Access 2020, doi 10.1109/ACCESS.2020.2997710",
    "paper_epochs": PAPER_EPOCHS,
    "interval_level": LEVEL,
}
SIGNIFICANCE = 0.05
"""A difference is beyond noise below this p-value, after Holm's correction."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """One cell: the paper's number, ours, and whether chance explains the difference.

    Attributes:
        metric: Which column.
        paper: As published; None for a dash and for rows the paper does not have.
        ours: None where the row was not run.
        difference: Ours less the paper's.
        paper_error: Standard error of the paper's number, from its test set's size.
        margin: Largest difference that noise explains, at 95 %.
        within_noise: Whether the difference is no larger than that.
    """

    metric: Metric
    paper: float | None
    ours: Measurement | None
    difference: float | None = None
    paper_error: float | None = None
    margin: float | None = None
    within_noise: bool | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """What a row's numbers come from.

    Attributes:
        runs: Names of the runs.
        seeds: How many.
        epochs: Fewest and most epochs trained.
        planned_epochs: How many the configuration asks for.
        init: ``imagenet`` or ``random``.
        settings: Where the runs differ from the preset, as ``table.key = value``; before
            them, which of several runs was stopped before its end.
        devices: Device, machine and precision of the trainings, each once.
        data: The data in words, each once.
        seconds: What all trainings took.
        image_count: Images that are measured on.
        malignant_count: How many of them are malignant; None for masks.
    """

    runs: tuple[str, ...]
    seeds: int
    epochs: tuple[int, int]
    planned_epochs: int
    init: str
    settings: tuple[str, ...]
    devices: tuple[str, ...]
    data: tuple[str, ...]
    seconds: float
    image_count: int
    malignant_count: int | None


@dataclass(frozen=True, slots=True)
class RowResult:
    """One row.

    Attributes:
        label: As the paper calls it.
        source: The preset, fusion or variation; empty for what the paper quotes.
        cells: One per metric of the table.
        paper_parameters: As published.
        parameters: Counted in our network.
        paper_file_mb: As published.
        file_mb: Size of our network in float32, in MiB.
        provenance: None where the row was not run.
    """

    label: str
    source: str
    cells: tuple[Comparison, ...]
    paper_parameters: int | None = None
    parameters: int | None = None
    paper_file_mb: int | None = None
    file_mb: float | None = None
    provenance: Provenance | None = None

    def cell(self, metric: Metric) -> Comparison:
        """Returns the cell of a metric."""
        return next(cell for cell in self.cells if cell.metric == metric)


@dataclass(frozen=True, slots=True)
class ContrastResult:
    """A paired test of two rows.

    Attributes:
        what: What the first row has and the second has not.
        treated: Label of the row with it.
        control: Label of the row without it.
        metric: What they are compared by.
        paper_difference: In the paper; None where it has not both numbers.
        difference: Here, treated less control.
        low: Lower end of its 95 % interval.
        high: Upper end.
        p_value: From the paired bootstrap.
        corrected: By Holm's rule, over the tests of the table.
    """

    what: str
    treated: str
    control: str
    metric: Metric
    paper_difference: float | None
    difference: float
    low: float
    high: float
    p_value: float
    corrected: float

    @property
    def is_shown(self) -> bool:
        """Whether the difference is beyond noise."""
        return self.corrected < SIGNIFICANCE


@dataclass(frozen=True, slots=True)
class TableResult:
    """One table.

    Attributes:
        number: In Roman numerals, or what it is called beyond the paper.
        title: What it compares.
        task: Classes or masks.
        metrics: Its columns.
        measured_on: Which images, in words.
        rows: From top to bottom.
        tests: One for each contrast of which both rows were run.
    """

    number: str
    title: str
    task: Task
    metrics: tuple[Metric, ...]
    measured_on: str
    rows: tuple[RowResult, ...]
    tests: tuple[ContrastResult, ...]


@dataclass(frozen=True, slots=True)
class Leakage:
    """A validation score by the paper's split and by ours.

    Attributes:
        preset: Which network.
        metric: Which score.
        paper_split: Validated on augmented copies, whose sources were trained on as well.
        paper_split_images: How many copies.
        source_split: Validated on images that were not trained on.
        source_split_images: How many.
        low: Lower end of the 95 % interval of ``source_split``.
        high: Upper end.
        epochs: How many both runs trained.
    """

    preset: str
    metric: Metric
    paper_split: float
    paper_split_images: int
    source_split: float
    source_split_images: int
    low: float
    high: float
    epochs: int


@dataclass(frozen=True, slots=True)
class RunResult:
    """How one run ended.

    Attributes:
        name: The run's name.
        preset: What it is made from.
        seed: Its seed.
        state: ``trained``, ``reused``, ``failed`` or ``waiting``.
        epochs: How many were trained.
        seconds: What they took.
        device: What on; empty where it is not known.
        error: Why it failed.
    """

    name: str
    preset: str
    seed: int
    state: str
    epochs: int
    seconds: float
    device: str
    error: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything that a reproduction found.

    Attributes:
        data: Names of the dataset folders.
        seeds: How many.
        folds: Folds of the cross-validation; 0 for a hold-out split.
        mask_folds: The same for the networks that only outline.
        overrides: Settings that were changed, as they were given.
        draws: Bootstrap draws.
        environment: Versions, machine and commit of this report.
        tables: The paper's, then those beyond it.
        leakage: The two splits.
        runs: All of them.
        failures: What could not be predicted or measured, and why.
        blind: Folders of test predictions, packed for scoring elsewhere.
    """

    data: str
    seeds: int
    folds: int
    mask_folds: int
    overrides: tuple[str, ...]
    draws: int
    environment: Mapping[str, Any]
    tables: tuple[TableResult, ...]
    leakage: tuple[Leakage, ...]
    runs: tuple[RunResult, ...]
    failures: Mapping[str, str]
    blind: tuple[str, ...]

    def why_empty(self, row: RowResult) -> str:
        """Returns why a row has no number of ours: what failed of its runs, or that there is none.

        Args:
            row: One without provenance.
        """
        presets = presets_of(row.source)
        for run in self.runs:
            if run.preset in presets and run.state == "failed":
                return f"{run.name} failed: {run.error}"
        for what, why in self.failures.items():
            if what.startswith(f"{row.source}, "):
                return why
        return "no number of ours"

    def to_dict(self) -> dict[str, Any]:
        """Returns the outcome as JSON values."""
        return {**_HEAD, **asdict(self), "notice": NOTICE}


def read_outcome(path: Path) -> Outcome:
    """Returns the outcome that a JSON file tells: all that is needed to show it.

    Args:
        path: The JSON file.

    Raises:
        RunError: The file is missing or no JSON.
        DataError: It is of another format, or not what a reproduction writes.
    """
    again = "Render it with the version of dermfuse that wrote it"
    record = require_format(read_json(path), FORMAT, str(path), error=DataError, action=again)
    found = {key: value for key, value in record.items() if key not in _HEAD}
    return build_record(Outcome, found, str(path), error=DataError)
