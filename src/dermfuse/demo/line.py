"""The whole line in small: draw, train, predict, fuse, evaluate, and a page that shows it.

    OUT/data/           synthetic dermoscopy in the layout of ISIC 2016
    OUT/runs/           two pair networks and a U-Net, trained from random weights
    OUT/predictions/    of the test split, of validation (to fit the fusion), and the fusion
    OUT/report.html     what came of it

What the networks learn says nothing about skin: the images are drawn by the package.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from dermfuse.config import AugmentConfig, Config, DataConfig, ModelConfig, TrainConfig
from dermfuse.data.synthetic import synthesize_isic2016
from dermfuse.demo.outcome import Outcome, build_page
from dermfuse.evaluation.evaluate import evaluate
from dermfuse.evaluation.reports import EvaluationReport
from dermfuse.fusion import FitOn, fuse
from dermfuse.report import render_page
from dermfuse.runs import RunFolder, new_folder, write_text
from dermfuse.training import predict, train

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
