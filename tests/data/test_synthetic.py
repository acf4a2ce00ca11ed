import csv
import itertools
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dermfuse.data import synthetic as dataset_module
from dermfuse.data.isic2016 import load_isic2016
from dermfuse.data.labels import Label
from dermfuse.data.synthetic import (
    CHANCES,
    FIRST_TEST_ID,
    FIRST_TRAIN_ID,
    Interference,
    Signs,
    SynthesisReport,
    SyntheticLesion,
    absorb,
    add_spot,
    blend,
    draw_lesion,
    draw_outline,
    draw_signs,
    make_frame,
    make_noise,
    paint_interference,
    paint_lesion,
    smooth_step,
    synthesize_isic2016,
)
from dermfuse.errors import ConfigError, RunError, StorageError

SIZE = (96, 72)
BARE: frozenset[Interference] = frozenset()


def draw(seed: int, label: Label = Label.BENIGN, **choices: object) -> SyntheticLesion:
    arguments: dict[str, object] = {"size_px": SIZE, "interferences": BARE, **choices}
    return draw_lesion(np.random.default_rng(seed), label=label, **arguments)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> SynthesisReport:
    folder = tmp_path_factory.mktemp("synthetic") / "set"
    return synthesize_isic2016(folder, train_count=10, test_count=5, seed=3, size_px=SIZE)


def files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


class TestDrawing:
    def test_an_image_has_the_size_asked_for_and_its_mask_too(self) -> None:
        drawn = draw(0, size_px=(130, 90))
        assert drawn.image.shape == (90, 130, 3)
        assert drawn.image.dtype == np.uint8
        assert drawn.image.flags.c_contiguous
        assert drawn.mask.shape == (90, 130)
        assert drawn.mask.dtype == np.bool_

    def test_equal_seeds_draw_equal_pixels_and_others_do_not(self) -> None:
        first, again, other = draw(4), draw(4), draw(5)
        assert np.array_equal(first.image, again.image)
        assert np.array_equal(first.mask, again.mask)
        assert not np.array_equal(first.image, other.image)

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
        assert 0 < drawn.mask.mean() < 1
        assert drawn.label == label
        assert kinds is None or drawn.interferences == kinds

    def test_a_lesion_is_darker_than_its_skin(self) -> None:
        drawn = [draw(seed, Label(seed % 2)) for seed in range(24)]
        contrast = [d.image[~d.mask].mean() - d.image[d.mask].mean() for d in drawn]
        assert np.mean(np.array(contrast) > 0) > 0.9

    def test_the_mask_is_where_the_pigment_is(self) -> None:
        frame = make_frame((160, 120))
        rng = np.random.default_rng(2)
        signs = Signs(0.2, 0.2, 0.2, 0.2)
        outline = draw_outline(rng, frame, signs, largest=0.3)
        paper = np.ones((3, *frame.shape), dtype=np.float32)
        paint_lesion(rng, frame, paper, outline, signs)
        pigmented = paper.min(axis=0) < 1
        assert pigmented[outline.mask].all()
        assert not pigmented[outline.opacity == 0].any()
        assert np.array_equal(outline.mask, outline.opacity >= 0.5)

    def test_a_lesion_is_one_piece_but_for_crumbs(self) -> None:
        measure = pytest.importorskip("skimage.measure")
        frame = make_frame(SIZE)
        for seed in range(20):
            signs = Signs(*np.random.default_rng(seed).random(4))
            mask = draw_outline(np.random.default_rng(seed), frame, signs, largest=0.25).mask
            pieces = np.bincount(measure.label(mask, connectivity=2)[mask])
            assert pieces.max() >= 0.95 * mask.sum()

    def test_melanomas_have_stronger_signs_and_difficulty_brings_the_classes_together(self) -> None:
        def gap(difficulty: float) -> float:
            rng = np.random.default_rng(0)
            means = [
                np.mean([draw_signs(rng, label, difficulty).colours for _ in range(300)])
                for label in Label
            ]
            return float(means[Label.MALIGNANT] - means[Label.BENIGN])

        assert gap(0.0) > gap(0.5) > gap(1.0) > 0.1

    @pytest.mark.parametrize("size", [(63, 100), (100, 0), (5000, 100)])
    def test_a_size_that_cannot_be_drawn_is_refused(self, size: tuple[int, int]) -> None:
        with pytest.raises(ConfigError, match="sides from 64 to 4096 px"):
            draw(0, size_px=size)

    @pytest.mark.parametrize("difficulty", [-0.1, 1.1, float("nan")])
    def test_a_difficulty_out_of_range_is_refused(self, difficulty: float) -> None:
        with pytest.raises(ConfigError, match="difficulty is"):
            draw(0, difficulty=difficulty)


