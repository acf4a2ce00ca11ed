import json
from pathlib import Path

import numpy as np
import pytest

from dermfuse.cli import main
from dermfuse.folders import NOTICE
from dermfuse.imaging.preprocess import write_mask, write_probability
from dermfuse.predictions.folder import Manifest, mask_path, probability_path, write_manifest

IDS = [f"ISIC_000000{index}" for index in range(6)]
LABELS = dict(zip(IDS, [0, 0, 1, 0, 1, 1], strict=True))
SCORES_A = [0.1, 0.2, 0.9, 0.6, 0.7, 0.8]  # one benign image above 0.5
SCORES_B = [0.3, 0.9, 0.2, 0.4, 0.6, 0.7]


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A plain truth folder: labels, and masks whose left half is lesion."""
    folder = tmp_path / "truth"
    folder.mkdir()
    rows = [f"{image_id},{label}" for image_id, label in LABELS.items()]
    (folder / "labels.csv").write_text("\n".join(["image_id,label", *rows]) + "\n")
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    for image_id in IDS:
        write_mask(folder / "masks" / f"{image_id}_Segmentation.png", mask)
    return folder


def scored(folder: Path, scores: list[float], *, split: str = "test") -> Path:
    rows = [f"{image_id},{score}" for image_id, score in zip(IDS, scores, strict=True)]
    folder.mkdir()
    (folder / "scores.csv").write_text("\n".join(["image_id,score", *rows]) + "\n")
    write_manifest(folder, Manifest("classification", source=folder.name, split=split))
    return folder


def segmented(folder: Path, width: int) -> Path:
    """Predicted masks and maps of the left ``width`` columns."""
    mask = np.zeros((20, 20), bool)
    mask[:, :width] = True
    for image_id in IDS:
        write_mask(mask_path(folder, image_id), mask)
        write_probability(probability_path(folder, image_id), mask.astype(np.float32))
    write_manifest(folder, Manifest("segmentation", source=folder.name, split="test"))
    return folder


def row(out: str, name: str) -> list[str]:
    """The cells beside a name; two blanks at least keep "AUC" and "AUC (DeLong)" apart."""
    lines = map(str.strip, out.splitlines())
    (found,) = (line for line in lines if line.startswith(f"{name}  "))
    return found.removeprefix(name).split()


def test_evaluate_prints_scores_with_intervals(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = scored(tmp_path / "a", SCORES_A)
    assert main(["evaluate", str(a), "--truth", str(truth), "--draws", "50"]) == 0
    captured = capsys.readouterr()
    assert row(captured.out, "AUC")[0] == "1.000"
    assert row(captured.out, "accuracy")[0] == "0.833"
    assert "6 images, 3 malignant; malignant at score > 0.5" in captured.out
    assert "50 bootstrap draws" in captured.out
    assert captured.out.endswith(f"\n\n{NOTICE}\n")
    assert captured.err == "Evaluating ...\n"


def test_evaluate_takes_another_threshold(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = scored(tmp_path / "a", SCORES_A)
    arguments = ["--truth", str(truth), "--draws", "50", "--threshold", "0.65", "--json"]
    assert main(["evaluate", str(a), *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["classification"]["accuracy"]["value"] == 1.0
    assert record["notice"] == NOTICE


def test_evaluate_prints_masks(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = segmented(tmp_path / "a", 5)
    assert main(["evaluate", str(a), "--truth", str(truth), "--draws", "50"]) == 0
    out = capsys.readouterr().out
    assert row(out, "Jaccard") == ["0.500", "0.500", "to", "0.500"]
    assert "6 masks" in out


def test_a_partial_prediction_is_evaluated_only_if_asked_for(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = scored(tmp_path / "a", SCORES_A)
    table = a / "scores.csv"
    table.write_text(table.read_text().replace("ISIC_0000005,0.8\n", ""))
    arguments = ["evaluate", str(a), "--truth", str(truth), "--draws", "50"]
    assert main(arguments) == 2
    assert "ISIC_0000005" in capsys.readouterr().err.splitlines()[-1]
    assert main([*arguments, "--partial"]) == 0
    assert "1 images without a prediction: ISIC_0000005" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ISIC_0000000,0.5", "line 8: ISIC_0000000 again, first on line 2"),
        ("ISIC_0000009,nan", "line 8: score nan"),
        ("ISIC_0000009,1.5", "line 8: score 1.5"),
        ("ISIC_0000009,high", "line 8: score 'high'"),
        (",0.5", "line 8: no image_id"),
        ("ISIC_0000009,0.5", "ISIC_0000009"),
    ],
)
def test_a_damaged_score_table_is_told_by_its_line(
    line: str, said: str, tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = scored(tmp_path / "a", SCORES_A)
    with (a / "scores.csv").open("a") as file:
        file.write(line + "\n")
    assert main(["evaluate", str(a), "--truth", str(truth)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert said in captured.err.splitlines()[-1]


def test_missing_folders_are_told(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a = scored(tmp_path / "a", SCORES_A)
    assert main(["evaluate", str(tmp_path / "none"), "--truth", str(truth)]) == 2
    assert "none is missing" in capsys.readouterr().err
    assert main(["evaluate", str(a), "--truth", str(tmp_path / "none")]) == 2
    assert "none is missing" in capsys.readouterr().err


def test_compare_prints_differences_and_both_tests(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = scored(tmp_path / "a", SCORES_A), scored(tmp_path / "b", SCORES_B)
    assert main(["compare", str(a), str(b), "--truth", str(truth), "--draws", "50"]) == 0
    out = capsys.readouterr().out
    assert row(out, "AUC")[:3] == ["1.000", "0.444", "+0.556"]
    assert row(out, "AUC (DeLong)")[0] == "+0.556"
    assert out.endswith(f"\n\n{NOTICE}\n")


def test_compare_as_json_is_one_object(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = segmented(tmp_path / "a", 5), segmented(tmp_path / "b", 10)
    arguments = ["--truth", str(truth), "--draws", "50", "--json"]
    assert main(["compare", str(a), str(b), *arguments]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["segmentation"]["jaccard"]["difference"]["value"] == -0.5
    assert record["notice"] == NOTICE


def test_fuse_averages_with_a_weight(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = scored(tmp_path / "a", SCORES_A), scored(tmp_path / "b", SCORES_B)
    out = tmp_path / "fused"
    assert main(["fuse", str(a), str(b), "--out", str(out), "--weight", "0.25"]) == 0
    assert "of 0.25 A + 0.75 B" in capsys.readouterr().out
    first = (out / "scores.csv").read_text().splitlines()[1]
    assert float(first.split(",")[1]) == pytest.approx(0.25 * 0.1 + 0.75 * 0.3)


def test_fuse_fits_the_weight_on_validation(
    tmp_path: Path, truth: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = (scored(tmp_path / name, SCORES_A, split="train") for name in ("a", "b"))
    fit_a = scored(tmp_path / "fit-a", SCORES_A, split="validation")
    fit_b = scored(tmp_path / "fit-b", SCORES_B, split="validation")
    fit = ["--fit-a", str(fit_a), "--fit-b", str(fit_b), "--truth", str(truth)]
    assert main(["fuse", str(a), str(b), "--out", str(tmp_path / "fused"), *fit]) == 0
    assert "chosen by average precision on 6 images: A 1.000, B" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--weight", "1.5"], "the weight of A is 1.5"),
        (["--fit-a", "x"], "only some of --fit-a, --fit-b and --truth"),
        (["--weight", "0.5", "--fit-a", "x", "--fit-b", "y", "--truth", "z"], "both a weight and"),
    ],
)
def test_fuse_refuses_contradictions(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = scored(tmp_path / "a", SCORES_A), scored(tmp_path / "b", SCORES_B)
    assert main(["fuse", str(a), str(b), "--out", str(tmp_path / "fused"), *options]) == 2
    assert said in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "fused").exists()


def test_fuse_leaves_an_existing_folder_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = scored(tmp_path / "a", SCORES_A), scored(tmp_path / "b", SCORES_B)
    assert main(["fuse", str(a), str(b), "--out", str(a)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
