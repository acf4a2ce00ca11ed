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
from dermfuse.data.isic2016 import Label, load_isic2016
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


def _spoilt(x: Tensor, **columns: object) -> Tensor:
    table = PlanTable.from_plan(_one(**columns), SQUARE, x.shape[-1])
    return spoil(x.clone(), table[torch.tensor([0])], table.effects)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_a_mirror_comes_before_quarter_turns_counter_clockwise(*, mirror: bool, turns: int) -> None:
    x = IMAGES[:1]
    expected = (x.flip(-1) if mirror else x).rot90(turns, (-2, -1))
    for columns in ({"rotation": turns}, {"angle": 90 * turns}):
        moved = _moved(x, _one(mirror=mirror, **columns))
        assert torch.allclose(moved, expected, atol=1e-4)


def test_a_centre_crop_enlarges_the_middle_and_what_lies_outside_is_a_reflection() -> None:
    x = torch.arange(4.0).expand(1, 1, 4, 4)  # columns 0 1 2 3: the middle half is 0.5 to 2.5
    first_row = {
        "crop": (0.5, [0.75, 1.25, 1.75, 2.25]),
        "shift": ([0, 0.5], [2, 3, 3, 2]),
    }
    for column, (value, expected) in first_row.items():
        found = _moved(x, _one(**{column: value}))[0, 0, 0]
        assert found.tolist() == pytest.approx(expected)


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
    *, wide: bool, columns: dict[str, object], aspect: Tensor, extent: tuple[int, int]
) -> None:
    x = torch.zeros(1, 1, 64, 64)  # a centred bar of 32 by 8
    long, thin = slice(16, 48), slice(28, 36)
    x[0, 0, thin if wide else long, long if wide else thin] = 1
    middle = _moved(x, _one(**columns), aspect)[0, 0, 16:48, 16:48] > 0.5  # of it, no reflections
    assert (middle.any(dim=1).sum(), middle.any(dim=0).sum()) == extent


def test_colours_are_as_by_hand() -> None:
    x = torch.full((1, 3, 2, 2), 0.4)
    x[..., 1] = 0.6
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)
    grey = 0.4 + 0.299 * 0.2
    for image, columns, expected in (
        (x, {"brightness": 1.2}, [0.48, 0.72] * 3),
        (x, {"brightness": 2}, [0.8, 1] * 3),  # and stays in range
        (x, {"contrast": 1.5}, [0.35, 0.65] * 3),  # the mean stays
        (red, {"saturation": 0}, [grey] * 3),
        (red, {"hue": 0.5}, [2 * grey - value for value in (0.6, 0.4, 0.4)]),
    ):
        table = PlanTable.from_plan(_one(**columns), SQUARE, image.shape[-1])
        found = recolour(image * 255, table[torch.tensor([0])], table.effects)[0, :, 0]
        assert found.flatten().tolist() == pytest.approx(expected, abs=1e-3)


def test_an_occluding_box_is_black_and_the_rest_untouched() -> None:
    boxes = torch.tensor([[0.25, 0.5, 0.5, 0.25], [0, 0, 0, 0]])  # top, left, height, width
    shaded = hide_(torch.ones(2, 3, 4, 4), boxes)
    expected = torch.ones(4, 4)
    expected[1:3, 2] = 0
    assert torch.equal(shaded[0, 0], expected)
    assert (shaded[1] == 1).all(), "no box hides nothing"


def test_a_flat_image_is_spoilt_by_noise_alone_that_the_generator_draws() -> None:
    flat = torch.full((1, 3, 32, 32), 0.5)
    assert torch.allclose(_spoilt(flat, resolution=3, blur=0.03, quality=30), flat, atol=0.02)
    noisy = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        noisy.append(_spoilt(flat, noise=0.1))
    assert noisy[0].std().item() == pytest.approx(0.1, rel=0.1)
    assert [torch.equal(noisy[0], other) for other in noisy] == [True, True, False]


def test_the_matrix_of_resolution_is_pytorchs_resizing_there_and_back() -> None:
    sides = [32, 31, 20, 13]
    ours = _filtered(IMAGES, torch.tensor(sides).float()[:, None], torch.zeros(4, 1))
    for x, side, found in zip(IMAGES, sides, ours, strict=True):
        small = F.interpolate(x[None], (side, side), mode="bilinear", antialias=True)
        expected = F.interpolate(small, (32, 32), mode="bilinear")[0]
        assert torch.allclose(found, expected, atol=1e-5)


def test_the_matrix_of_blur_is_a_gaussian_that_ends_after_three_deviations() -> None:
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


def test_cosines_that_are_quantised_finely_give_the_image_back() -> None:
    ours = _compressed(IMAGES, torch.full((4, 1), 1e-9))  # steps of 1 / 255, the finest
    assert (ours - IMAGES).abs().max() < 8 * 3 * 0.5 / 255
    coarse = _compressed(IMAGES, torch.full((4, 1), 1.0))  # a step of 11 and more: all is grey
    assert coarse.std() < 1e-3


def test_only_what_a_row_asks_for_is_done_to_it() -> None:
    columns = {"blur": [0, 0.05], "quality": [100, 20], "noise": [0, 0.1]}
    arrays = {key: np.array(pair, np.float32) for key, pair in columns.items()}
    table = PlanTable.from_plan(replace(originals(2), **arrays), SQUARE, 32)
    spoilt = spoil(IMAGES[:2].clone(), table[torch.arange(2)], table.effects)
    assert torch.equal(spoilt[0], IMAGES[0])
    assert not torch.allclose(spoilt[1], IMAGES[1], atol=0.05)
    paper = classification_plan(["a"] * 9, [Label.MALIGNANT] * 9, AugmentConfig(), seed=0)
    for plan, effects in (
        (originals(3), [False] * 6),
        (paper, [True, False, False, False, False, True]),
        (_blind(64), [True] * 6),
    ):
        assert PlanTable.from_plan(plan, SQUARE, 32).effects == Effects(*effects)