class TestInterferences:
    @pytest.mark.parametrize("kind", Interference)
    def test_each_changes_the_image_and_never_the_mask(self, kind: Interference) -> None:
        rng = np.random.default_rng(11)
        frame = make_frame((160, 120))
        image = np.full((3, *frame.shape), 0.7, dtype=np.float32)
        mask = np.hypot(frame.x, frame.y) < 0.2
        kept = mask.copy()
        paint_interference(rng, frame, image, mask, kind)
        changed = np.abs(image - 0.7).max(axis=0) > 0.02
        assert 0.001 < changed.mean() < 0.9
        assert np.array_equal(mask, kept)

    def test_a_coloured_disc_never_lies_on_the_lesion(self) -> None:
        frame = make_frame((160, 120))
        mask = np.hypot(frame.x - 0.2, frame.y) < 0.35
        for seed in range(20):
            image = np.full((3, *frame.shape), 0.7, dtype=np.float32)
            rng = np.random.default_rng(seed)
            paint_interference(rng, frame, image, mask, Interference.COLOURED_DISC)
            assert np.abs(image[:, mask] - 0.7).max() < 0.12  # at most its shadow

    def test_where_no_room_is_left_the_disc_shrinks_into_a_corner(self) -> None:
        frame = make_frame((160, 120))
        mask = np.hypot(frame.x, frame.y) < 0.7
        image = np.full((3, *frame.shape), 0.7, dtype=np.float32)
        rng = np.random.default_rng(0)
        paint_interference(rng, frame, image, mask, Interference.COLOURED_DISC)
        changed = np.abs(image - 0.7).max(axis=0) > 0.15
        assert 0 < changed.mean() < 0.05
        assert not changed[mask].any()

    def test_chance_draws_each_about_as_often_as_it_says(self) -> None:
        drawn = [
            draw_lesion(np.random.default_rng(seed), label=Label.BENIGN, size_px=(64, 64))
            for seed in range(150)
        ]
        for kind, chance in CHANCES.items():
            share = np.mean([kind in lesion.interferences for lesion in drawn])
            assert share == pytest.approx(chance, abs=0.13)

    def test_their_names_are_plain_words(self) -> None:
        assert [str(kind) for kind in Interference] == [
            "hair",
            "ink",
            "ruler",
            "gel_bubbles",
            "coloured_disc",
            "dark_corners",
        ]


