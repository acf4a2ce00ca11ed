"""The paper's Tables III to XI as data: published numbers, and which of our runs is which row.

Nothing here is computed; everything that is ours stands elsewhere and is measured. A row's
``source`` names the preset, or the fusion, that is held against it; it is empty where the row is
another group's, quoted by the paper.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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


_CLASS_III: tuple[Metric, ...] = ("accuracy", "auc", "average_precision")
_CLASS_V: tuple[Metric, ...] = ("accuracy", "average_precision", "auc")
_MASK: tuple[Metric, ...] = ("accuracy", "dice", "jaccard", "sensitivity", "specificity")

_Numbers = tuple[float | None, ...]
_FEWEST_PARAMETERS = 1000  # below: a file size in MB


def _rows(
    metrics: Sequence[Metric], *rows: tuple[str, str, _Numbers, int | None]
) -> tuple[PaperRow, ...]:
    """Returns rows of (label, source, numbers, parameters or MB, told apart by their size)."""
    return tuple(
        PaperRow(
            label,
            source,
            dict(zip(metrics, numbers, strict=True)),
            parameters=size if size and size >= _FEWEST_PARAMETERS else None,
            file_mb=size if size and size < _FEWEST_PARAMETERS else None,
        )
        for label, source, numbers, size in rows
    )


_MOBILENET: _Numbers = (0.829, 0.645, 0.830)
_DENSENET: _Numbers = (0.837, 0.636, 0.800)
_DC_MOBILENET: _Numbers = (0.865, 0.665, 0.832)
_DC_DENSENET: _Numbers = (0.855, 0.700, 0.845)
_U_MOBILENET: _Numbers = (0.960, 0.919, 0.859, 0.932, 0.972)
_U_DENSENET: _Numbers = (0.958, 0.918, 0.859, 0.935, 0.971)
_U_FUSION: _Numbers = (0.962, 0.923, 0.867, 0.934, 0.974)

TABLES: tuple[PaperTable, ...] = (
    PaperTable(
        "III",
        "Classification baselines",
        "classification",
        _CLASS_III,
        _rows(
            _CLASS_III,
            ("SqueezeNet", "squeezenet", (0.789, 0.757, 0.494), 1_237_498),
            ("ShuffleNet", "shufflenet", (0.760, 0.717, 0.436), 3_616_946),
            ("ResNet18", "resnet18", (0.831, 0.802, 0.596), 11_187_915),
            ("MobileNetV1", "mobilenetv1", (0.829, 0.830, 0.645), 3_230_914),
            ("DenseNet-121", "densenet121", (0.837, 0.800, 0.636), 7_039_554),
        ),
    ),
    PaperTable(
        "IV",
        "Classification with and without augmentation",
        "classification",
        _CLASS_III,
        _rows(
            _CLASS_III,
            ("MobileNetV1, without", "mobilenetv1-noaug", (0.836, 0.819, 0.618), None),
            ("MobileNetV1, with", "mobilenetv1", (0.829, 0.830, 0.645), None),
            ("DenseNet-121, without", "densenet121-noaug", (0.836, 0.806, 0.610), None),
            ("DenseNet-121, with", "densenet121", (0.837, 0.800, 0.636), None),
        ),
        (
            Contrast("augmentation", "mobilenetv1", "mobilenetv1-noaug"),
            Contrast("augmentation", "densenet121", "densenet121-noaug"),
        ),
    ),
    PaperTable(
        "V",
        "Classification with and without the discriminant network",
        "classification",
        _CLASS_V,
        _rows(
            _CLASS_V,
            ("MobileNetV1", "mobilenetv1", _MOBILENET, 3_230_914),
            ("DenseNet-121", "densenet121", _DENSENET, 7_039_554),
            ("DC-MobileNetV1", "dc-mobilenetv1", _DC_MOBILENET, 3_736_902),
            ("DC-DenseNet121", "dc-densenet121", _DC_DENSENET, 7_483_782),
        ),
        (
            Contrast("the discriminant network", "dc-mobilenetv1", "mobilenetv1"),
            Contrast("the discriminant network", "dc-densenet121", "densenet121"),
        ),
    ),
    PaperTable(
        "VI",
        "Classification losses",
        "classification",
        _CLASS_V,
        _rows(
            _CLASS_V,
            ("DC-MobileNetV1, focal", "dc-mobilenetv1-focal", (0.850, 0.633, 0.838), None),
            ("DC-DenseNet121, focal", "dc-densenet121-focal", (0.854, 0.639, 0.803), None),
            ("DC-MobileNetV1, cross-entropy", "dc-mobilenetv1", _DC_MOBILENET, None),
            ("DC-DenseNet121, cross-entropy", "dc-densenet121", _DC_DENSENET, None),
        ),
        (
            Contrast("cross-entropy", "dc-mobilenetv1", "dc-mobilenetv1-focal"),
            Contrast("cross-entropy", "dc-densenet121", "dc-densenet121-focal"),
        ),
    ),
    PaperTable(
        "VII",
        "Classification beside other methods",
        "classification",
        _CLASS_V,
        _rows(
            _CLASS_V,
            ("BL-CNN", "", (0.850, 0.625, None), None),
            ("CUMED", "", (0.855, 0.637, 0.804), None),
            ("M-CNN", "", (0.852, None, 0.810), None),
            ("DCNN-FV", "", (0.868, 0.685, 0.852), None),
            ("MC-CNN", "", (0.863, 0.681, 0.822), None),
            ("M-CNN-FV", "", (0.868, 0.687, 0.858), None),
            ("DC-MobileNetV1", "dc-mobilenetv1", _DC_MOBILENET, None),
            ("DC-DenseNet121", "dc-densenet121", _DC_DENSENET, None),
            ("Fusion", "fusion-dc", (0.876, 0.724, 0.854), 42),
        ),
        (
            Contrast("fusion", "fusion-dc", "dc-mobilenetv1"),
            Contrast("fusion", "fusion-dc", "dc-densenet121"),
        ),
    ),
    PaperTable(
        "VIII",
        "Encoders of the U-Net",
        "segmentation",
        _MASK,
        _rows(
            _MASK,
            ("U-Net", "unet", (0.951, 0.910, 0.845, 0.935, 0.960), 120),
            ("U-ResNeXt50", "u-resnext50", (0.961, 0.922, 0.864, 0.935, 0.972), 125),
            ("U-VGG16", "u-vgg16", (0.955, 0.909, 0.843, 0.927, 0.968), 73),
            ("U-DenseNet121", "u-densenet121", _U_DENSENET, 48),
            ("U-MobileNetV1", "u-mobilenetv1", _U_MOBILENET, 32),
            ("Fusion", "fusion-u", _U_FUSION, 80),
        ),
        (
            Contrast("fusion", "fusion-u", "u-mobilenetv1"),
            Contrast("fusion", "fusion-u", "u-densenet121"),
        ),
    ),
    PaperTable(
        "IX",
        "Segmentation with and without augmentation",
        "segmentation",
        _MASK,
        _rows(
            _MASK,
            (
                "U-MobileNetV1, without",
                "u-mobilenetv1-noaug",
                (0.956, 0.917, 0.847, 0.930, 0.968),
                None,
            ),
            ("U-MobileNetV1, with", "u-mobilenetv1", _U_MOBILENET, None),
            (
                "U-DenseNet121, without",
                "u-densenet121-noaug",
                (0.955, 0.917, 0.848, 0.920, 0.970),
                None,
            ),
            ("U-DenseNet121, with", "u-densenet121", _U_DENSENET, None),
        ),
        (
            Contrast("augmentation", "u-mobilenetv1", "u-mobilenetv1-noaug"),
            Contrast("augmentation", "u-densenet121", "u-densenet121-noaug"),
        ),
    ),
    PaperTable(
        "X",
        "Segmentation losses",
        "segmentation",
        _MASK,
        _rows(
            _MASK,
            (
                "U-MobileNetV1, focal",
                "u-mobilenetv1-focal",
                (0.959, 0.917, 0.848, 0.937, 0.969),
                None,
            ),
            (
                "U-DenseNet121, focal",
                "u-densenet121-focal",
                (0.957, 0.914, 0.843, 0.939, 0.964),
                None,
            ),
            ("U-MobileNetV1, Dice + BCE", "u-mobilenetv1", _U_MOBILENET, None),
            ("U-DenseNet121, Dice + BCE", "u-densenet121", _U_DENSENET, None),
        ),
        (
            Contrast("Dice + BCE", "u-mobilenetv1", "u-mobilenetv1-focal"),
            Contrast("Dice + BCE", "u-densenet121", "u-densenet121-focal"),
        ),
    ),
    PaperTable(
        "XI",
        "Segmentation beside other methods",
        "segmentation",
        _MASK,
        _rows(
            _MASK,
            ("JD-FCN", "", (0.955, 0.912, 0.847, 0.918, 0.966), None),
            ("MS-FCN", "", (0.951, 0.902, 0.834, 0.918, 0.952), None),
            ("EXB", "", (0.953, 0.910, 0.843, 0.910, 0.965), None),
            ("MFCN-PI", "", (0.955, 0.912, 0.845, 0.922, 0.955), None),
            ("GL-FCN", "", (0.953, 0.907, 0.841, 0.938, 0.952), None),
            ("MS-UNet", "", (0.959, 0.915, 0.853, 0.927, 0.964), None),
            ("HR-CNN", "", (0.938, 0.918, 0.858, 0.870, 0.964), None),
            ("TD-CNN", "", (0.961, 0.921, 0.852, 0.974, 0.949), None),
            ("Fusion", "fusion-u", _U_FUSION, None),
        ),
    ),
)
"""Tables III to XI, numbers as published, measured on the test set."""


def fusion_of(source: str) -> Fusion | None:
    """Returns the fusion of that name; None for a preset."""
    return next((fusion for fusion in FUSIONS if fusion.name == source), None)
