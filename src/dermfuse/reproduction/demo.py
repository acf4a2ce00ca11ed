"""The whole line in small: draw, train, predict, fuse, evaluate, and a page that shows it.

    OUT/data/           synthetic dermoscopy in the layout of ISIC 2016
    OUT/runs/           two pair networks and a U-Net, trained from random weights
    OUT/predictions/    of the test split, of validation (to fit the fusion), and the fusion
    OUT/report.html     what came of it

What the networks learn says nothing about skin: the images are drawn by the package.

From the demo's folders to the page that shows them.
"""

import csv
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.config import AugmentConfig, Config, DataConfig, ModelConfig, TrainConfig
from dermfuse.data.isic2016 import Lesion, load_isic2016
from dermfuse.data.labels import Label
from dermfuse.data.synthetic import synthesize_isic2016
from dermfuse.estimates import Estimate, estimate_cells
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.evaluation.reports import (
    ClassificationReport,
    EvaluationReport,
    SegmentationReport,
)
from dermfuse.folders import RunFolder, environment, new_folder, write_text
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image
from dermfuse.predictions.folder import mask_path, read_predictions
from dermfuse.predictions.fusion import FitOn, FusionReport, fuse
from dermfuse.predictions.metrics import count, jaccard
from dermfuse.report import Chart, Example, Finding, Page, Series, Table, render_page
from dermfuse.report.page import precision_recall_series, roc_series
from dermfuse.training import predict, train

EXAMPLE_COUNT = 6


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the demo left behind.

    Args:
        folder: Holds ``data``, ``runs`` and ``predictions``.
        classifiers: The two networks that were fused, A first.
        fusion: The name of their fusion.
        segmenter: The name of the U-Net.
        evaluations: On the test split, by name.
        fused: How they were fused.
        seed: Of everything.
        seconds: What it took so far.
    """

    folder: Path
    classifiers: tuple[str, str]
    fusion: str
    segmenter: str
    evaluations: Mapping[str, EvaluationReport]
    fused: FusionReport
    seed: int
    seconds: float

    @property
    def ranked(self) -> tuple[str, ...]:
        """The names of everything that gives scores, the fusion first."""
        return (self.fusion, *self.classifiers)

    def classification(self, name: str) -> ClassificationReport:
        """Returns the evaluation of scores."""
        report = self.evaluations[name].classification
        if report is None:
            raise ValueError(f"{name} has no scores")
        return report

    @property
    def segmentation(self) -> SegmentationReport:
        """The evaluation of the U-Net's masks."""
        report = self.evaluations[self.segmenter].segmentation
        if report is None:
            raise ValueError(f"{self.segmenter} has no masks")
        return report


def build_page(outcome: Outcome) -> Page:
    """Returns the page of a demo, read from its folders."""
    lesions = load_isic2016(outcome.folder / "data", "test").lesions
    fusion = outcome.classification(outcome.fusion)
    return Page(
        title="The whole line on synthetic dermoscopy",
        lead=(
            f"Two pair networks and a U-Net were trained from random weights on drawn images, "
            f"the two were fused, and everything was evaluated on {len(lesions)} drawn test "
            f"images, {fusion.malignant_count} of them malignant. The images are drawn by the "
            f"package, so these numbers say that the line works, and nothing about skin."
        ),
        findings=(
            _finding("Average precision", fusion.average_precision, "Fusion, test images"),
            _finding("AUC", fusion.auc, "Fusion, test images"),
            _finding("Jaccard", outcome.segmentation.jaccard, "U-Net, mean over test masks"),
        ),
        tables=(_classification_table(outcome), _segmentation_table(outcome)),
        charts=_charts(outcome, lesions),
        examples=_examples(outcome, lesions),
        examples_note="From the best Jaccard to the worst, evenly: failures are shown, too.",
        facts=_facts(outcome),
    )


def _finding(name: str, estimate: Estimate | None, note: str) -> Finding:
    return Finding(name, *estimate_cells(estimate), note)


def _classification_table(outcome: Outcome) -> Table:
    rows = []
    for name in outcome.ranked:
        report = outcome.classification(name)
        estimates = (
            report.average_precision,
            report.auc,
            report.accuracy,
            report.sensitivity,
            report.specificity,
        )
        rows.append(((name, ""), *map(estimate_cells, estimates)))
    weight = outcome.fused.weight
    return Table(
        title="Classification",
        note=(
            f"Malignant at a score above 0.5. The fusion is {weight:.2f} {outcome.classifiers[0]} "
            f"+ {1 - weight:.2f} {outcome.classifiers[1]}; the weight was chosen on validation "
            f"images. Below each value: its 95 % bootstrap interval."
        ),
        columns=("Network", "Average precision", "AUC", "Accuracy", "Sensitivity", "Specificity"),
        rows=tuple(rows),
        strong_row=0,
    )


def _segmentation_table(outcome: Outcome) -> Table:
    report = outcome.segmentation
    estimates = (
        report.jaccard,
        report.dice,
        report.accuracy,
        report.sensitivity,
        report.specificity,
    )
    return Table(
        title="Segmentation",
        note="Per image at the mask's own size, then the mean over the images.",
        columns=("Network", "Jaccard", "Dice", "Accuracy", "Sensitivity", "Specificity"),
        rows=(((outcome.segmenter, ""), *map(estimate_cells, estimates)),),
    )