class TestFields:
    def test_noise_has_about_unit_deviation_at_every_scale(self) -> None:
        frame = make_frame((240, 240))
        for scale, octaves in ((0.02, 1), (0.05, 3)):
            noise = make_noise(np.random.default_rng(0), frame, scale, octaves)
            assert noise.dtype == np.float32
            assert noise.std() == pytest.approx(1, abs=0.2)
            assert noise.mean() == pytest.approx(0, abs=0.1)

    def test_the_frame_is_centred_and_measured_by_its_shorter_side(self) -> None:
        frame = make_frame((200, 100))
        assert frame.unit_px == 100
        assert frame.half == (1.0, 0.5)
        assert frame.x[0, 0] == pytest.approx(-0.995)
        assert frame.y[-1, 0] == pytest.approx(0.495)

    def test_a_smooth_step_is_zero_a_half_and_one(self) -> None:
        values = np.array([[-1.0, 0.0, 1.0, 2.0, 3.0]], dtype=np.float32)
        assert smooth_step(values, 0, 2).tolist() == [[0, 0, 0.5, 1, 1]]

    def test_a_dye_halves_the_light_at_ln_two(self) -> None:
        image = np.ones((3, 1, 1), dtype=np.float32)
        densities = np.array([0, 1, 2], dtype=np.float32)
        absorb(image, np.full((1, 1), np.log(2), dtype=np.float32), densities)
        assert image[:, 0, 0] == pytest.approx([1, 0.5, 0.25])

    def test_blending_mixes_by_opacity(self) -> None:
        image = np.zeros((3, 1, 2), dtype=np.float32)
        opacity = np.array([[0, 0.25]], dtype=np.float32)
        blend(image, np.array([1, 0.4, 0], dtype=np.float32), opacity)
        assert image[:, 0, 0].tolist() == [0, 0, 0]
        assert image[:, 0, 1] == pytest.approx([0.25, 0.1, 0])

    def test_a_spot_outside_the_field_leaves_it_alone(self) -> None:
        field = np.zeros((8, 8), dtype=np.float32)
        add_spot(field, (-50.0, 3.0), 2.0, 1.0)
        assert not field.any()
        add_spot(field, (3.0, 3.0), 2.0, 1.0)
        assert field[3, 3] == 1


