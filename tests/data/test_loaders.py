"""What a row of a plan does to pixels, by hand and beside PyTorch's own; caches and batches."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from dermfuse.config import AugmentConfig
from dermfuse.data.augment import Plan, classification_plan, originals
from dermfuse.data.isic2016 import Label, Lesion, load_isic2016
from dermfuse.data.loaders import (
    Effects,
    ImageCache,
    PlanTable,
    SampleSource,
    _compressed,
    _filtered,
    epoch_batches,
    fit_back,
    fit_mask,
    fit_probability,
    fit_square,
    hide_,
    inside_boxes,
    load_cache,
    pair_schedule,
    recolour,
    single_schedule,
    spoil,
    warp,
)
from dermfuse.errors import ImageError
from dermfuse.imaging.preprocess import read_image, squeeze

SQUARE = torch.ones(1)
TWICE_AS_WIDE = torch.tensor([2.0])
CORNER = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def _one(**columns: object) -> Plan:
    """A plan of one row that differs from the original in some columns."""
    plan = originals(1)
    typed = {key: np.array([value], getattr(plan, key).dtype) for key, value in columns.items()}
    return replace(plan, **typed)


def _blind(copies: int, **options: float) -> Plan:
    config = AugmentConfig(policy="label_blind", benign_copies=copies, **options)  # type: ignore[arg-type]
    return classification_plan(["a"], [Label.BENIGN], config, seed=0)


def _moved(x: Tensor, plan: Plan, aspects: Tensor = SQUARE) -> Tensor:
    table = PlanTable.from_plan(plan, aspects, x.shape[-1])
    return warp(x, table[torch.arange(len(x))].place)


def _recoloured(x: Tensor, **columns: object) -> list[float]:
    """Returns the first row of ``x`` in [0, 1], recoloured by one row."""
    table = PlanTable.from_plan(_one(**columns), SQUARE, x.shape[-1])
    return recolour(x * 255, table[torch.tensor([0])], table.effects)[0, :, 0].flatten().tolist()


def _spoilt(x: Tensor, **columns: object) -> Tensor:
    table = PlanTable.from_plan(_one(**columns), SQUARE, x.shape[-1])
    return spoil(x.clone(), table[torch.tensor([0])], table.effects)


def _bar(*, wide: bool) -> Tensor:
    """Returns a centred bar of 32 by 8 of 64 pixels, (1, 1, 64, 64)."""
    x = torch.zeros(1, 1, 64, 64)
    long, thin = slice(16, 48), slice(28, 36)
    x[0, 0, thin if wide else long, long if wide else thin] = 1
    return x


def _extent(x: Tensor) -> tuple[int, int]:
    """Returns how many rows and columns of the middle half are lit; reflections lie outside."""
    quarter = x.shape[-1] // 4
    lit = x[0, 0, quarter:-quarter, quarter:-quarter] > 0.5
    return int(lit.any(dim=1).sum()), int(lit.any(dim=0).sum())


class TestMoving:
    @pytest.mark.parametrize(
        ("columns", "expected"),
        [
            ({"mirror": True}, [2, 1, 4, 3]),
            ({"rotation": 1}, [2, 4, 1, 3]),
            ({"rotation": 2}, [4, 3, 2, 1]),
            ({"mirror": True, "rotation": 1}, [1, 3, 2, 4]),
        ],
    )
    def test_a_mirror_comes_before_quarter_turns_counter_clockwise(
        self, columns: dict[str, object], expected: list[float]
    ) -> None:
        assert _moved(CORNER, _one(**columns)).flatten().tolist() == pytest.approx(expected)

    @pytest.mark.parametrize("mirror", [False, True])
    @pytest.mark.parametrize("turns", range(4))
    def test_whole_pixels_move_as_those_of_an_array(self, *, mirror: bool, turns: int) -> None:
        x = IMAGES[:1]
        expected = (x.flip(-1) if mirror else x).rot90(turns, (-2, -1))
        assert torch.allclose(_moved(x, _one(mirror=mirror, rotation=turns)), expected, atol=1e-4)
        turned = _moved(x, _one(mirror=mirror, angle=90 * turns))
        assert torch.allclose(turned, expected, atol=1e-4), "an angle is counter-clockwise, too"

    def test_each_sample_of_a_batch_is_moved_by_its_own_row(self) -> None:
        mirror, rotation = np.array([False, True, False]), np.array([0, 0, 2])
        moved = _moved(
            CORNER.repeat(3, 1, 1, 1), replace(originals(3), mirror=mirror, rotation=rotation)
        )
        expected = torch.tensor([[[1.0, 2], [3, 4]], [[2, 1], [4, 3]], [[4, 3], [2, 1]]])
        assert torch.allclose(moved[:, 0], expected)

    def test_a_centre_crop_enlarges_the_middle(self) -> None:
        x = torch.arange(4.0).expand(1, 1, 4, 4)  # columns 0 1 2 3: the middle half is 0.5 to 2.5
        cropped = _moved(x, _one(crop=0.5))
        assert cropped[0, 0, 0].tolist() == pytest.approx([0.75, 1.25, 1.75, 2.25])

    @pytest.mark.parametrize(
        ("wide", "columns", "aspect", "extent"),
        [
            # 32 px long across the squeezed frame are 64 px in truth: longer down, thinner across.
            (True, {"angle": 90}, TWICE_AS_WIDE, (32, 4)),
            # A frame that was laid on its side has the other aspect.
            (False, {"angle": 90, "rotation": 1}, TWICE_AS_WIDE, (16, 16)),
            (True, {"stretch": 4}, SQUARE, (16, 16)),  # from 8 by 32: the area stays
        ],
    )
    def test_an_angle_turns_the_scene_in_the_frames_true_aspect(
        self, *, wide: bool, columns: dict[str, object], aspect: Tensor, extent: tuple[int, int]
    ) -> None:
        assert _extent(_moved(_bar(wide=wide), _one(**columns), aspect)) == extent

    def test_what_lies_outside_the_frame_is_its_reflection(self) -> None:
        x = torch.arange(1.0, 5.0).expand(1, 1, 4, 4)
        assert _moved(x, _one(crop=2)).min() >= 1, "no black corner"
        shifted = _moved(x, _one(shift=[0, 0.5]))
        assert shifted[0, 0, 0].tolist() == pytest.approx([3, 4, 4, 3])


class TestColours:
    def test_brightness_scales_and_contrast_keeps_the_mean(self) -> None:
        x = torch.full((1, 3, 2, 2), 0.4)
        x[..., 1] = 0.6
        assert _recoloured(x, brightness=1.2) == pytest.approx([0.48, 0.72] * 3)
        assert _recoloured(x, brightness=2) == pytest.approx([0.8, 1] * 3), "and stays in range"
        assert _recoloured(x, contrast=1.5) == pytest.approx([0.35, 0.65] * 3)
        assert _recoloured(x, saturation=0) == pytest.approx([0.4, 0.6] * 3, abs=1e-3)

    def test_no_saturation_leaves_the_brightness_and_half_a_turn_of_the_hue_the_opposite(
        self,
    ) -> None:
        red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)
        grey = 0.4 + 0.299 * 0.2
        assert _recoloured(red, saturation=0) == pytest.approx([grey] * 3, abs=1e-3)
        opposite = [2 * grey - value for value in (0.6, 0.4, 0.4)]
        assert _recoloured(red, hue=0.5) == pytest.approx(opposite, abs=1e-3)

    def test_an_occluding_box_is_black_and_the_rest_untouched(self) -> None:
        x = torch.ones(1, 3, 4, 4)
        shaded = hide_(x, torch.tensor([[0.25, 0.5, 0.5, 0.25]]))  # top, left, height, width
        expected = torch.ones(4, 4)
        expected[1:3, 2] = 0
        assert torch.equal(shaded[0, 0], expected)
        assert not inside_boxes(torch.zeros(1, 4), like=x).any(), "no box hides nothing"


class TestSpoiling:
    def test_a_flat_image_is_spoilt_by_noise_alone_that_the_generator_draws(self) -> None:
        flat = torch.full((1, 3, 32, 32), 0.5)
        assert torch.allclose(_spoilt(flat, resolution=3, blur=0.03, quality=30), flat, atol=0.02)
        noisy = []
        for seed in (0, 0, 1):
            torch.manual_seed(seed)
            noisy.append(_spoilt(flat, noise=0.1))
        assert noisy[0].std().item() == pytest.approx(0.1, rel=0.1)
        assert noisy[0].mean().item() == pytest.approx(0.5, abs=0.01)
        assert [torch.equal(noisy[0], other) for other in noisy] == [True, True, False]

    def test_the_matrix_of_resolution_is_pytorchs_resizing_there_and_back(self) -> None:
        sides = [32, 31, 20, 13]
        ours = _filtered(IMAGES, torch.tensor(sides).float()[:, None], torch.zeros(4, 1))
        for x, side, found in zip(IMAGES, sides, ours, strict=True):
            small = F.interpolate(x[None], (side, side), mode="bilinear", antialias=True)
            expected = F.interpolate(small, (32, 32), mode="bilinear")[0]
            assert torch.allclose(found, expected, atol=1e-5)

    def test_the_matrix_of_blur_is_a_gaussian_that_ends_after_three_deviations(self) -> None:
        deviations = [0.0, 0.2, 0.9, 1.8]
        ours = _filtered(IMAGES, torch.full((4, 1), 32.0), torch.tensor(deviations)[:, None])
        assert torch.allclose(ours[0], IMAGES[0], atol=1e-6)
        for x, deviation, found in zip(IMAGES[1:], deviations[1:], ours[1:], strict=True):
            reach = math.ceil(3 * deviation)
            at = torch.arange(-reach, reach + 1)
            kernel = torch.exp(-(at**2) / (2 * deviation**2))
            kernel = (kernel / kernel.sum()).expand(3, 1, 1, -1)
            padded = F.pad(x[None], [reach] * 4, mode="reflect")
            across = F.conv2d(padded, kernel, groups=3)
            expected = F.conv2d(across, kernel.transpose(2, 3), groups=3)[0]
            assert torch.allclose(found, expected, atol=1e-5)

    def test_cosines_that_are_quantised_finely_give_the_image_back(self) -> None:
        ours = _compressed(IMAGES, torch.full((4, 1), 1e-9))  # steps of 1 / 255, the finest
        assert (ours - IMAGES).abs().max() < 8 * 3 * 0.5 / 255
        coarse = _compressed(IMAGES, torch.full((4, 1), 1.0))  # a step of 11 and more: all is grey
        assert coarse.std() < 1e-3

    def test_a_row_that_asks_for_nothing_is_left_alone_beside_one_that_does(self) -> None:
        columns = {"blur": [0, 0.05], "quality": [100, 20], "noise": [0, 0.1]}
        arrays = {key: np.array(pair, np.float32) for key, pair in columns.items()}
        table = PlanTable.from_plan(replace(originals(2), **arrays), SQUARE, 32)
        spoilt = spoil(IMAGES[:2].clone(), table[torch.arange(2)], table.effects)
        assert torch.equal(spoilt[0], IMAGES[0])
        assert not torch.allclose(spoilt[1], IMAGES[1], atol=0.05)

    def test_only_what_some_row_asks_for_is_done(self) -> None:
        paper = classification_plan(["a"] * 9, [Label.MALIGNANT] * 9, AugmentConfig(), seed=0)
        for plan, effects in (
            (originals(3), Effects(*[False] * 6)),
            (paper, Effects(True, False, False, False, False, True)),
            (_blind(64), Effects(*[True] * 6)),
        ):
            assert PlanTable.from_plan(plan, SQUARE, 32).effects == effects


def _source(count: int, plan: Plan | None = None, size: int = 8) -> SampleSource:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))
    masks = torch.from_numpy(rng.integers(0, 2, (count, 1, size, size), dtype=np.uint8))
    return SampleSource.from_plan(ImageCache(images, masks), plan or originals(count))


class TestSamples:
    def test_an_original_is_the_decoded_image_exactly(self) -> None:
        source = _source(3)
        images = source.images(torch.tensor([2, 0]))
        assert torch.equal((images * 255).round().to(torch.uint8), source.planes[[2, 0], :3])
        assert torch.equal(source.masks(torch.tensor([1])), source.planes[[1], 3:].float())

    def test_the_same_row_gives_the_same_pixels_in_range_whoever_is_beside_it(self) -> None:
        source, rows = _source(1, _blind(64, noise=0), size=32), torch.arange(64)
        images = source.images(rows)
        assert torch.equal(images, source.images(rows))
        assert torch.allclose(images[5:6], source.images(rows[5:6]), atol=1e-5)
        assert 0 <= images.min() <= images.max() <= 1
        with torch.autocast("cpu", torch.bfloat16):  # pixels are augmented in float32 all the same
            assert torch.equal(images, source.images(rows))
            masks = source.masks(rows)
        assert torch.equal(masks, source.masks(rows))

    def test_a_mask_moves_with_its_image_and_stays_binary(self) -> None:
        masks, row = _source(1).planes[:, 3:], torch.tensor([0])
        cache = ImageCache(masks.expand(1, 3, 8, 8) * 255, masks)
        moved = SampleSource.from_plan(cache, _one(mirror=True, rotation=1, crop=0.9))
        assert torch.equal((moved.images(row)[:, :1] >= 0.5).float(), moved.masks(row))

    def test_masks_that_were_not_loaded_cannot_be_had(self) -> None:
        cache = ImageCache(torch.zeros(1, 3, 8, 8, dtype=torch.uint8), None)
        source = SampleSource.from_plan(cache, originals(1))
        with pytest.raises(ValueError, match="holds no masks"):
            source.masks(torch.tensor([0]))

    @pytest.mark.gpu
    def test_the_device_changes_no_moved_pixel(self) -> None:
        source, rows = _source(4), torch.arange(4)
        on_device = source.to(torch.device("cuda"))
        assert torch.equal(source.images(rows), on_device.images(rows.cuda()).cpu())


class TestCache:
    def test_it_holds_what_preprocess_reads(self, drawn: Path) -> None:
        lesions = load_isic2016(drawn, "train").lesions[:3]
        done: list[tuple[int, int]] = []
        cache = load_cache(lesions, 32, masks=True, progress=lambda *at: done.append(at))
        expected = squeeze(read_image(lesions[1].image_path), 32).transpose(2, 0, 1)
        assert np.array_equal(cache.images[1].numpy(), expected)
        assert cache.masks is not None
        assert cache.masks.shape == (3, 1, 32, 32)
        assert set(cache.masks.unique().tolist()) == {0, 1}
        assert done == [(1, 3), (2, 3), (3, 3)]

    def test_a_mask_of_another_size_than_its_image_is_refused(
        self, drawn: Path, tmp_path: Path
    ) -> None:
        lesion = load_isic2016(drawn, "train").lesions[0]
        Image.new("L", (32, 32)).save(tmp_path / "mask.png")
        odd = replace(lesion, mask_path=tmp_path / "mask.png")
        with pytest.raises(ImageError, match=r"is 32 x 32 px.* its image's size, 80 x 64 px"):
            load_cache([odd], 32, masks=True)
        with pytest.raises(ImageError, match="has no mask"):
            load_cache([Lesion("x", lesion.image_path, None, None)], 32, masks=True)

    def test_a_letterboxed_frame_keeps_its_aspect_and_comes_back(self) -> None:
        image = np.zeros((32, 64, 3), np.uint8)
        image[8:24, 24:40] = 255  # a square of a quarter of the width
        lit = fit_square(image, 64, "letterbox")[..., 0] > 128
        assert (lit[16:48].any(axis=1).sum(), lit[16:48].any(axis=0).sum()) == (16, 16)
        mask = fit_mask(image[..., 0] > 128, 64, "letterbox")
        assert np.array_equal(mask[16:48].astype(bool), lit[16:48])
        back = fit_back(mask.astype(np.float32), 32, 64, "letterbox")
        assert np.array_equal(back > 0.5, image[..., 0] > 128)
        again = fit_probability(back, 64, "letterbox")
        assert np.array_equal(again[16:48] > 0.5, lit[16:48])
        squeezed = fit_square(image, 32, "squeeze")[..., 0] > 128
        assert (squeezed.any(axis=1).sum(), squeezed.any(axis=0).sum()) == (16, 8)


class TestBatches:
    @pytest.mark.parametrize(
        ("rows", "size", "sizes"),
        [(65, 32, [22] * 3), (64, 32, [32] * 2), (7, 32, [7]), (9, 2, [2] * 5)],
    )
    def test_they_are_of_one_size_and_lose_no_row(
        self, rows: int, size: int, sizes: list[int]
    ) -> None:
        batches = epoch_batches(np.arange(rows), size, np.random.default_rng(0))
        assert [len(batch) for batch in batches] == sizes
        seen = np.bincount(np.concatenate(batches), minlength=rows)
        assert seen.min() == 1
        assert seen.max() <= 2, "some rows are seen twice, to fill the last batch"
        assert all(len(set(batch.tolist())) == len(batch) for batch in batches), (
            "never in one batch"
        )

    def test_an_epochs_order_depends_on_seed_and_epoch_alone(self) -> None:
        orders = [
            torch.cat(single_schedule(np.arange(40), 8, seed=seed, epoch=epoch)).tolist()
            for seed, epoch in ((0, 3), (0, 3), (0, 4), (1, 3))
        ]
        assert [orders[0] == order for order in orders] == [True, True, False, False]

    def test_pairs_alternate_one_to_four_over_the_iterations_of_all_epochs(self) -> None:
        labels = np.arange(70) % 3 // 2
        epochs = [pair_schedule(np.arange(70), labels, 10, seed=0, epoch=epoch) for epoch in (0, 1)]
        for iteration, pair in enumerate(pair for epoch in epochs for pair in epoch):
            assert (pair.partner is not None) == (iteration % 5 == 0)
            if pair.partner is None:
                assert sorted(pair.a.tolist()) != sorted(pair.b.tolist())
            else:
                assert torch.equal(pair.a[pair.partner], pair.b)
                unequal = (labels[pair.a] != labels[pair.b]).sum()
                assert unequal <= 2, "at most one matched pair has unequal labels"
        assert iteration == 13