def _charts(outcome: Outcome, lesions: Sequence[Lesion]) -> tuple[Chart, ...]:
    malignant = np.array([lesion.label is Label.MALIGNANT for lesion in lesions])
    scores = {name: _scores(outcome, name, lesions) for name in outcome.ranked}
    prevalence = float(malignant.mean())
    return (
        Chart(
            title="ROC",
            note="Test images; dotted grey: by chance.",
            x_label="1 - specificity",
            y_label="sensitivity",
            series=tuple(roc_series(name, malignant, scores[name]) for name in outcome.ranked),
            unit_square=True,
            reference=(0.0, 0.0, 1.0, 1.0),
        ),
        Chart(
            title="Precision and recall",
            note="Test images; dotted grey: by chance, the share of malignant images.",
            x_label="recall (sensitivity)",
            y_label="precision",
            series=tuple(
                precision_recall_series(name, malignant, scores[name]) for name in outcome.ranked
            ),
            unit_square=True,
            reference=(0.0, prevalence, 1.0, prevalence),
        ),
        Chart(
            title="Training of the pair networks",
            note="Total loss: both class heads and the discriminant branch.",
            x_label="epoch",
            y_label="loss",
            series=tuple(line for name in outcome.classifiers for line in _losses(outcome, name)),
        ),
        Chart(
            title="Training of the U-Net",
            note="Dice + binary cross-entropy.",
            x_label="epoch",
            y_label="loss",
            series=_losses(outcome, outcome.segmenter),
        ),
    )


def _scores(outcome: Outcome, name: str, lesions: Sequence[Lesion]) -> NDArray[np.float64]:
    by_id = read_predictions(outcome.folder / "predictions" / name).score_by_id()
    return np.array([by_id[lesion.image_id] for lesion in lesions])


def _losses(outcome: Outcome, name: str) -> tuple[Series, Series]:
    path = RunFolder(outcome.folder / "runs" / name).metrics
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    epochs, training, validation = (
        np.array([float(row[column]) for row in rows])
        for column in ("epoch", "train_loss", "validation_loss")
    )
    return (
        Series(f"{name}, training", epochs, training),
        Series(f"{name}, validation", epochs, validation),
    )


def _examples(outcome: Outcome, lesions: Sequence[Lesion]) -> tuple[Example, ...]:
    """Returns test images from the best to the worst Jaccard, evenly: failures are shown too."""
    agreement = dict(
        zip(
            outcome.segmentation.coverage.evaluated,
            map(jaccard, outcome.segmentation.images),
            strict=True,
        )
    )
    ordered = sorted(
        (lesion for lesion in lesions if lesion.image_id in agreement),
        key=lambda lesion: -agreement[lesion.image_id],
    )
    chosen = np.unique(np.linspace(0, len(ordered) - 1, EXAMPLE_COUNT).round().astype(int))
    scores = read_predictions(outcome.folder / "predictions" / outcome.fusion).score_by_id()
    return tuple(_example(outcome, ordered[index], scores) for index in chosen.tolist())


def _example(outcome: Outcome, lesion: Lesion, scores: Mapping[str, float]) -> Example:
    folder = outcome.folder / "predictions" / outcome.segmenter
    predicted = read_mask(mask_path(folder, lesion.image_id))
    if lesion.mask_path is None or lesion.label is None:
        raise ValueError(f"{lesion.image_id} has no truth")
    truth = read_mask(lesion.mask_path)
    return Example(
        image_id=lesion.image_id,
        image=read_image(lesion.image_path),
        truth=truth,
        predicted=predicted,
        lines=(
            f"Jaccard {jaccard(count(predicted, truth)):.3f}",
            f"drawn {lesion.label.name.lower()}; fused score {scores[lesion.image_id]:.2f}",
        ),
    )


def _facts(outcome: Outcome) -> tuple[tuple[str, str], ...]:
    made = environment()
    record = RunFolder(outcome.folder / "runs" / outcome.segmenter).read_record("data")
    versions = ", ".join(f"{name} {version}" for name, version in made["versions"].items())
    epochs = ", ".join(
        f"{name} {RunFolder(outcome.folder / 'runs' / name).read_record('epochs')['epochs']}"
        for name in (*outcome.classifiers, outcome.segmenter)
    )
    data = record["data"]
    return (
        ("Training images", f"{data['train_images']}, and {data['validation_images']} to validate"),
        ("Input", f"{record['config']['data']['input_size']} px squares"),
        ("Epochs", epochs),
        ("Seed", str(outcome.seed)),
        ("Bootstrap", f"{outcome.evaluations[outcome.fusion].draws} draws"),
        ("Time", f"{outcome.seconds:.0f} s on {made['machine']}"),
        ("Precision", str(record["precision"])),
        ("Versions", versions),
        ("Commit", made["commit"] or "unknown"),
    )


