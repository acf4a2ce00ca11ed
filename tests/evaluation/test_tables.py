"""Tables of measured numbers, and what each step of a recipe gains."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.cli import main
from dermfuse.errors import ConfigError, PredictionsError
from dermfuse.evaluation.tables import measure, measure_steps, render_ablation, render_tables
from dermfuse.predictions.folder import Manifest, write_manifest

IDS = [f"ISIC_{index:07d}" for index in range(8)]
LABELS = {image_id: str(int(index >= 4)) for index, image_id in enumerate(IDS)}
TWO_SWAPPED = [0.1, 0.2, 0.6, 0.65, 0.5, 0.7, 0.8, 0.9]  # 14 of 16 pairs in order
ONE_SWAPPED = [0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9]  # 15 of 16
PERFECT = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9]


def _scores(folders: Any, name: str, scores: list[float], ids: list[str] = IDS) -> Path:
    return folders.scores(dict(zip(ids, scores, strict=True)), name)


def test_a_table_names_all_that_a_number_must_name(folders: Any) -> None:
    details = {"epoch": 3, "epochs": 5, "data": "eight images"}
    machine = {"device": "CPU", "machine": "a machine", "precision": "32-true"}
    folder = _scores(folders, "a", PERFECT)
    manifest = Manifest("classification", "net, seed 0", "validation", details=details | machine)
    write_manifest(folder, manifest)
    tables = render_tables(measure([folder], truth=folders.labels(LABELS), draws=50))
    row = tables.splitlines()[2]
    assert "net, seed 0 | validation | 3 of 5 | 8 (4) | 1.000 (1.000 to 1.000)" in row
    for said in ("bootstrap, 50 draws", "lean upwards", "eight images", "CPU (a machine, 32-true)"):
        assert said in tables


def test_each_step_is_set_against_the_one_before(folders: Any) -> None:
    scores = {"plan": TWO_SWAPPED, "blind": ONE_SWAPPED, "looks": PERFECT}
    steps = [(name, _scores(folders, name, values)) for name, values in scores.items()]
    found = measure_steps(steps, folders.labels(LABELS), draws=100)
    assert (found.task, found.images, found.malignant) == ("classification", 8, 4)
    assert [step.values["AUC"] for step in found.steps] == [14 / 16, 15 / 16, 1]
    gains = [step.gains["AUC"].difference.value for step in found.steps[1:]]
    assert gains == pytest.approx([1 / 16, 1 / 16])
    lines = render_ablation(found).splitlines()
    assert lines[2].startswith("| plan | 0.875 |")
    assert "| +0.062 (" in lines[3]
    assert "8 images (4 malignant)" in lines[-1]


def test_steps_are_measured_on_the_images_that_all_predict(folders: Any) -> None:
    truth, whole = folders.labels(LABELS), _scores(folders, "a", PERFECT)
    few = _scores(folders, "b", [0.2, 0.3, 0.9], [IDS[0], IDS[1], IDS[7]])
    found = measure_steps([("a", whole), ("b", few)], truth, draws=20)
    assert (found.images, found.malignant) == (3, 1)
    within = folders.labels({IDS[1]: "0", IDS[7]: "1"}, "within")
    assert measure_steps([("a", whole), ("b", few)], truth, within=within, draws=20).images == 2
    others = _scores(folders, "c", [0.2, 0.7], [IDS[2], IDS[6]])
    with pytest.raises(PredictionsError, match="no image that all of them know"):
        measure_steps([("b", few), ("c", others)], truth)
    with pytest.raises(ConfigError, match="1 step"):
        measure_steps([("a", whole)], truth)


def test_masks_are_set_beside_masks(folders: Any) -> None:
    lesion = np.repeat([[True], [False]], 8, axis=0).repeat(16, axis=1)
    half = lesion & (np.arange(16) >= 4)[:, None]
    truth = folders.masks(dict.fromkeys(IDS[:3], lesion), "truth")
    masks = {"half": half, "whole": lesion}
    steps = [(key, folders.masks(dict.fromkeys(IDS[:3], masks[key]), key)) for key in masks]
    found = measure_steps(steps, truth, draws=20)
    assert (found.task, found.images, found.malignant) == ("segmentation", 3, None)
    assert [step.values["Jaccard"] for step in found.steps] == [0.5, 1.0]
    with pytest.raises(PredictionsError, match="no task in common"):
        measure_steps([steps[0], ("scores", _scores(folders, "s", PERFECT))], truth)


def test_the_command_writes_the_table_into_its_place(
    folders: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = _scores(folders, "a", TWO_SWAPPED), _scores(folders, "b", PERFECT)
    page, truth = folders.root / "page.md", str(folders.labels(LABELS))
    page.write_text("x\n<!-- looks:begin -->\n<!-- looks:end -->\n")
    command = ["ablate", f"one={a}", f"eight={b}", "--truth", truth, "--draws", "20"]
    assert main([*command, "--write", str(page), "--block", "looks"]) == 0
    assert "| eight | 1.000 |" in page.read_text()
    assert main(["ablate", str(a), f"b={b}", "--truth", truth]) == 2
    assert "names no step" in capsys.readouterr().err
