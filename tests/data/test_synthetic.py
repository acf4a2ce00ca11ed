import csv
import itertools
import re
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
    SynthesisReport,
    SyntheticLesion,
    draw_lesion,
    make_frame,
    paint_interference,
    synthesize_isic2016,
)
from dermfuse.errors import ConfigError, RunError, StorageError

SIZE = (96, 72)


def draw(seed: int, label: Label = Label.BENIGN, **choices: object) -> SyntheticLesion:
    arguments: dict[str, object] = {"size_px": SIZE, "interferences": frozenset(), **choices}
    return draw_lesion(np.random.default_rng(seed), label=label, **arguments)  # type: ignore[arg-type]


def painted(kind: Interference, mask: np.ndarray, seed: int = 0) -> np.ndarray:
    """How far an interference changes each pixel of a grey image of 160 x 120 px."""
    image = np.full((3, 120, 160), 0.7, np.float32)
    paint_interference(np.random.default_rng(seed), make_frame((160, 120)), image, mask, kind)
    return np.abs(image - 0.7).max(axis=0)


def disc(radius: float, right: float = 0.0) -> np.ndarray:
    frame = make_frame((160, 120))
    return np.hypot(frame.x - right, frame.y) < radius


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SynthesisReport:
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    return synthesize_isic2016(folder, train_count=10, test_count=5, seed=3, size_px=SIZE)


def pictures(folder: Path) -> Mapping[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("*/*")}


class TestDrawing:
    @settings(max_examples=20, deadline=None)
    @given(
        seed=st.integers(0, 2**32),
        label=st.sampled_from(Label),
        size=st.tuples(st.integers(64, 120), st.integers(64, 120)),
        kinds=st.sets(st.sampled_from(Interference)).map(frozenset) | st.none(),
    )
    def test_every_image_shows_a_lesion_on_skin(
        self,
        seed: int,
        label: Label,
        size: tuple[int, int],
        kinds: frozenset[Interference] | None,
    ) -> None:
        drawn = draw(seed, label, size_px=size, interferences=kinds)
        assert drawn.image.shape == (*size[::-1], 3)
        assert (drawn.image.dtype, drawn.mask.dtype) == (np.uint8, np.bool_)
        assert drawn.image.flags.c_contiguous
        assert 0 < drawn.mask.mean() < 1
        assert drawn.label == label
        assert kinds is None or drawn.interferences == kinds

    def test_a_lesion_is_darker_than_its_skin(self) -> None:
        drawn = [draw(seed, Label(seed % 2)) for seed in range(24)]
        contrast = [d.image[~d.mask].mean() - d.image[d.mask].mean() for d in drawn]
        assert np.mean(np.array(contrast) > 0) > 0.9

    def test_a_lesion_is_one_piece_but_for_crumbs(self) -> None:
        measure = pytest.importorskip("skimage.measure")
        for seed in range(20):
            kinds = frozenset({Interference.COLOURED_DISC})  # which keeps the lesion small
            mask = draw(seed, Label(seed % 2), interferences=kinds).mask
            pieces = np.bincount(measure.label(mask, connectivity=2)[mask])
            assert pieces.max() >= 0.95 * mask.sum()

    def test_melanomas_are_more_colourful_and_difficulty_brings_the_classes_together(self) -> None:
        def gap(difficulty: float) -> float:
            """How much more the hue varies within melanomas than within naevi."""
            of_class = []
            for label in Label:
                drawn = [draw(seed, label, difficulty=difficulty) for seed in range(24)]
                lesions = [d.image[d.mask].astype(float) for d in drawn]
                of_class.append(np.mean([(x[:, 0] - x[:, 2]).std() for x in lesions]))
            return float(of_class[Label.MALIGNANT] - of_class[Label.BENIGN])

        assert gap(0.0) > 2 * gap(1.0)

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            *(({"size_px": size}, "sides from 64 to 4096 px") for size in ((63, 100), (5000, 100))),
            *(({"difficulty": one}, "difficulty is") for one in (-0.1, 1.1, float("nan"))),
        ],
    )
    def test_what_cannot_be_drawn_is_refused(
        self, choices: dict[str, object], message: str
    ) -> None:
        with pytest.raises(ConfigError, match=message):
            draw(0, **choices)


class TestInterferences:
    @pytest.mark.parametrize("kind", Interference)
    def test_each_changes_the_image_and_never_the_mask(self, kind: Interference) -> None:
        mask, kept = disc(0.2), disc(0.2)
        assert 0.001 < (painted(kind, mask, seed=11) > 0.02).mean() < 0.9
        assert np.array_equal(mask, kept)

    def test_a_coloured_disc_never_lies_on_the_lesion(self) -> None:
        mask = disc(0.35, right=0.2)
        for seed in range(20):
            changed = painted(Interference.COLOURED_DISC, mask, seed)
            assert changed[mask].max() < 0.12, "at most its shadow"

    def test_where_no_room_is_left_the_disc_shrinks_into_a_corner(self) -> None:
        mask = disc(0.7)
        changed = painted(Interference.COLOURED_DISC, mask) > 0.15
        assert 0 < changed.mean() < 0.05
        assert not changed[mask].any()

    def test_chance_draws_them_about_as_often_as_in_isic_2016(self) -> None:
        drawn = [draw(seed, size_px=(64, 64), interferences=None) for seed in range(150)]
        shares = {kind: np.mean([kind in x.interferences for x in drawn]) for kind in Interference}
        assert shares["hair"] == pytest.approx(0.36, abs=0.13)
        assert shares["ink"] == pytest.approx(0.07, abs=0.13)


