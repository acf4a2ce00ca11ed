from collections.abc import Sequence
from pathlib import Path

import pytest

from dermfuse.errors import RunError
from dermfuse.predictions.folder import read_predictions
from dermfuse.report.page import Picture
from dermfuse.reproduction.demo import CLASSIFIERS, FUSION, SEGMENTER, LineSettings, run_line

TINY = LineSettings(
    train_count=16, test_count=8, size_px=(80, 64), input_size=32, class_epochs=1, mask_epochs=1,
    draws=20,
)  # fmt: skip


def test_a_demo_leaves_data_runs_predictions_and_a_page(tmp_path: Path) -> None:
    stages: list[str] = []

    def draw(runs: Sequence[Path], predictions: Sequence[Path]) -> list[Picture]:
        assert all((run / "run.json").is_file() for run in runs)
        assert [folder.name for folder in predictions] == [*CLASSIFIERS, FUSION, SEGMENTER]
        return [Picture("fig-08", "Training", "Three networks.", b"")]

    def stage(what: str, number: int, total: int) -> None:
        stages.append(f"{number}/{total} {what}")

    out = tmp_path / "out"
    report = run_line(out, settings=TINY, stage=stage, draw=draw)
    assert {entry.name for entry in out.iterdir()} == {"data", "runs", "predictions", "report.html"}
    for name in (*CLASSIFIERS, SEGMENTER):
        assert (out / "runs" / name / "best.safetensors").is_file()
    manifest = read_predictions(out / "predictions" / FUSION).manifest
    assert (manifest.split, manifest.details["fit"]["image_count"]) == ("test", 4)
    assert list(report.evaluations) == [*CLASSIFIERS, FUSION, SEGMENTER]
    classes = report.evaluations[FUSION].classification
    masks = report.evaluations[SEGMENTER].segmentation
    assert classes and masks and classes.image_count == masks.image_count == 8  # noqa: PT018
    assert (stages[0], stages[8:]) == ("1/9 drawing synthetic images", ["9/9 writing the page"])
    html = " ".join(report.page.read_text().split())
    for text in (
        "average precision", "Three networks.", "trained from random weights on 16 drawn images",
        "pair networks 1, U-Net 1", "not a medical device",
    ):  # fmt: skip
        assert text in html
    with pytest.raises(RunError, match="exists and is not empty"):
        run_line(out, settings=TINY)
    assert report.page.read_text(), "what is there is left alone"
