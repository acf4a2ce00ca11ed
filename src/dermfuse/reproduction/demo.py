"""The whole line in small: draw, train, predict, fuse, evaluate, and a page that shows it.

    OUT/data/           synthetic dermoscopy in the layout of ISIC 2016
    OUT/runs/           two pair networks and a U-Net, trained from random weights
    OUT/predictions/    of the test split, of validation (to fit the fusion), and the fusion
    OUT/report.html     what came of it

What the networks learn says nothing about skin: the images are drawn by the package.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from dermfuse.config import AugmentConfig, Config, DataConfig, ModelConfig, TrainConfig
from dermfuse.data.synthetic import synthesize_isic2016
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.evaluation.reports import EvaluationReport
from dermfuse.predictions.fusion import FitOn, fuse
from dermfuse.records import estimate_cells
from dermfuse.records.folders import RunFolder, environment, new_folder, write_text
from dermfuse.report.page import Page, Picture, Table, render_page, say
from dermfuse.reproduction.page import WORDS, say_facts
from dermfuse.reproduction.reproduce import Draw
from dermfuse.training.jobs import Stage
from dermfuse.training.prediction import predict
from dermfuse.training.train import train

CLASSIFIERS = {"dc-mobilenetv1": "mobilenet_v1", "dc-shufflenet": "shufflenet_v1"}
"""The two networks that are fused, each with its backbone: the two quickest to train."""
SEGMENTER, FUSION = "u-mobilenetv1", "fusion"
_BACKBONES = {**CLASSIFIERS, SEGMENTER: "mobilenet_v1"}
_STAGES = 3 + 2 * len(_BACKBONES)
_SHOWN = ("average precision", "AUC", "Jaccard", "Dice", "accuracy", "sensitivity", "specificity")


@dataclass(frozen=True, slots=True, kw_only=True)
class LineSettings:
    """How large the demo is; the defaults take two to three minutes on two cores.

    Args:
        train_count: Images to train and validate on.
        test_count: Images to test on.
        size_px: Width and height of the images.
        input_size: Side of the square the networks see.
        class_epochs: Epochs of each pair network.
        mask_epochs: Epochs of the U-Net.
        draws: Bootstrap draws.
        seed: Seeds the images and the trainings.
    """

    train_count: int = 300
    test_count: int = 100
    size_px: tuple[int, int] = (192, 144)
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
    evaluations: Mapping[str, EvaluationReport]


def run_line(
    out: str | Path,
    *,
    settings: LineSettings | None = None,
    stage: Stage | None = None,
    draw: Draw | None = None,
) -> LineReport:
    """Runs the whole line on synthetic dermoscopy and writes a report page.

    Args:
        out: A new or an empty folder.
        settings: How large it is.
        stage: Called when a stage begins.
        draw: Draws the figures of the page; none are drawn without it.

    Raises:
        RunError: The folder exists and is not empty.
        StorageError: It cannot be written.
    """
    out, settings = Path(out), settings or LineSettings()
    began, numbers = time.monotonic(), count(1)
    data, runs, predictions = out / "data", out / "runs", out / "predictions"

    def begin(what: str) -> None:
        number = next(numbers)
        if stage:
            stage(what, number, _STAGES)

    new_folder(out, what="demo")
    begin("drawing synthetic images")
    synthesize_isic2016(
        data,
        train_count=settings.train_count,
        test_count=settings.test_count,
        seed=settings.seed,
        size_px=settings.size_px,
        malignant_fraction=0.4,  # more than the archive's fifth: there are few images to learn from
        difficulty=0.1,
    )
    for name in _BACKBONES:
        run = runs / name
        begin(f"training {name}")
        train(_config(name, settings), data=data, run=run)
        begin(f"predicting with {name}")
        maps = name == SEGMENTER
        predict(run, data=data, split="test", out=predictions / name, probabilities=maps)
        if name in CLASSIFIERS:
            predict(run, data=data, split="validation", out=predictions / f"{name}-validation")
        RunFolder(run).state.unlink()  # nobody resumes a demo, and it is large
    begin("fusing and evaluating")
    a, b = (predictions / name for name in CLASSIFIERS)
    fit = FitOn(Path(f"{a}-validation"), Path(f"{b}-validation"), truth=data)
    fused = fuse(a, b, predictions / FUSION, fit=fit)
    evaluations = {
        name: evaluate(predictions / name, data, draws=settings.draws, seed=settings.seed)
        for name in (*CLASSIFIERS, FUSION, SEGMENTER)
    }
    begin("writing the page")
    folders = [runs / name for name in _BACKBONES], [predictions / name for name in evaluations]
    pictures = draw(*folders) if draw else ()
    report = LineReport(out / "report.html", time.monotonic() - began, evaluations)
    write_text(report.page, render_page(_page(report, settings, fused.weight, pictures)))
    return report


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


def _page(
    report: LineReport, settings: LineSettings, weight: float, pictures: Sequence[Picture]
) -> Page:
    a, b = CLASSIFIERS
    scored = {name: report.evaluations[name] for name in (FUSION, a, b)}
    outlined = {SEGMENTER: report.evaluations[SEGMENTER]}
    masks = "Per image at the mask's own size, then the mean over the images."
    fusion = say(WORDS, "demo_fusion", weight=weight, a=a, b=b)
    made = environment()
    return Page(
        title="The whole line on synthetic dermoscopy",
        lead=say(WORDS, "demo_lead", settings=settings),
        tables=(
            _table("Classification", scored, fusion),
            _table("Segmentation", outlined, masks),
        ),
        facts=say_facts("demo_facts", settings=settings, seconds=report.seconds, made=made),
        pictures=tuple(pictures),
    )


def _table(title: str, evaluations: Mapping[str, EvaluationReport], note: str) -> Table:
    metrics = {name: dict(each.rows()) for name, each in evaluations.items()}
    shown = [metric for metric in _SHOWN if metric in next(iter(metrics.values()))]
    return Table(
        title=title,
        note=note,
        columns=("Network", *shown),
        rows=tuple(
            (name, *("\n".join(filter(None, estimate_cells(of[metric]))) for metric in shown))
            for name, of in metrics.items()
        ),
        strong_row=0,
    )
