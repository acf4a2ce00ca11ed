from collections.abc import Sequence
from pathlib import Path

import pytest

from dermfuse.errors import RunError
from dermfuse.predictions.folder import read_predictions
from dermfuse.report.page import Picture
from dermfuse.reproduction.demo import (
    CLASSIFIERS,
    FUSION,
    SEGMENTER,
    LineReport,
    LineSettings,
    run_line,
)

TINY = LineSettings(
    train_count=16,
    test_count=8,
    size_px=(80, 64),
    input_size=32,
    class_epochs=1,
    mask_epochs=1,
    draws=20,
)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[LineReport, list[str]]:
    """A tiny demo, and the stages it announced."""
    stages: list[str] = []
    out = tmp_path_factory.mktemp("demo") / "out"

    def draw(runs: Sequence[Path], predictions: Sequence[Path]) -> list[Picture]:
        assert all((run / "run.json").is_file() for run in runs)
        assert [folder.name for folder in predictions] == [*CLASSIFIERS, FUSION, SEGMENTER]
        return [Picture("fig-08", "Training", "Three networks.", b"")]

    report = run_line(
        out,
        settings=TINY,
        stage=lambda what, number, total: stages.append(f"{number}/{total} {what}"),
        draw=draw,
    )
    return report, stages


def test_a_demo_leaves_data_runs_predictions_and_a_page(demo: tuple[LineReport, list[str]]) -> None:
    report, stages = demo
    out = report.page.parent
    assert {entry.name for entry in out.iterdir()} == {"data", "runs", "predictions", "report.html"}
    for name in (*CLASSIFIERS, SEGMENTER):
        assert (out / "runs" / name / "best.safetensors").is_file()
    manifest = read_predictions(out / "predictions" / FUSION).manifest
    assert manifest.split == "test"
    assert manifest.details["fit"]["image_count"] == 4
    assert list(report.evaluations) == [*CLASSIFIERS, FUSION, SEGMENTER]
    fusion, unet = (report.evaluations[name] for name in (FUSION, SEGMENTER))
    assert fusion.classification
    assert unet.segmentation
    assert fusion.classification.image_count == unet.segmentation.image_count == 8
    assert stages[0] == "1/9 drawing synthetic images"
    assert stages[8:] == ["9/9 writing the page"]


def test_the_page_shows_figures_and_where_its_numbers_come_from(
    demo: tuple[LineReport, list[str]],
) -> None:
    html = demo[0].page.read_text()
    for text in (
        "average precision",
        "Three networks.",
        "trained from random weights on 16 drawn images",
        "pair networks 1, U-Net 1",
        "not a medical device",
    ):
        assert text in html


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and is not empty"):
        run_line(tmp_path, settings=TINY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
