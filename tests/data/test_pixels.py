import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from dermfuse.config import AugmentConfig
from dermfuse.data.augment import Plan, classification_plan, originals
from dermfuse.data.labels import Label
from dermfuse.data.loaders import (
    Effects,
    ImageCache,
    PlanTable,
    SampleSource,
    _compressed,
    _filtered,
    hide_,
    inside_boxes,
    recolour,
    spoil,
    warp,
)

SQUARE = torch.ones(1)
CORNER = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
ALL = Effects(*[True] * 6)


def _one(**columns: object) -> Plan:
    return replace(originals(1), **{key: np.array([value]) for key, value in columns.items()})


def _moved(x: Tensor, plan: Plan, aspects: Tensor = SQUARE) -> Tensor:
    table = PlanTable.from_plan(plan, aspects, x.shape[-1])
    return warp(x, table[torch.arange(len(x))].place)


def _recoloured(x: Tensor, **columns: object) -> Tensor:
    """Returns ``x`` in [0, 1] recoloured by one row."""
    table = PlanTable.from_plan(_one(**columns), SQUARE, x.shape[-1])
    return recolour(x * 255, table[torch.tensor([0])], table.effects)


def _spoilt(x: Tensor, **columns: object) -> Tensor:
    table = PlanTable.from_plan(_one(**columns), SQUARE, x.shape[-1])
    return spoil(x.clone(), table[torch.tensor([0])], table.effects)


def _listed(x: Tensor) -> list[float]:
    return x.flatten().tolist()


def test_a_mirror_swaps_left_and_right() -> None:
    assert _listed(_moved(CORNER, _one(mirror=True))) == pytest.approx([2, 1, 4, 3])


def test_a_quarter_turn_is_counter_clockwise() -> None:
    assert _listed(_moved(CORNER, _one(rotation=1))) == pytest.approx([2, 4, 1, 3])


def test_a_mirror_comes_before_a_turn() -> None:
    assert _listed(_moved(CORNER, _one(mirror=True, rotation=1))) == pytest.approx([1, 3, 2, 4])


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("turns", range(4))
def test_whole_pixels_move_as_those_of_an_array(mirror: bool, turns: int) -> None:
    x = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = (x.flip(-1) if mirror else x).rot90(turns, (-2, -1))
    assert torch.allclose(_moved(x, _one(mirror=mirror, rotation=turns)), expected, atol=1e-5)


def test_a_centre_crop_enlarges_the_middle() -> None:
    x = torch.arange(4.0).expand(1, 1, 4, 4)  # columns 0 1 2 3: the middle half is 0.5 to 2.5
    cropped = _moved(x, _one(crop=np.float32(0.5)))
    assert cropped[0, 0, 0].tolist() == pytest.approx([0.75, 1.25, 1.75, 2.25])


def test_each_sample_of_a_batch_is_moved_by_its_own_row() -> None:
    plan = replace(
        originals(3),
        mirror=np.array([False, True, False]),
        rotation=np.array([0, 0, 2]),
    )
    moved = _moved(CORNER.repeat(3, 1, 1, 1), plan)
    expected = torch.tensor([[[1.0, 2], [3, 4]], [[2, 1], [4, 3]], [[4, 3], [2, 1]]])
    assert torch.allclose(moved[:, 0], expected)


def test_brightness_scales_and_stays_in_range() -> None:
    x = torch.full((1, 3, 2, 2), 0.5)
    x[..., 1] = 1
    lit = _recoloured(x, brightness=np.float32(1.2))
    assert lit[0, 0, 0].tolist() == pytest.approx([0.6, 1])


def test_an_occluding_box_is_black_and_the_rest_untouched() -> None:
    x = torch.ones(1, 3, 4, 4)
    box = torch.tensor([[0.25, 0.5, 0.5, 0.25]])  # top, left, height, width
    shaded = hide_(x, box)
    expected = torch.ones(4, 4)
    expected[1:3, 2] = 0
    assert torch.equal(shaded[0, 0], expected)
    assert not inside_boxes(torch.zeros(1, 4), like=x).any(), "no box hides nothing"


