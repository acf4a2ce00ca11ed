import json
from pathlib import Path

import pytest

from dermfuse.errors import RunError
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
    report = run_line(
        out,
        settings=TINY,
        stage=lambda what, number, total: stages.append(f"{number}/{total} {what}"),
    )
    return report, stages


def test_a_demo_leaves_data_runs_predictions_and_a_page(
    demo: tuple[LineReport, list[str]],
) -> None:
    out = demo[0].page.parent
    assert {entry.name for entry in out.iterdir()} == {"data", "runs", "predictions", "report.html"}
    for name in (*CLASSIFIERS, SEGMENTER):
        assert (out / "runs" / name / "best.safetensors").is_file()
    assert (out / "predictions" / FUSION / "scores.csv").is_file()
    manifest = json.loads((out / "predictions" / FUSION / "predictions.json").read_text())
    assert manifest["split"] == "test"
    assert manifest["fit"]["image_count"] == 4


def test_a_demo_evaluates_two_networks_their_fusion_and_the_u_net(
    demo: tuple[LineReport, list[str]],
) -> None:
    evaluations = demo[0].evaluations
    assert list(evaluations) == [*CLASSIFIERS, FUSION, SEGMENTER]
    fusion, unet = evaluations[FUSION].classification, evaluations[SEGMENTER].segmentation
    assert fusion is not None
    assert fusion.image_count == 8
    assert unet is not None
    assert unet.image_count == 8


def test_the_page_shows_curves_examples_and_where_its_numbers_come_from(
    demo: tuple[LineReport, list[str]],
) -> None:
    html = demo[0].page.read_text()
    for text in (
        "Average precision",
        "Precision and recall",
        "Training of the U-Net",
        "u-mobilenetv1, validation",
        "12, and 4 to validate",
        "ISIC_995000",
        "not a medical device",
    ):
        assert text in html
    assert html.count('class="overlay"') == 6


def test_stages_are_counted(demo: tuple[LineReport, list[str]]) -> None:
    stages = demo[1]
    assert stages[0] == "1/9 drawing synthetic images"
    assert stages[-1] == "9/9 writing the page"
    assert len(stages) == 9


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="exists and is not empty"):
        run_line(tmp_path, settings=TINY)
    assert [entry.name for entry in tmp_path.iterdir()] == ["thesis.txt"]