def _source(count: int, plan: Plan | None = None, size: int = 8) -> SampleSource:
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (count, 3, size, size), dtype=np.uint8))
    masks = torch.from_numpy(rng.integers(0, 2, (count, 1, size, size), dtype=np.uint8))
    return SampleSource.from_plan(ImageCache(images, masks), plan or originals(count))


def test_an_original_is_the_decoded_image_exactly() -> None:
    source = _source(3)
    images = source.images(torch.tensor([2, 0]))
    assert torch.equal((images * 255).round().to(torch.uint8), source.planes[[2, 0], :3])
    assert torch.equal(source.masks(torch.tensor([1])), source.planes[[1], 3:].float())
    no_masks = ImageCache(source.planes[:, :3], None)
    with pytest.raises(ValueError, match="holds no masks"):
        SampleSource.from_plan(no_masks, originals(3)).masks(torch.tensor([0]))


def test_the_same_row_gives_the_same_pixels_in_range_whoever_is_beside_it() -> None:
    source, rows = _source(1, _blind(64, noise=0), size=32), torch.arange(64)
    images = source.images(rows)
    assert torch.allclose(images[5:6], source.images(rows[5:6]), atol=1e-5)
    assert 0 <= images.min() <= images.max() <= 1
    with torch.autocast("cpu", torch.bfloat16):  # pixels are augmented in float32 all the same
        assert torch.equal(images, source.images(rows))


def test_a_mask_moves_with_its_image_and_stays_binary() -> None:
    masks, row = _source(1).planes[:, 3:], torch.tensor([0])
    cache = ImageCache(masks.expand(1, 3, 8, 8) * 255, masks)
    moved = SampleSource.from_plan(cache, _one(mirror=True, rotation=1, crop=0.9))
    assert torch.equal((moved.images(row)[:, :1] >= 0.5).float(), moved.masks(row))


@pytest.mark.gpu
def test_the_device_changes_no_moved_pixel() -> None:
    source, rows = _source(4), torch.arange(4)
    on_device = source.to(torch.device("cuda"))
    assert torch.equal(source.images(rows), on_device.images(rows.cuda()).cpu())


def test_a_cache_holds_what_preprocess_reads_and_refuses_masks_that_do_not_fit(
    drawn: Path, tmp_path: Path
) -> None:
    lesions = load_isic2016(drawn, "train").lesions[:3]
    done: list[tuple[int, int]] = []
    cache = load_cache(lesions, 32, masks=True, progress=lambda *at: done.append(at))
    expected = squeeze(read_image(lesions[1].image_path), 32).transpose(2, 0, 1)
    assert np.array_equal(cache.images[1].numpy(), expected)
    assert cache.masks is not None
    assert cache.masks.shape == (3, 1, 32, 32)
    assert set(cache.masks.unique().tolist()) == {0, 1}
    assert done == [(1, 3), (2, 3), (3, 3)]
    Image.new("L", (32, 32)).save(tmp_path / "mask.png")
    odd = replace(lesions[0], mask_path=tmp_path / "mask.png")
    with pytest.raises(ImageError, match=r"is 32 x 32 px.* its image's size, 80 x 64 px"):
        load_cache([odd], 32, masks=True)
    with pytest.raises(ImageError, match="has no mask"):
        load_cache([replace(odd, mask_path=None)], 32, masks=True)


def test_a_letterboxed_frame_keeps_its_aspect_and_comes_back() -> None:
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


@pytest.mark.parametrize(
    ("rows", "size", "sizes"),
    [(65, 32, [22] * 3), (64, 32, [32] * 2), (7, 32, [7]), (9, 2, [2] * 5)],
)
def test_batches_are_of_one_size_and_lose_no_row(rows: int, size: int, sizes: list[int]) -> None:
    batches = epoch_batches(np.arange(rows), size, np.random.default_rng(0))
    assert [len(batch) for batch in batches] == [len(set(batch)) for batch in batches] == sizes
    seen = np.bincount(np.concatenate(batches), minlength=rows)
    assert (seen.min(), seen.max()) == (1, 1 + (sum(sizes) > rows)), "some fill the last batch"


def test_an_epochs_order_depends_on_seed_and_epoch_alone() -> None:
    orders = [
        torch.cat(single_schedule(np.arange(40), 8, seed=seed, epoch=epoch)).tolist()
        for seed, epoch in ((0, 3), (0, 3), (0, 4), (1, 3))
    ]
    assert [orders[0] == order for order in orders] == [True, True, False, False]


def test_pairs_alternate_one_to_four_over_the_iterations_of_all_epochs() -> None:
    labels = np.arange(70) % 3 // 2
    epochs = [pair_schedule(np.arange(70), labels, 10, seed=0, epoch=epoch) for epoch in (0, 1)]
    for iteration, pair in enumerate(pair for epoch in epochs for pair in epoch):
        assert (pair.partner is not None) == (iteration % 5 == 0)
        if pair.partner is None:
            assert sorted(pair.a.tolist()) != sorted(pair.b.tolist())
        else:
            assert torch.equal(pair.a[pair.partner], pair.b)
            assert (labels[pair.a] != labels[pair.b]).sum() <= 2, "at most one matched pair"
    assert iteration == 13
