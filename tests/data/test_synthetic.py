import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermfuse.data import synthetic
from dermfuse.data.isic2016 import Label, load_isic2016
from dermfuse.data.synthetic import (
    FIRST_TEST_ID,
    FIRST_TRAIN_ID,
    Interference,
    draw_lesion,
    make_frame,
    paint_interference,
    synthesize_isic2016,
)
from dermfuse.errors import ConfigError, RunError, StorageError

SMALL = {"train_count": 3, "test_count": 0, "size_px": (96, 72)}


def painted(kind: Interference, mask: np.ndarray, seed: int) -> np.ndarray:
    """How far an interference changes each pixel of a grey image of 160 x 120 px."""
    image = np.full((3, 120, 160), 0.7, np.float32)
    paint_interference(np.random.default_rng(seed), make_frame((160, 120)), image, mask, kind)
    return np.abs(image - 0.7).max(axis=0)


def disc(radius: float, right: float = 0.0) -> np.ndarray:
    frame = make_frame((160, 120))
    return np.hypot(frame.x - right, frame.y) < radius


def written(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*/*")}


@settings(max_examples=20)
@given(
    seed=st.integers(0, 2**32),
    label=st.sampled_from(Label),
    size=st.tuples(st.integers(64, 120), st.integers(64, 120)),
    kinds=st.sets(st.sampled_from(Interference)).map(frozenset) | st.none(),
)
def test_every_image_shows_a_lesion_on_skin(
    seed: int, label: Label, size: tuple[int, int], kinds: frozenset[Interference] | None
) -> None:
    rng = np.random.default_rng(seed)
    drawn = draw_lesion(rng, label=label, size_px=size, interferences=kinds)
    assert drawn.image.shape == (*size[::-1], 3)
    assert (drawn.image.dtype, drawn.mask.dtype) == (np.uint8, np.bool_)
    assert 0 < drawn.mask.mean() < 1
    assert drawn.label == label
    assert kinds is None or drawn.interferences == kinds


def test_a_lesion_is_darker_than_its_skin_and_one_piece_but_for_crumbs() -> None:
    measure = pytest.importorskip("skimage.measure")
    darker = []
    for seed in range(20):
        rng, kinds = np.random.default_rng(seed), frozenset[Interference]()
        drawn = draw_lesion(rng, label=Label(seed % 2), size_px=(96, 72), interferences=kinds)
        pieces = np.bincount(measure.label(drawn.mask, connectivity=2)[drawn.mask])
        assert pieces.max() >= 0.95 * drawn.mask.sum()
        darker.append(drawn.image[~drawn.mask].mean() > drawn.image[drawn.mask].mean())
    assert np.mean(darker) > 0.9


@pytest.mark.parametrize("kind", Interference)
def test_each_interference_changes_the_image_and_a_disc_never_lies_on_the_lesion(
    kind: Interference,
) -> None:
    mask, kept = disc(0.35, right=0.2), disc(0.35, right=0.2)
    for seed in range(5):
        changed = painted(kind, mask, seed)
        assert 0.001 < (changed > 0.02).mean() < 0.95
        assert kind != "coloured_disc" or changed[mask].max() < 0.12, "at most its shadow"
    assert np.array_equal(mask, kept)
    cornered = painted(Interference.COLOURED_DISC, disc(0.7), 0) > 0.15
    assert 0 < cornered.mean() < 0.05, "it shrinks where no room is left"


def test_a_dataset_is_read_as_the_official_layout_and_says_that_it_is_synthetic(
    tmp_path: Path,
) -> None:
    folder, size = tmp_path / "set", (96, 72)
    report = synthesize_isic2016(folder, train_count=10, test_count=5, seed=3, size_px=size)
    assert (report.train_malignant, report.test_malignant) == (2, 1)
    for split, count, first in (("train", 10, FIRST_TRAIN_ID), ("test", 5, FIRST_TEST_ID)):
        part = load_isic2016(folder, split)  # type: ignore[arg-type]
        ids = [lesion.image_id for lesion in part.lesions]
        assert ids == [f"ISIC_{first + index}" for index in range(count)]
        assert part.missing_images + part.missing_masks + part.missing_labels + part.odd == ()
        for lesion in part.lesions:
            with Image.open(lesion.image_path) as image, Image.open(str(lesion.mask_path)) as mask:
                assert image.info["comment"].startswith(b"synthetic, drawn by dermfuse")
                assert image.size == mask.size == size
                assert set(np.unique(np.asarray(mask))) == {0, 255}
    for part, benign, malignant in (("Training", "benign", "malignant"), ("Test", "0.0", "1.0")):
        lines = (folder / f"ISBI2016_ISIC_Part3_{part}_GroundTruth.csv").read_text().splitlines()
        assert [row[1] for row in csv.reader(lines)][:4] == [benign, benign, malignant, benign]
    assert "SYNTHETIC" in (folder / "README.txt").read_text(encoding="utf-8")


def test_an_image_depends_on_the_seed_and_not_on_how_many_there_are(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    for name, count, seed in (("whole", 5, 3), ("fewer", 3, 3), ("other", 3, 4)):
        choices = {**SMALL, "train_count": count}
        report = synthesize_isic2016(
            tmp_path / name,
            **choices,  # type: ignore[arg-type]
            seed=seed,
            malignant_fraction=0.6,
            progress=lambda *at: seen.append(at),
        )
        assert report.train_malignant == round(0.6 * count)
    whole, fewer, other = (written(tmp_path / name) for name in ("whole", "fewer", "other"))
    assert len(set(whole.values())) == 10
    assert [(whole[name] == fewer[name], whole[name] == other[name]) for name in fewer] == [
        (True, False)
    ] * 6
    assert seen[:5] == [(done, 5) for done in range(1, 6)]
    assert not list((tmp_path / "whole").glob("*Test*"))


@pytest.mark.parametrize(
    ("choices", "message"),
    [
        ({"train_count": 0}, "train_count is 0"),
        ({"train_count": 60_000}, "train_count is 60000"),
        ({"test_count": -1}, "test_count is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"malignant_fraction": 1.5}, "malignant_fraction is 1.5"),
        ({"difficulty": float("nan")}, "difficulty is nan"),
        ({"size_px": (63, 100)}, "the image size is 63 x 100 px"),
        ({"size_px": (5000, 100)}, "sides from 64 to 4096 px"),
    ],
)
def test_choices_out_of_range_are_refused_before_anything_is_written(
    choices: dict[str, object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        synthesize_isic2016(tmp_path / "s", **{**SMALL, **choices})  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_a_full_disk_an_interruption_or_a_folder_that_is_in_use_leave_nothing_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_done: int, _total: int) -> None:
        raise KeyboardInterrupt

    def fill(path: Path, _: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    with pytest.raises(KeyboardInterrupt):
        synthesize_isic2016(tmp_path / "s", **SMALL, progress=interrupt)  # type: ignore[arg-type]
    monkeypatch.setattr(synthetic, "_write_image", fill)
    with pytest.raises(StorageError, match="No space left on device"):
        synthesize_isic2016(tmp_path / "s", **SMALL)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty"):
        synthesize_isic2016(tmp_path, **SMALL)  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