CLASSIFIERS = ("dc-mobilenetv1", "dc-shufflenet")
"""The two networks that are fused: MobileNetV1 and ShuffleNet are the quickest to train."""
SEGMENTER = "u-mobilenetv1"
FUSION = "fusion"

_BACKBONES = {
    "dc-mobilenetv1": "mobilenet_v1",
    "dc-shufflenet": "shufflenet_v1",
    "u-mobilenetv1": "mobilenet_v1",
}

Stage = Callable[[str, int, int], None]
"""Called with (what begins, its number from 1, number of stages)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """How large the demo is; the defaults take two to three minutes on two cores.

    Args:
        train_count: Images to train and validate on.
        test_count: Images to test on.
        size_px: Width and height of the images.
        difficulty: How far the classes overlap, from 0 to 1.
        input_size: Side of the square the networks see.
        class_epochs: Epochs of each pair network.
        mask_epochs: Epochs of the U-Net.
        draws: Of the bootstrap.
        seed: Of the images and of the trainings.
    """

    train_count: int = 300
    test_count: int = 100
    size_px: tuple[int, int] = (192, 144)
    difficulty: float = 0.1
    input_size: int = 64
    class_epochs: int = 7
    mask_epochs: int = 5
    draws: int = 2000
    seed: int = 0


@dataclass(frozen=True, slots=True)
class LineReport:
    """What the demo came to.

    Args:
        page: The report page.
        seconds: What it all took.
        evaluations: On the test split, by name: two networks, their fusion, the U-Net.
    """

    page: Path
    seconds: float
    evaluations: dict[str, EvaluationReport]


def run_line(
    out: str | Path, *, settings: LineSettings | None = None, stage: Stage | None = None
) -> LineReport:
    """Runs the whole line on synthetic dermoscopy and writes a report page.

    Args:
        out: A new or an empty folder.
        settings: How large it is.
        stage: Called when a stage begins.

    Raises:
        RunError: The folder exists and is not empty.
        StorageError: It cannot be written.
    """
    out = Path(out)
    settings = settings or LineSettings()
    began = time.monotonic()
    new_folder(out, what="demo")
    data, runs, predictions = out / "data", out / "runs", out / "predictions"
    stages = _announce(stage, 3 + 2 * (len(CLASSIFIERS) + 1))
    next(stages)("drawing synthetic images")
    synthesize_isic2016(
        data,
        train_count=settings.train_count,
        test_count=settings.test_count,
        seed=settings.seed,
        size_px=settings.size_px,
        malignant_fraction=0.4,  # more than the archive's fifth: there are few images to learn from
        difficulty=settings.difficulty,
    )
    for name in (*CLASSIFIERS, SEGMENTER):
        next(stages)(f"training {name}")
        train(_config(name, settings), data=data, run=runs / name)
        next(stages)(f"predicting with {name}")
        predict(runs / name, data=data, split="test", out=predictions / name)
        if name in CLASSIFIERS:
            validation = predictions / f"{name}-validation"
            predict(runs / name, data=data, split="validation", out=validation)
        RunFolder(runs / name).state.unlink()  # nobody resumes a demo, and it is large
    next(stages)("fusing and evaluating")
    a, b = (predictions / name for name in CLASSIFIERS)
    validation_a, validation_b = (predictions / f"{name}-validation" for name in CLASSIFIERS)
    fit = FitOn(validation_a, validation_b, truth=data)
    fusion = fuse(a, b, predictions / FUSION, fit=fit)
    evaluations = {
        name: evaluate(predictions / name, data, draws=settings.draws, seed=settings.seed)
        for name in (*CLASSIFIERS, FUSION, SEGMENTER)
    }
    next(stages)("writing the page")
    outcome = Outcome(
        folder=out,
        classifiers=CLASSIFIERS,
        fusion=FUSION,
        segmenter=SEGMENTER,
        evaluations=evaluations,
        fused=fusion,
        seed=settings.seed,
        seconds=time.monotonic() - began,
    )
    page = out / "report.html"
    write_text(page, render_page(build_page(outcome)))
    return LineReport(page, time.monotonic() - began, evaluations)


def _config(name: str, settings: LineSettings) -> Config:
    is_segmenter = name == SEGMENTER
    return Config(
        name=name,
        summary="demo: synthetic images, random weights to start from",
        data=DataConfig(input_size=settings.input_size, validation_fraction=0.25),
        augment=AugmentConfig(benign_copies=1, malignant_copies=2, segmentation_draws=0),
        model=ModelConfig(
            network="unet" if is_segmenter else "discriminant",
            backbone=_BACKBONES[name],
            init="random",
        ),
        train=TrainConfig(
            epochs=settings.mask_epochs if is_segmenter else settings.class_epochs,
            batch_size=16,
            learning_rate=1e-3,  # ten times the paper's: these networks start from nothing
            seed=settings.seed,
        ),
    )


def _announce(stage: Stage | None, total: int) -> Iterator[Callable[[str], None]]:
    """Yields one function per stage, which says that it begins."""
    for number in range(1, total + 1):

        def begin(what: str, number: int = number) -> None:
            if stage:
                stage(what, number, total)

        yield begin
