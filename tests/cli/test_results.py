"""The commands on predictions folders, on results of analyze, and the figures of both."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermfuse.training.prediction
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.folder import Manifest, SubmissionReport, mask_path, write_manifest
from dermfuse.predictions.scores import read_scores
from dermfuse.records.folders import read_json

from ..small_release import skin, write_small_release
from .conftest import IDS, SCORES, Run, scored, table

BLOCK = "<!-- results:begin -->\n<!-- results:end -->"


def row(out: str, name: str) -> list[str]:
    """The cells beside a name; two blanks at least keep "AUC" and "AUC (DeLong)" apart."""
    lines = map(str.strip, out.splitlines())
    (found,) = (line for line in lines if line.startswith(f"{name}  "))
    return found.removeprefix(name).split()


@pytest.mark.usefixtures("room")
def test_scores_are_evaluated_and_compared_with_intervals_and_tests(run: Run) -> None:
    said = run("evaluate a --truth truth --draws 50")
    assert row(said.out, "AUC")[0] == "1.000"
    assert row(said.out, "accuracy")[0] == "0.833"
    assert "6 images, 3 malignant; malignant at score > 0.5" in said.out
    assert "50 bootstrap draws" in said.out
    assert said.err == "Evaluating ...\n"
    record = run("evaluate a --truth truth --draws 50 --threshold 0.65 --json").record
    assert record["classification"]["accuracy"]["value"] == 1.0
    out = run("compare a b --truth truth --draws 50").out
    assert row(out, "AUC")[:3] == ["1.000", "0.444", "+0.556"]
    assert row(out, "AUC (DeLong)")[0] == "+0.556"


def test_masks_are_evaluated_and_compared(tmp_path: Path, run: Run) -> None:
    truth = table(tmp_path / "truth", "labels.csv", dict.fromkeys(IDS, 0))
    for folder, width in ((tmp_path / "a", 5), (tmp_path / "b", 10)):
        for image_id in IDS:
            mask = np.arange(400).reshape(20, 20) % 20 < width  # the left columns
            write_mask(mask_path(folder, image_id), mask)
            write_mask(truth / "masks" / f"{image_id}_Segmentation.png", mask)
        write_manifest(folder, Manifest("segmentation", source=folder.name, split="test"))
    out = run("evaluate", tmp_path / "a", "--draws 50 --truth", truth).out
    assert row(out, "Jaccard") == ["0.500", "0.500", "to", "0.500"]
    assert "6 masks" in out
    pair = (tmp_path / "a", tmp_path / "b")
    record = run("compare --json", *pair, "--draws 50 --truth", truth).record
    assert record["segmentation"]["jaccard"]["difference"]["value"] == -0.5


def test_a_partial_prediction_is_evaluated_only_if_asked_for(
    room: Path, tmp_path: Path, run: Run
) -> None:
    some = scored(tmp_path / "some", dict(zip(IDS[:-1], SCORES["a"], strict=False)))
    assert IDS[-1] in run("evaluate --truth truth", some, status=2).err
    assert (
        f"1 images without a prediction: {IDS[-1]}"
        in run("evaluate --truth truth --draws 9 --partial", some).out
    )
    with (some / "scores.csv").open("a") as file:
        file.write(f"{IDS[-1]},1.5\n")
    assert "line 7: score 1.5" in run("evaluate --truth truth", some, status=2).err


@pytest.mark.usefixtures("room")
def test_fuse_averages_with_a_weight_and_fits_it_on_validation(tmp_path: Path, run: Run) -> None:
    fused = tmp_path / "fused"
    assert "of 0.25 A + 0.75 B" in run("fuse a b --weight 0.25 --out", fused).out
    expected = 0.25 * SCORES["a"][0] + 0.75 * SCORES["b"][0]
    assert read_scores(fused / "scores.csv").scores[0] == pytest.approx(expected)
    trained, a, b = (
        scored(tmp_path / name, dict(zip(IDS, SCORES[name[-1]], strict=True)), split=split)
        for name, split in (("train-a", "train"), ("fit-a", "validation"), ("fit-b", "validation"))
    )
    fit = ("--fit-a", a, "--fit-b", b, "--truth truth --out", tmp_path / "fitted")
    out = run("fuse", trained, trained, *fit).out
    assert "chosen by average precision on 6 images: A 1.000, B" in out


@pytest.mark.usefixtures("room")
def test_folds_are_joined_seeds_averaged_and_both_tabulated_in_a_page(
    tmp_path: Path, run: Run
) -> None:
    said = run("join third other --out", tmp_path / "joined").out
    assert "2 predictions (classification) from 2 folders lie in" in said
    assert read_scores(tmp_path / "joined" / "scores.csv").image_ids == ("other", "third")
    record = run("average a b --json --out", tmp_path / "mean").record
    assert (record["kind"], record["folder_count"]) == ("average", 2)
    mean = read_scores(tmp_path / "mean" / "scores.csv").scores
    assert mean.tolist() == pytest.approx(np.mean([SCORES["a"], SCORES["b"]], axis=0).tolist())
    page = tmp_path / "page.md"
    page.write_text(f"before\n{BLOCK}\nafter\n")
    out = run("tabulate a --truth truth --draws 20 --write", page).out
    for text in (out, page.read_text()):
        assert "| a | test |" in text
    assert page.read_text().endswith("after\n")


def test_a_submission_may_look_eight_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    looked: list[bool] = []

    def submit(run: Path, *, out: Path, tta: bool, **_: object) -> SubmissionReport:
        looked.append(tta)
        return SubmissionReport(out, "classification", 6, 0.1)

    monkeypatch.setattr(dermfuse.training.prediction, "submit", submit)
    assert "6 images (classification)" in run("submit run --data d --out", tmp_path).out
    assert run("submit run --data d --tta --json --out", tmp_path).record["images"] == 6
    assert looked == [False, True]


def test_results_of_analyze_are_converted_packed_and_evaluated_without_what_was_withheld(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.chdir(tmp_path)
    write_small_release(Path("release"), with_gate=True)
    Path("images").mkdir()
    Image.fromarray(skin(10)).save("images/known.png")
    run("analyze images --release release --masks --no-report --out known")
    assert "joint; release small" in run("convert known --out converted").out
    assert "1 images (joint)" in run("submit known --out packed").out
    packed = {path.name for path in Path("packed").iterdir()}
    assert packed == {"masks.zip", "run.json", "scores.csv"}

    table(Path("truth"), "labels.csv", {"known": "benign", "page": "malignant"})
    Image.new("RGB", (64, 48), "white").save("images/page.png")
    run("analyze images --release release --out results")
    assert "1 images were withheld" in run("convert results --out scores").out
    out = run("evaluate scores --truth truth").out
    assert "withheld: 1 of 1 (100.0 %) malignant and 0 of 1 (0.0 %) benign images" in out
    assert "sensitivity, withheld malignant images counted as missed" in out
    assert "page of" in run("submit results --out more", status=2).err


def test_figures_are_written_and_the_others_are_explained(
    drawn: Path, tmp_path: Path, run: Run
) -> None:
    lesions = load_isic2016(drawn, "train").lesions
    right = {lesion.image_id: 0.1 + 0.8 * int(lesion.label or 0) for lesion in lesions}
    scores, out = scored(tmp_path / "scores", right, split="train"), tmp_path / "out"
    figures = ("figures", scores, "--draws 10 --data", drawn, "--out")
    said = run(*figures, out).out
    assert f"{out / 'reliability.png'}  Reliability of the scores" in said
    assert "Fig. 8 is not drawn: there is no run for classification" in said
    names = {path.name for path in out.iterdir()}
    assert names == {"reliability.png", "roc-and-recall.png", "decision-curve.png", "figures.json"}
    again = tmp_path / "again"
    assert run(*figures, again, "--json").record == read_json(again / "figures.json")
