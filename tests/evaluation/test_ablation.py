from pathlib import Path

import numpy as np
import pytest

from dermfuse.cli import main
from dermfuse.errors import ConfigError, PredictionsError
from dermfuse.evaluation.tables import measure_steps, render_ablation
from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.folder import SCORES_NAME, Manifest, mask_path, write_manifest
from dermfuse.predictions.scores import ScoreTable, write_scores

IDS = tuple(f"ISIC_{index:07d}" for index in range(8))


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    folder = tmp_path / "truth"
    (folder / "masks").mkdir(parents=True)
    rows = [f"{image_id},{int(index >= 4)}" for index, image_id in enumerate(IDS)]
    (folder / "labels.csv").write_text("\n".join(["image_id,label", *rows]) + "\n")
    return folder


def _scores(folder: Path, scores: list[float], ids: tuple[str, ...] = IDS) -> Path:
    folder.mkdir()
    write_scores(folder / SCORES_NAME, ScoreTable(ids, np.array(scores)))
    write_manifest(folder, Manifest("classification", source=folder.name, split="validation"))
    return folder


def test_each_step_is_set_against_the_one_before(tmp_path: Path, truth: Path) -> None:
    one_swapped = [0.1, 0.2, 0.3, 0.6, 0.5, 0.7, 0.8, 0.9]  # 15 of 16 pairs in order
    two_swapped = [0.1, 0.2, 0.6, 0.65, 0.5, 0.7, 0.8, 0.9]  # 14 of 16
    perfect = [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9]
    steps = [
        ("plan", _scores(tmp_path / "a", two_swapped)),
        ("blind", _scores(tmp_path / "b", one_swapped)),
        ("looks", _scores(tmp_path / "c", perfect)),
    ]
    found = measure_steps(steps, truth, draws=100)
    assert (found.task, found.images, found.malignant) == ("classification", 8, 4)
    assert [step.values["AUC"] for step in found.steps] == [14 / 16, 15 / 16, 1]
    assert found.steps[0].gains == {}
    for step in found.steps[1:]:
        assert step.gains["AUC"].difference.value == pytest.approx(1 / 16)
    lines = render_ablation(found).splitlines()
    assert lines[2].startswith("| plan | 0.875 |")
    assert "| +0.062 (" in lines[3]
    assert "8 images (4 malignant)" in lines[-1]


def test_steps_are_measured_on_the_images_that_all_predict(tmp_path: Path, truth: Path) -> None:
    whole = _scores(tmp_path / "a", [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9])
    part = _scores(tmp_path / "b", [0.2, 0.3, 0.9], ids=(IDS[0], IDS[1], IDS[7]))
    found = measure_steps([("a", whole), ("b", part)], truth, draws=20)
    assert (found.images, found.malignant) == (3, 1)
    within = tmp_path / "within"
    within.mkdir()
    (within / "labels.csv").write_text(f"image_id,label\n{IDS[1]},0\n{IDS[7]},1\n")
    assert measure_steps([("a", whole), ("b", part)], truth, within=within, draws=20).images == 2


def test_masks_are_set_beside_masks(tmp_path: Path, truth: Path) -> None:
    lesion = np.zeros((16, 16), bool)
    lesion[:8] = True
    half = lesion.copy()
    half[:4] = False
    steps = []
    for name, predicted in (("half", half), ("whole", lesion)):
        folder = tmp_path / name
        (folder / "masks").mkdir(parents=True)
        for image_id in IDS[:3]:
            write_mask(mask_path(folder, image_id), predicted)
            write_mask(mask_path(truth, image_id), lesion)
        write_manifest(folder, Manifest("segmentation", source=name, split="validation"))
        steps.append((name, folder))
    found = measure_steps(steps, truth, draws=20)
    assert (found.task, found.images, found.malignant) == ("segmentation", 3, None)
    assert [step.values["Jaccard"] for step in found.steps] == [0.5, 1.0]


def test_steps_without_a_common_image_or_a_second_step_are_refused(
    tmp_path: Path, truth: Path
) -> None:
    a = _scores(tmp_path / "a", [0.2, 0.7], ids=(IDS[0], IDS[7]))
    b = _scores(tmp_path / "b", [0.2, 0.7], ids=(IDS[1], IDS[6]))
    with pytest.raises(PredictionsError, match="no image that all of them know"):
        measure_steps([("a", a), ("b", b)], truth)
    with pytest.raises(ConfigError, match="1 step"):
        measure_steps([("a", a)], truth)


def test_the_command_writes_the_table_into_its_place(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = _scores(tmp_path / "a", [0.1, 0.2, 0.6, 0.65, 0.5, 0.7, 0.8, 0.9])
    b = _scores(tmp_path / "b", [0.1, 0.2, 0.3, 0.4, 0.5, 0.7, 0.8, 0.9])
    page = tmp_path / "page.md"
    page.write_text("x\n<!-- looks:begin -->\n<!-- looks:end -->\n")
    command = ["ablate", f"one={a}", f"eight={b}", "--truth", str(truth), "--draws", "20"]
    assert main([*command, "--write", str(page), "--block", "looks"]) == 0
    assert "| eight | 1.000 |" in page.read_text()
    assert main(["ablate", str(a), f"b={b}", "--truth", str(truth)]) == 2
    assert "names no step" in capsys.readouterr().err