class TestDataset:
    def test_it_is_read_as_the_official_layout_with_ids_beyond_the_archive(
        self, dataset: SynthesisReport
    ) -> None:
        for split, count, first in (("train", 10, FIRST_TRAIN_ID), ("test", 5, FIRST_TEST_ID)):
            part = load_isic2016(dataset.folder, split)  # type: ignore[arg-type]
            ids = [lesion.image_id for lesion in part.lesions]
            assert ids == [f"ISIC_{first + index}" for index in range(count)]
            assert all(re.fullmatch(r"ISIC_99\d{5}", image_id) for image_id in ids)
            missing = part.missing_images + part.missing_masks + part.missing_labels
            assert missing + part.odd == ()

    def test_labels_are_spelt_as_each_official_table_does(self, dataset: SynthesisReport) -> None:
        def labels(part: str) -> list[str]:
            path = dataset.folder / f"ISBI2016_ISIC_Part3_{part}_GroundTruth.csv"
            return [row[1] for row in csv.reader(path.read_text().splitlines())]

        assert labels("Training") == ["benign", "benign", "malignant", "benign", "benign"] * 2
        assert labels("Test") == ["0.0", "0.0", "1.0", "0.0", "0.0"]
        assert (dataset.train_malignant, dataset.test_malignant) == (2, 1)

    def test_masks_are_black_and_white_and_all_files_say_that_they_are_synthetic(
        self, dataset: SynthesisReport
    ) -> None:
        for lesion in load_isic2016(dataset.folder, "train").lesions:
            with Image.open(lesion.image_path) as image, Image.open(str(lesion.mask_path)) as mask:
                assert image.info["comment"].startswith(b"synthetic, drawn by dermfuse")
                assert image.size == mask.size == SIZE
                assert mask.mode == "L"
                assert set(np.unique(np.asarray(mask))) == {0, 255}
        assert "SYNTHETIC" in (dataset.folder / "README.txt").read_text(encoding="utf-8")

    def test_an_image_depends_on_the_seed_and_not_on_how_many_there_are(
        self, dataset: SynthesisReport, tmp_path: Path
    ) -> None:
        whole = pictures(dataset.folder)
        photographs = [data for name, data in whole.items() if name.endswith(".jpg")]
        assert all(a != b for a, b in itertools.combinations(photographs, 2))
        for seed in (3, 4):
            folder = tmp_path / str(seed)
            synthesize_isic2016(folder, train_count=3, test_count=2, seed=seed, size_px=SIZE)
            fewer = pictures(folder)
            assert len(fewer) == 10
            assert [whole[name] == data for name, data in fewer.items()] == [seed == 3] * 10

    @pytest.mark.parametrize(("fraction", "malignant"), [(0.0, 0), (0.5, 3), (1.0, 6)])
    def test_the_malignant_share_is_met_and_no_test_image_makes_no_test_part(
        self, fraction: float, malignant: int, tmp_path: Path
    ) -> None:
        seen: list[tuple[int, int]] = []
        report = synthesize_isic2016(
            tmp_path / "s",
            train_count=6,
            test_count=0,
            size_px=(64, 64),
            malignant_fraction=fraction,
            progress=lambda done, total: seen.append((done, total)),
        )
        assert report.train_malignant == malignant
        assert seen == [(done, 6) for done in range(1, 7)]
        assert not list((tmp_path / "s").glob("*Test*"))

    @pytest.mark.parametrize(
        ("choices", "message"),
        [
            ({"train_count": 0}, "train_count is 0"),
            ({"train_count": 60_000}, "train_count is 60000"),
            ({"test_count": -1}, "test_count is -1"),
            ({"seed": -1}, "seed is -1"),
            ({"malignant_fraction": 1.5}, "malignant_fraction is 1.5"),
            ({"difficulty": 2.0}, "difficulty is 2.0"),
            ({"size_px": (10, 10)}, "the image size is 10 x 10 px"),
        ],
    )
    def test_choices_out_of_range_are_refused_before_anything_is_written(
        self, choices: dict[str, object], message: str, tmp_path: Path
    ) -> None:
        arguments: dict[str, object] = {"train_count": 1, "test_count": 1, **choices}
        with pytest.raises(ConfigError, match=message):
            synthesize_isic2016(tmp_path / "s", **arguments)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())

    def test_a_folder_that_holds_something_is_refused_and_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        with pytest.raises(RunError, match="not empty"):
            synthesize_isic2016(tmp_path, train_count=1, test_count=0, size_px=SIZE)
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]

    def test_a_full_disk_or_an_interruption_leaves_nothing_half_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupt(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        def fill(path: Path, _: object) -> None:
            raise OSError(28, "No space left on device", str(path))

        size = {"train_count": 2, "test_count": 0, "size_px": SIZE}
        with pytest.raises(KeyboardInterrupt):
            synthesize_isic2016(tmp_path / "s", **size, progress=interrupt)  # type: ignore[arg-type]
        monkeypatch.setattr(synthetic, "_write_image", fill)
        with pytest.raises(StorageError, match="No space left on device"):
            synthesize_isic2016(tmp_path / "s", **size)  # type: ignore[arg-type]
        assert not list(tmp_path.iterdir())
