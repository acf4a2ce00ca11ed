"""The commands on predictions folders, on results of analyze, and the figures of both."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermfuse.training.prediction
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.folders import NOTICE, read_json
from dermfuse.imaging.preprocess import write_mask, write_probability
from dermfuse.predictions.folder import (
    Manifest,
    SubmissionReport,
    mask_path,
    probability_path,
    write_manifest,
)
from dermfuse.predictions.scores import read_scores

from ..small_release import skin, write_small_release
from .conftest import Run

IDS = [f"ISIC_000000{index}" for index in range(6)]
LABELS = [0, 0, 1, 0, 1, 1]
SCORES_A = [0.1, 0.2, 0.9, 0.6, 0.7, 0.8]  # one benign image above 0.5
SCORES_B = [0.3, 0.9, 0.2, 0.4, 0.6, 0.7]


def table(folder: Path, name: str, rows: dict[str, object]) -> Path:
    """Writes a CSV of ids into a new folder, which it returns."""
    folder.mkdir()
    lines = [f"image_id,{name.partition('s.')[0]}", *(f"{key},{rows[key]}" for key in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def scored(folder: Path, rows: dict[str, object], *, split: str = "test") -> Path:
    table(folder, "scores.csv", rows)
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


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """A plain truth folder: labels, and masks whose left half is lesion."""
    folder = table(tmp_path / "truth", "labels.csv", dict(zip(IDS, LABELS, strict=True)))
    mask = np.zeros((20, 20), bool)
    mask[:, :10] = True
    for image_id in IDS:
        write_mask(folder / "masks" / f"{image_id}_Segmentation.png", mask)
    return folder


@pytest.fixture
def a(tmp_path: Path) -> Path:
    return scored(tmp_path / "a", dict(zip(IDS, SCORES_A, strict=True)))


@pytest.fixture
def b(tmp_path: Path) -> Path:
    return scored(tmp_path / "b", dict(zip(IDS, SCORES_B, strict=True)))


def row(out: str, name: str) -> list[str]:
    """The cells beside a name; two blanks at least keep "AUC" and "AUC (DeLong)" apart."""
    lines = map(str.strip, out.splitlines())
    (found,) = (line for line in lines if line.startswith(f"{name}  "))
    return found.removeprefix(name).split()


def test_evaluate_prints_scores_with_intervals(a: Path, truth: Path, run: Run) -> None:
    evaluate = ["evaluate", a, "--truth", truth, "--draws", 50]
    said = run(*evaluate)
    assert row(said.out, "AUC")[0] == "1.000"
    assert row(said.out, "accuracy")[0] == "0.833"
    assert "6 images, 3 malignant; malignant at score > 0.5" in said.out
    assert "50 bootstrap draws" in said.out
    assert said.out.endswith(f"\n\n{NOTICE}\n")
    assert said.err == "Evaluating ...\n"
    record = run(*evaluate, "--threshold", 0.65, "--json").record
    assert record["classification"]["accuracy"]["value"] == 1.0


def test_masks_are_evaluated_and_compared(truth: Path, tmp_path: Path, run: Run) -> None:
    a, b = segmented(tmp_path / "a", 5), segmented(tmp_path / "b", 10)
    options = ["--truth", truth, "--draws", 50]
    out = run("evaluate", a, *options).out
    assert row(out, "Jaccard") == ["0.500", "0.500", "to", "0.500"]
    assert "6 masks" in out
    record = run("compare", a, b, *options, "--json").record
    assert record["segmentation"]["jaccard"]["difference"]["value"] == -0.5


def test_compare_prints_differences_and_both_tests(a: Path, b: Path, truth: Path, run: Run) -> None:
    out = run("compare", a, b, "--truth", truth, "--draws", 50).out
    assert row(out, "AUC")[:3] == ["1.000", "0.444", "+0.556"]
    assert row(out, "AUC (DeLong)")[0] == "+0.556"
    assert out.endswith(f"\n\n{NOTICE}\n")


def test_a_partial_prediction_is_evaluated_only_if_asked_for(
    a: Path, truth: Path, run: Run
) -> None:
    scores = a / "scores.csv"
    scores.write_text(scores.read_text().replace("ISIC_0000005,0.8\n", ""))
    evaluate = ["evaluate", a, "--truth", truth, "--draws", 50]
    assert "ISIC_0000005" in run(*evaluate, status=2).error
    assert "1 images without a prediction: ISIC_0000005" in run(*evaluate, "--partial").out


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("ISIC_0000000,0.5", "line 8: ISIC_0000000 again, first on line 2"),
        ("ISIC_0000009,nan", "line 8: score nan"),
        ("ISIC_0000009,1.5", "line 8: score 1.5"),
        ("ISIC_0000009,high", "line 8: score 'high'"),
        (",0.5", "line 8: no image_id"),
        ("ISIC_0000009,0.5", "ISIC_0000009"),
        (None, "none is missing"),
    ],
)
def test_a_damaged_score_table_is_named_with_its_line(
    line: str | None, said: str, a: Path, truth: Path, run: Run
) -> None:
    with (a / "scores.csv").open("a") as file:
        file.write(f"{line}\n" if line else "")
    where = truth if line else truth / "none"
    assert said in run("evaluate", a, "--truth", where, status=2).error


def test_fuse_averages_with_a_weight_and_fits_it_on_validation(
    a: Path, b: Path, truth: Path, tmp_path: Path, run: Run
) -> None:
    fuse = ["fuse", a, b, "--out", tmp_path / "fused"]
    assert "of 0.25 A + 0.75 B" in run(*fuse, "--weight", 0.25).out
    fused = read_scores(tmp_path / "fused" / "scores.csv")
    assert fused.scores[0] == pytest.approx(0.25 * 0.1 + 0.75 * 0.3)
    assert "exists and is not empty" in run(*fuse, status=2).error
    trained, fit_a, fit_b = (
        scored(tmp_path / name, dict(zip(IDS, scores, strict=True)), split=split)
        for name, scores, split in (
            ("trained", SCORES_A, "train"),
            ("fit-a", SCORES_A, "validation"),
            ("fit-b", SCORES_B, "validation"),
        )
    )
    fit = ["--fit-a", fit_a, "--fit-b", fit_b, "--truth", truth, "--out", tmp_path / "fitted"]
    out = run("fuse", trained, trained, *fit).out
    assert "chosen by average precision on 6 images: A 1.000, B" in out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--weight", "1.5"], "the weight of A is 1.5"),
        (["--fit-a", "x"], "only some of --fit-a, --fit-b and --truth"),
        (["--weight", "0.5", "--fit-a", "x", "--fit-b", "y", "--truth", "z"], "both a weight and"),
    ],
)
def test_fuse_refuses_contradictions(
    options: list[str], said: str, a: Path, b: Path, tmp_path: Path, run: Run
) -> None:
    assert said in run("fuse", a, b, "--out", tmp_path / "fused", *options, status=2).error
    assert not (tmp_path / "fused").exists()


def test_folds_are_joined_and_seeds_averaged(tmp_path: Path, run: Run) -> None:
    folds = [table(tmp_path / name, "scores.csv", {name: 0.5}) for name in "abc"]
    said = run("join", *folds, "--out", tmp_path / "joined").out
    assert "3 predictions (classification) from 3 folders lie in" in said
    assert said.endswith(NOTICE + "\n")
    assert read_scores(tmp_path / "joined" / "scores.csv").image_ids == ("a", "b", "c")
    seeds = [table(tmp_path / f"{score}", "scores.csv", {"x": score}) for score in (0.25, 0.75)]
    record = run("average", *seeds, "--out", tmp_path / "mean", "--json").record
    assert (record["kind"], record["folder_count"]) == ("average", 2)
    assert read_scores(tmp_path / "mean" / "scores.csv").scores.tolist() == [0.5]


@pytest.mark.parametrize(
    ("command", "said"), [("join", "x: predicted in"), ("average", "y: predicted in")]
)
def test_folders_that_do_not_fit_are_one_line(
    command: str, said: str, tmp_path: Path, run: Run
) -> None:
    one = table(tmp_path / "one", "scores.csv", {"x": 0.5})
    two = table(tmp_path / "two", "scores.csv", {"x": 0.5, "y": 0.5})
    assert said in run(command, one, two, "--out", tmp_path / "out", status=2).error
    assert not (tmp_path / "out").exists()


def test_a_table_is_printed_and_written_into_a_page(
    a: Path, truth: Path, tmp_path: Path, run: Run
) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- results:begin -->\n<!-- results:end -->\nafter\n")
    tabulate = ["tabulate", a, "--truth", truth, "--draws", 20]
    out = run(*tabulate, "--write", page).out
    assert NOTICE in out
    for text in (out, page.read_text()):
        assert "| a | test |" in text
    assert page.read_text().endswith("after\n")
    assert run(*tabulate, "--json").record["results"][0]["classification"]["auc"]["value"] == 1


def test_a_submission_may_look_eight_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    looked: list[bool] = []

    def submit(run: Path, *, out: Path, tta: bool, **_: object) -> SubmissionReport:
        looked.append(tta)
        return SubmissionReport(out, "classification", 6, 0.1)

    monkeypatch.setattr(dermfuse.training.prediction, "submit", submit)
    command = ["submit", "run", "--data", "d", "--out", tmp_path]
    assert "6 images (classification)" in run(*command).out
    assert run(*command, "--tta", "--json").record["images"] == 6
    assert looked == [False, True]


def test_what_is_no_run_or_lacks_its_data_cannot_be_submitted(tmp_path: Path, run: Run) -> None:
    submit = ["submit", tmp_path, "--out", tmp_path / "out"]
    assert "run.json is missing" in run(*submit, "--data", tmp_path, status=2).error
    (tmp_path / "config.toml").write_text("")
    assert "Add --data" in run(*submit, status=2).error
    assert not (tmp_path / "out").exists()


def test_results_of_analyze_are_converted_and_packed(
    release: Path, tmp_path: Path, run: Run
) -> None:
    Image.fromarray(skin(40)).save(tmp_path / "lesion.png")
    results, packed = tmp_path / "results", tmp_path / "packed"
    analyze = ["analyze", tmp_path / "lesion.png", "--release", release, "--out", results]
    run(*analyze, "--masks", "--no-report")
    converted = run("convert", results, "--out", tmp_path / "predictions").out
    assert "joint; release small" in converted
    assert "1 images (joint)" in run("submit", results, "--out", packed).out
    assert {path.name for path in packed.iterdir()} == {"masks.zip", "run.json", "scores.csv"}


def test_withheld_images_are_named_by_convert_and_counted_by_evaluate(
    tmp_path: Path, run: Run
) -> None:
    release = write_small_release(tmp_path / "release", with_gate=True)
    truth = table(tmp_path / "truth", "labels.csv", {"known": "benign", "page": "malignant"})
    images, results, predictions = (tmp_path / name for name in ("images", "results", "scores"))
    images.mkdir()
    Image.fromarray(skin(10)).save(images / "known.png")
    Image.new("RGB", (64, 48), "white").save(images / "page.png")
    run("analyze", images, "--release", release, "--out", results)
    assert "1 images were withheld" in run("convert", results, "--out", predictions).out
    out = run("evaluate", predictions, "--truth", truth).out
    assert "withheld: 1 of 1 (100.0 %) malignant and 0 of 1 (0.0 %) benign images" in out
    assert "sensitivity, withheld malignant images counted as missed" in out
    assert "page of" in run("submit", results, "--out", tmp_path / "packed", status=2).error


def test_figures_are_written_and_the_others_are_explained(
    drawn: Path, tmp_path: Path, run: Run
) -> None:
    lesions = load_isic2016(drawn, "train").lesions
    right = {lesion.image_id: 0.1 + 0.8 * int(lesion.label or 0) for lesion in lesions}
    scores, out = scored(tmp_path / "scores", {**right}, split="train"), tmp_path / "out"
    figures = ["figures", scores, "--data", drawn, "--draws", 10, "--out"]
    said = run(*figures, out).out
    assert f"{out / 'reliability.png'}  Reliability of the scores" in said
    assert "Fig. 8 is not drawn: there is no run for classification" in said
    assert said.endswith(NOTICE + "\n")
    names = {path.name for path in out.iterdir()}
    assert names == {"reliability.png", "roc-and-recall.png", "decision-curve.png", "figures.json"}
    again = tmp_path / "again"
    assert run(*figures, again, "--json").record == read_json(again / "figures.json")
    assert "the figures folder" in run(*figures, out, status=2).error
