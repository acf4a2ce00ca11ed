"""The paper's Tables III to XI: published numbers, and which of our runs is which row.

Nothing here is computed; everything that is ours stands elsewhere and is measured. The numbers lie
in ``tables.toml``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dermfuse.config import Task
from dermfuse.records import build_record, read_packaged

Metric = Literal[
    "accuracy", "auc", "average_precision", "dice", "jaccard", "sensitivity", "specificity"
]

METRIC_NAMES: Mapping[Metric, str] = {
    "accuracy": "accuracy",
    "auc": "AUC",
    "average_precision": "AP",
    "dice": "Dice",
    "jaccard": "Jaccard",
    "sensitivity": "sensitivity",
    "specificity": "specificity",
}
"""How a column is headed."""

METRICS: Mapping[Task, tuple[Metric, ...]] = {
    "classification": ("accuracy", "auc", "average_precision"),
    "segmentation": ("accuracy", "dice", "jaccard", "sensitivity", "specificity"),
}
"""The columns of a table beyond the paper."""

TESTED: Mapping[Task, tuple[Metric, ...]] = {
    "classification": ("average_precision", "auc"),
    "segmentation": ("jaccard", "dice"),
}
"""What two models are compared by; the challenge's ranking score comes first."""

PAPER_EPOCHS = 50
"""Epochs of every training in the paper."""

TEST_IMAGES, TEST_MALIGNANT = 379, 75
"""The test set that the paper's numbers were measured on."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """Two networks whose outputs are averaged: scores, or probability maps.

    Attributes:
        presets: Of the first network and of the second.
        fitted: Whether the weight is chosen on validation; else it is the plain mean.
    """

    presets: tuple[str, str]
    fitted: bool


FUSIONS: Mapping[str, Fusion] = {
    "fusion-dc": Fusion(("dc-mobilenetv1", "dc-densenet121"), fitted=True),
    "fusion-u": Fusion(("u-mobilenetv1", "u-densenet121"), fitted=False),
}
"""By the source that rows name."""


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row.

    Attributes:
        label: As the paper calls it.
        source: The preset or fusion that we hold against it; empty for what is only quoted.
        values: The published numbers; none where the paper has a dash.
        parameters: As published.
        file_mb: Size of the float32 file as published, in MB.
    """

    label: str
    source: str = ""
    values: Mapping[Metric, float] = field(default_factory=dict)
    parameters: int | None = None
    file_mb: int | None = None


@dataclass(frozen=True, slots=True)
class Contrast:
    """Two rows that the paper sets against each other: with something, and without it.

    Attributes:
        what: What the first has and the second has not.
        treated: Source of the row with it.
        control: Source of the row without it.
    """

    what: str
    treated: str
    control: str


@dataclass(frozen=True, slots=True)
class PaperTable:
    """One table.

    Attributes:
        number: In Roman numerals.
        title: What it compares.
        task: Classes or masks.
        metrics: Its columns, in the paper's order.
        rows: From top to bottom.
        contrasts: Which rows are tested against each other.
    """

    number: str
    title: str
    task: Task
    metrics: tuple[Metric, ...]
    rows: tuple[PaperRow, ...]
    contrasts: tuple[Contrast, ...] = ()

    @property
    def sources(self) -> tuple[str, ...]:
        """The presets and fusions of its rows, each once."""
        return tuple(dict.fromkeys(row.source for row in self.rows if row.source))

    def published_difference(self, contrast: Contrast, metric: Metric) -> float | None:
        """Returns the paper's number with it less that without; None unless it has both."""
        values = {row.source: row.values.get(metric) for row in self.rows}
        with_it, without = (values.get(each) for each in (contrast.treated, contrast.control))
        return None if with_it is None or without is None else round(with_it - without, 3)


_FILE: Mapping[str, Any] = read_packaged("reproduction", "tables")

TABLES = tuple(build_record(PaperTable, table) for table in _FILE["tables"])
"""Tables III to XI, numbers as published, measured on the test set."""

VARIANTS: Mapping[str, str] = _FILE["variants"]
"""Presets beyond the paper, and what each has that the paper's own network has not."""