class TestDataset:
    def test_it_is_read_as_the_official_layout(self, dataset: SynthesisReport) -> None:
        train, test = (load_isic2016(dataset.folder, split) for split in ("train", "test"))
        assert len(train.lesions) == 10
        assert len(test.lesions) == 5
        for part in (train, test):
            assert not part.missing_images
            assert not part.missing_masks
            assert not part.missing_labels
            assert not part.odd

    def test_ids_are_of_the_official_form_and_beyond_the_archive(
        self, dataset: SynthesisReport
    ) -> None:
        train, test = (load_isic2016(dataset.folder, split) for split in ("train", "test"))
        ids = [lesion.image_id for lesion in (*train.lesions, *test.lesions)]
        assert all(re.fullmatch(r"ISIC_99\d{5}", image_id) for image_id in ids)
        assert ids[0] == f"ISIC_{FIRST_TRAIN_ID}"
        assert ids[10] == f"ISIC_{FIRST_TEST_ID}"

    def test_labels_are_spelt_as_each_official_table_does(self, dataset: SynthesisReport) -> None:
        def labels(part: str) -> list[str]:
            path = dataset.folder / f"ISBI2016_ISIC_Part3_{part}_GroundTruth.csv"
            return [row[1] for row in csv.reader(path.read_text().splitlines())]

        assert labels("Training") == ["benign", "benign", "malignant", "benign", "benign"] * 2
        assert labels("Test") == ["0.0", "0.0", "1.0", "0.0", "0.0"]
        assert (dataset.train_malignant, dataset.test_malignant) == (2, 1)

    def test_masks_are_black_and_white_and_fit_their_images(self, dataset: SynthesisReport) -> None:
        for lesion in load_isic2016(dataset.folder, "train").lesions:
            assert lesion.mask_path is not None
            with Image.open(lesion.image_path) as image, Image.open(lesion.mask_path) as mask:
                assert image.size == mask.size == SIZE
                assert mask.mode == "L"
                assert set(np.unique(np.asarray(mask))) == {0, 255}

    def test_the_files_say_that_they_are_synthetic(self, dataset: SynthesisReport) -> None:
        assert "SYNTHETIC" in (dataset.folder / "README.txt").read_text(encoding="utf-8")
        path = load_isic2016(dataset.folder, "train").lesions[0].image_path
        with Image.open(path) as image:
            assert image.info["comment"].startswith(b"synthetic, drawn by dermfuse")

    def test_an_image_does_not_depend_on_how_many_there_are(
        self, dataset: SynthesisReport, tmp_path: Path
    ) -> None:
        fewer = tmp_path / "fewer"
        synthesize_isic2016(fewer, train_count=3, test_count=2, seed=3, size_px=SIZE)
        whole = files(dataset.folder)
        pictures = {name: data for name, data in files(fewer).items() if "/" in name}
        assert len(pictures) == 10
        assert all(whole[name] == data for name, data in pictures.items())

    def test_another_seed_draws_another_set(self, dataset: SynthesisReport, tmp_path: Path) -> None:
        synthesize_isic2016(tmp_path / "b", train_count=1, test_count=0, seed=4, size_px=SIZE)
        name = f"ISBI2016_ISIC_Part3_Training_Data/ISIC_{FIRST_TRAIN_ID}.jpg"
        assert files(tmp_path / "b")[name] != files(dataset.folder)[name]

    def test_training_and_test_images_differ(self, dataset: SynthesisReport) -> None:
        images = [data for name, data in files(dataset.folder).items() if name.endswith(".jpg")]
        assert len(images) == 15
        assert all(a != b for a, b in itertools.combinations(images, 2))

    def test_the_test_truth_can_be_withheld(self, tmp_path: Path) -> None:
        folder = tmp_path / "blind"
        synthesize_isic2016(
            folder, train_count=1, test_count=2, size_px=SIZE, with_test_truth=False
        )
        test = load_isic2016(folder, "test")
        assert len(test.lesions) == 2
        assert all(lesion.label is None and lesion.mask_path is None for lesion in test.lesions)

    def test_without_test_images_there_is_no_test_part(self, tmp_path: Path) -> None:
        folder = tmp_path / "set"
        report = synthesize_isic2016(folder, train_count=1, test_count=0, size_px=SIZE)
        assert report.test_count == 0
        assert not list(folder.glob("*Test*"))

    @pytest.mark.parametrize(("fraction", "malignant"), [(0.0, 0), (0.5, 3), (1.0, 6)])
    def test_the_malignant_share_is_met(
        self, fraction: float, malignant: int, tmp_path: Path
    ) -> None:
        report = synthesize_isic2016(
            tmp_path / "s",
            train_count=6,
            test_count=0,
            size_px=(64, 64),
            malignant_fraction=fraction,
        )
        assert report.train_malignant == malignant

    def test_progress_counts_every_image_once(self, tmp_path: Path) -> None:
        seen: list[tuple[int, int]] = []
        synthesize_isic2016(
            tmp_path / "s",
            train_count=2,
            test_count=1,
            size_px=(64, 64),
            progress=lambda done, total: seen.append((done, total)),
        )
        assert seen == [(1, 3), (2, 3), (3, 3)]

    def test_the_report_is_plain_json(self, dataset: SynthesisReport) -> None:
        assert dataset.to_dict() == {
            "folder": str(dataset.folder),
            "train_count": 10,
            "train_malignant": 2,
            "test_count": 5,
            "test_malignant": 1,
            "seed": 3,
            "width": 96,
            "height": 72,
            "difficulty": 0.4,
        }

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

    def test_a_full_disk_leaves_nothing_half_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(path: Path, _: object) -> None:
            raise OSError(28, "No space left on device", str(path))

        monkeypatch.setattr(dataset_module, "_write_image", full)
        with pytest.raises(StorageError, match="No space left on device"):
            synthesize_isic2016(tmp_path / "s", train_count=1, test_count=0, size_px=SIZE)
        assert [path.name for path in tmp_path.iterdir()] == ["s"]
        assert not list((tmp_path / "s").iterdir())

    def test_an_interruption_leaves_nothing_half_written(self, tmp_path: Path) -> None:
        def interrupt(_done: int, _total: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            synthesize_isic2016(
                tmp_path / "s", train_count=2, test_count=0, size_px=SIZE, progress=interrupt
            )
        assert not list((tmp_path / "s").iterdir())
