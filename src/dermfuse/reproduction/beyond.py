"""What the paper does not have, set against its networks: presets, more looks, ensembles.

A variation of a preset that needs no training of its own is written ``PRESET+HOW``:

    +tta      mean over the eight symmetries of the square
    +seeds    mean over the networks of all seeds
    +folds    mean over the networks of all folds; of the test split alone, as every training
              image was seen by all folds but one
"""

from collections.abc import Collection
from typing import Literal, get_args

from dermfuse.config import Task
from dermfuse.reproduction.paper import Contrast, Metric, PaperRow, PaperTable

How = Literal["tta", "seeds", "folds"]

_CLASS_BASE, _MASK_BASE = "dc-mobilenetv1", "u-mobilenetv1"

_VARIANTS: tuple[tuple[str, str], ...] = (
    ("dc-mobilenetv1-blind", "label-blind augmentation"),
    ("dc-mobilenetv1-fresh", "fresh augmentation in every epoch"),
    ("dc-mobilenetv1-ema", "an exponential moving average of the weights"),
    ("dc-mobilenetv1-cosine", "a cosine schedule"),
    ("dc-mobilenetv1-frozen", "the backbone left as ImageNet has it"),
    ("dc-efficientnetlite0", "EfficientNet-Lite0 as the backbone"),
    ("dc-mobilenetv2", "MobileNetV2 as the backbone"),
    ("u-mobilenetv1-blind", "label-blind augmentation"),
    ("u-mobilenetv1-fresh", "fresh augmentation in every epoch"),
    ("u-mobilenetv1-ema", "an exponential moving average of the weights"),
    ("u-mobilenetv1-cosine", "a cosine schedule"),
    ("u-mobilenetv1-320", "an input of 320 px"),
    ("u-efficientnetlite0", "EfficientNet-Lite0 as the backbone"),
    ("u-mobilenetv2", "MobileNetV2 as the backbone"),
    ("joint-mobilenetv1", "one network with both heads"),
)

_METRICS: dict[Task, tuple[Metric, ...]] = {
    "classification": ("accuracy", "auc", "average_precision"),
    "segmentation": ("accuracy", "dice", "jaccard", "sensitivity", "specificity"),
}


def split_source(source: str) -> tuple[str, How | None]:
    """Returns the preset of a source, and how its networks are asked.

    Example:
        >>> split_source("dc-mobilenetv1+tta"), split_source("dc-mobilenetv1")
        (('dc-mobilenetv1', 'tta'), ('dc-mobilenetv1', None))
    """
    preset, _, how = source.partition("+")
    return preset, next((known for known in get_args(How) if known == how), None)


def beyond_tables(
    known: Collection[str], *, seeds: int, folds_on_test: bool
) -> tuple[PaperTable, ...]:
    """Returns one table of variations per task, each set against the paper's own network.

    Args:
        known: The presets there are; a variation without a preset is left out.
        seeds: How many each preset is trained with; the mean over seeds needs two.
        folds_on_test: Whether the mean over folds can be measured, on the test split.
    """
    how = [("tta", "flips and rotations at test time")]
    how += [("seeds", f"the mean of {seeds} seeds")] if seeds > 1 else []
    how += [("folds", "the mean of the folds")] if folds_on_test else []
    tables = []
    for task, base, prefix in (
        ("classification", _CLASS_BASE, "dc-"),
        ("segmentation", _MASK_BASE, "u-"),
    ):
        variants = [
            (name, what)
            for name, what in _VARIANTS
            if name in known and name.startswith((prefix, "joint-"))
        ]
        variants += [(f"{base}+{key}", what) for key, what in how]
        tables.append(_table(task, base, variants))  # type: ignore[arg-type]
    return tuple(tables)


def _table(task: Task, base: str, variants: list[tuple[str, str]]) -> PaperTable:
    rows = [(base, f"{base}, as in the paper"), *((name, what) for name, what in variants)]
    return PaperTable(
        number=f"beyond, {task}",
        title=f"Beyond the paper: {task}",
        task=task,
        metrics=_METRICS[task],
        rows=tuple(
            PaperRow(f"{label}" if name == base else f"{base} with {label}", name, {})
            for name, label in rows
        ),
        contrasts=tuple(Contrast(what, name, base) for name, what in variants),
    )