def _bar(size: int, *, wide: bool) -> torch.Tensor:
    """Returns a centred bar a quarter as thick as long, (1, 1, S, S)."""
    x = torch.zeros(1, 1, size, size)
    long, thin = slice(size // 4, 3 * size // 4), slice(7 * size // 16, 9 * size // 16)
    x[0, 0, thin if wide else long, long if wide else thin] = 1
    return x


def _extent(x: torch.Tensor) -> tuple[int, int]:
    """Returns how many rows and columns of the middle half are lit; reflections lie outside."""
    quarter = x.shape[-1] // 4
    lit = x[0, 0, quarter:-quarter, quarter:-quarter] > 0.5
    return int(lit.any(dim=1).sum()), int(lit.any(dim=0).sum())


def test_an_angle_of_90_degrees_is_a_quarter_turn_counter_clockwise() -> None:
    x = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    turned = _moved(x, _one(angle=np.float32(90)))
    assert torch.allclose(turned, x.rot90(1, (-2, -1)), atol=1e-5)


def test_an_angle_turns_the_scene_in_the_frames_true_aspect() -> None:
    aspect = torch.tensor(
        [2.0]
    )  # a bar 32 px long across the squeezed frame is 64 px long in truth
    turned = _moved(_bar(64, wide=True), _one(angle=np.float32(90)), aspect)
    assert _extent(turned) == (32, 4), "longer down, thinner across; of the middle half"


def test_a_frame_that_was_laid_on_its_side_has_the_other_aspect() -> None:
    aspect = torch.tensor([2.0])
    turned = _moved(_bar(64, wide=False), _one(angle=np.float32(90), rotation=1), aspect)
    assert _extent(turned) == (16, 16)


def test_what_lies_outside_the_frame_is_its_reflection() -> None:
    x = torch.arange(1.0, 5.0).expand(1, 1, 4, 4)
    wider = _moved(x, _one(crop=np.float32(2)))
    assert wider.min() >= 1, "no black corner"
    shifted = _moved(x, _one(shift=np.array([0, 0.5], np.float32)))
    assert shifted[0, 0, 0].tolist() == pytest.approx([3, 4, 4, 3])


def test_a_stretch_keeps_the_area() -> None:
    stretched = _moved(_bar(64, wide=True), _one(stretch=np.float32(4)))
    assert _extent(stretched) == (16, 16), "from 8 by 32"


def test_contrast_keeps_the_mean_and_saturation_keeps_grey() -> None:
    x = torch.full((1, 3, 2, 2), 0.4)
    x[..., 1] = 0.6
    sharper = _recoloured(x, contrast=np.float32(1.5))
    assert sharper[0, 0, 0].tolist() == pytest.approx([0.35, 0.65])
    assert torch.allclose(_recoloured(x, saturation=np.float32(0)), x, atol=1e-3)


def test_no_saturation_leaves_the_brightness_and_half_a_turn_of_the_hue_the_opposite() -> None:
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)
    grey = 0.4 + 0.299 * 0.2
    assert _listed(_recoloured(red, saturation=np.float32(0))) == (
        pytest.approx([grey] * 3, abs=1e-3)
    )
    opposite = _recoloured(red, hue=np.float32(0.5))
    assert _listed(opposite) == pytest.approx([2 * grey - v for v in (0.6, 0.4, 0.4)], abs=1e-3)


def test_a_flat_image_is_spoilt_by_noise_alone() -> None:
    flat = torch.full((1, 3, 32, 32), 0.5)
    worn = {"resolution": np.float32(3), "blur": np.float32(0.03), "quality": np.float32(30)}
    assert torch.allclose(_spoilt(flat, **worn), flat, atol=0.02)
    torch.manual_seed(0)
    noisy = _spoilt(flat, noise=np.float32(0.1))
    assert noisy.std().item() == pytest.approx(0.1, rel=0.1)
    assert noisy.mean().item() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(
    "column", [{"resolution": 3.0}, {"blur": 0.05}, {"quality": 10.0}], ids=lambda c: next(iter(c))
)
def test_fine_detail_is_lost(column: dict[str, float]) -> None:
    checks = (torch.arange(32) % 2).float().expand(1, 3, 32, 32).mul(0.05).add(0.475)
    name, value = next(iter(column.items()))
    spoilt = _spoilt(checks, **{name: np.float32(value)})
    assert spoilt[..., 8:-8, 8:-8].std() < 0.6 * checks.std()


IMAGES = torch.rand(4, 3, 32, 32, generator=torch.Generator().manual_seed(0))


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


def test_a_row_that_asks_for_nothing_is_left_alone_beside_one_that_does() -> None:
    plan = replace(
        originals(2),
        blur=np.array([0, 0.05], np.float32),
        quality=np.array([100, 20], np.float32),
        noise=np.array([0, 0.1], np.float32),
    )
    table = PlanTable.from_plan(plan, SQUARE, 32)
    spoilt = spoil(IMAGES[:2].clone(), table[torch.arange(2)], table.effects)
    assert torch.equal(spoilt[0], IMAGES[0])
    assert not torch.allclose(spoilt[1], IMAGES[1], atol=0.05)


def test_noise_is_that_of_the_generator() -> None:
    flat = torch.full((1, 3, 8, 8), 0.5)
    noisy = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        noisy.append(_spoilt(flat, noise=np.float32(0.1)))
    assert torch.equal(noisy[0], noisy[1])
    assert not torch.equal(noisy[0], noisy[2])


def test_only_what_some_row_asks_for_is_done() -> None:
    assert PlanTable.from_plan(originals(3), SQUARE, 32).effects == Effects(*[False] * 6)
    paper = classification_plan(["a"] * 9, [Label.MALIGNANT] * 9, AugmentConfig(), seed=0)
    effects = PlanTable.from_plan(paper, SQUARE, 32).effects
    assert effects == Effects(True, False, False, False, False, True)
    blind = AugmentConfig(policy="label_blind", benign_copies=64)
    plan = classification_plan(["a"], [Label.BENIGN], blind, seed=0)
    assert PlanTable.from_plan(plan, SQUARE, 32).effects == ALL


def test_values_stay_in_range_whatever_is_drawn() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=64)
    plan = classification_plan(["a"], [Label.BENIGN], config, seed=0)
    x = torch.randint(0, 256, (1, 3, 32, 32), generator=torch.Generator().manual_seed(0))
    source = SampleSource.from_plan(ImageCache(x.to(torch.uint8), None), plan)
    moved = source.images(torch.arange(64))
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert math.isfinite(moved.sum().item())
