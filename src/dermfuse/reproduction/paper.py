"""The paper's Tables III to XI: published numbers, and which of our runs is which row.

Nothing here is computed; everything that is ours stands elsewhere and is measured. A row's
``source`` names the preset, or the fusion, that is held against it; it is empty where the row is
another group's, quoted by the paper.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Literal

from dermfuse.config import Task

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

TESTED: Mapping[Task, tuple[Metric, ...]] = {
    "classification": ("average_precision", "auc"),
    "segmentation": ("jaccard", "dice"),
}
"""What two models are compared by; the challenge's ranking score comes first."""

PAPER_EPOCHS = 50
"""Epochs of every training in the paper."""

TEST_IMAGES, TEST_MALIGNANT = 379, 75
"""The test set that the paper's numbers were measured on."""

METRICS: Mapping[Task, tuple[Metric, ...]] = {
    "classification": ("accuracy", "auc", "average_precision"),
    "segmentation": ("accuracy", "dice", "jaccard", "sensitivity", "specificity"),
}
"""The columns of a table, unless it has others."""
_AUC_FIRST, _MASKS = METRICS["classification"], METRICS["segmentation"]
_CLASSES: tuple[Metric, ...] = ("accuracy", "average_precision", "auc")
_COMPARED: tuple[tuple[str, str, tuple[Metric, ...], str, tuple[tuple[str, str], ...]], ...] = (
    ("III", "Classification baselines", _AUC_FIRST, "", ()),
    (
        *("IV", "Classification with and without augmentation", _AUC_FIRST, "augmentation"),
        (("mobilenetv1", "mobilenetv1-noaug"), ("densenet121", "densenet121-noaug")),
    ),
    (
        *("V", "Classification with and without the discriminant network", _CLASSES),
        "the discriminant network",
        (("dc-mobilenetv1", "mobilenetv1"), ("dc-densenet121", "densenet121")),
    ),
    (
        *("VI", "Classification losses", _CLASSES, "cross-entropy"),
        (("dc-mobilenetv1", "dc-mobilenetv1-focal"), ("dc-densenet121", "dc-densenet121-focal")),
    ),
    (
        *("VII", "Classification beside other methods", _CLASSES, "fusion"),
        (("fusion-dc", "dc-mobilenetv1"), ("fusion-dc", "dc-densenet121")),
    ),
    (
        *("VIII", "Encoders of the U-Net", _MASKS, "fusion"),
        (("fusion-u", "u-mobilenetv1"), ("fusion-u", "u-densenet121")),
    ),
    (
        *("IX", "Segmentation with and without augmentation", _MASKS, "augmentation"),
        (("u-mobilenetv1", "u-mobilenetv1-noaug"), ("u-densenet121", "u-densenet121-noaug")),
    ),
    (
        *("X", "Segmentation losses", _MASKS, "Dice + BCE"),
        (("u-mobilenetv1", "u-mobilenetv1-focal"), ("u-densenet121", "u-densenet121-focal")),
    ),
    ("XI", "Segmentation beside other methods", _MASKS, "", ()),
)
"""Number, title and columns of each table; what it tests, and the rows with it and without it."""


@dataclass(frozen=True, slots=True)
class Fusion:
    """Two networks whose outputs are averaged.

    Attributes:
        name: As rows call it.
        a: Preset of the first network.
        b: Preset of the second.
        task: Whether scores or probability maps are averaged.
        fitted: Whether the weight is chosen on validation; else it is the plain mean.
    """

    name: str
    a: str
    b: str
    task: Task
    fitted: bool


FUSIONS: tuple[Fusion, ...] = (
    Fusion("fusion-dc", "dc-mobilenetv1", "dc-densenet121", "classification", fitted=True),
    Fusion("fusion-u", "u-mobilenetv1", "u-densenet121", "segmentation", fitted=False),
)


@dataclass(frozen=True, slots=True)
class PaperRow:
    """One row.

    Attributes:
        label: As the paper calls it.
        source: The preset or fusion that we hold against it; empty for what is only quoted.
        values: The published numbers; None where the paper has a dash.
        parameters: As published.
        file_mb: Size of the float32 file as published, in MB.
    """

    label: str
    source: str
    values: Mapping[Metric, float | None]
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

    def published(self, source: str, metric: Metric) -> float | None:
        """Returns the paper's number of a preset or fusion; None for a dash or no such row."""
        for row in self.rows:
            if row.source == source:
                return row.values.get(metric)
        return None

    def published_difference(self, contrast: Contrast, metric: Metric) -> float | None:
        """Returns the paper's number with it less that without; None unless it has both."""
        with_it = self.published(contrast.treated, metric)
        without = self.published(contrast.control, metric)
        return None if with_it is None or without is None else round(with_it - without, 3)


def _read_tables() -> tuple[PaperTable, ...]:
    """Returns the tables with the published numbers, which ``paper.csv`` holds."""
    text = (resources.files("dermfuse.reproduction") / "paper.csv").read_text(encoding="utf-8")
    rows = list(csv.DictReader(text.splitlines()))
    return tuple(
        PaperTable(
            number=number,
            title=title,
            task="segmentation" if metrics is _MASKS else "classification",
            metrics=metrics,
            rows=tuple(_row(row, metrics) for row in rows if row["table"] == number),
            contrasts=tuple(Contrast(what, *pair) for pair in pairs),
        )
        for number, title, metrics, what, pairs in _COMPARED
    )


def _row(row: Mapping[str, str], metrics: Sequence[Metric]) -> PaperRow:
    return PaperRow(
        label=row["label"],
        source=row["source"],
        values={metric: float(row[metric]) if row[metric] else None for metric in metrics},
        parameters=int(row["parameters"]) if row["parameters"] else None,
        file_mb=int(row["file_mb"]) if row["file_mb"] else None,
    )


TABLES = _read_tables()
"""Tables III to XI, numbers as published, measured on the test set."""


def fusion_of(source: str) -> Fusion | None:
    """Returns the fusion of that name; None for a preset."""
    return next((fusion for fusion in FUSIONS if fusion.name == source), None)
