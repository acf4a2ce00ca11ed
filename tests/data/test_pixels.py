import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dermfuse.config import AugmentConfig
from dermfuse.data.augment import classification_plan, originals
from dermfuse.data.pixels import PlanTensors, hide_, recolour_, spoil_, turn, warp_
from dermfuse.scores import Label

SQUARE = torch.ones(1)
CORNER = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])


def _one(**columns: object) -> PlanTensors:
    plan = replace(originals(1), **{key: np.array([value]) for key, value in columns.items()})
    return PlanTensors.from_plan(plan)


def test_a_mirror_swaps_left_and_right() -> None:
    assert turn(CORNER, _one(mirror=True)).tolist() == [[[[2, 1], [4, 3]]]]


def test_a_quarter_turn_is_counter_clockwise() -> None:
    assert turn(CORNER, _one(rotation=1)).tolist() == [[[[2, 4], [1, 3]]]]


def test_a_mirror_comes_before_a_turn() -> None:
    assert turn(CORNER, _one(mirror=True, rotation=1)).tolist() == [[[[1, 3], [2, 4]]]]


def test_a_centre_crop_enlarges_the_middle() -> None:
    x = torch.arange(4.0).expand(1, 1, 4, 4)  # columns 0 1 2 3: the middle half is 0.5 to 2.5
    cropped = warp_(x.clone(), _one(crop=np.float32(0.5)), SQUARE)
    assert cropped[0, 0, 0].tolist() == pytest.approx([0.75, 1.25, 1.75, 2.25])


def test_each_sample_of_a_batch_is_moved_by_its_own_row() -> None:
    plan = replace(
        originals(3),
        mirror=np.array([False, True, False]),
        rotation=np.array([0, 0, 2]),
    )
    moved = turn(CORNER.expand(3, 1, 2, 2), PlanTensors.from_plan(plan))
    assert moved[:, 0].tolist() == [[[1, 2], [3, 4]], [[2, 1], [4, 3]], [[4, 3], [2, 1]]]


def test_brightness_scales_and_stays_in_range() -> None:
    x = torch.full((1, 3, 2, 2), 0.5)
    x[..., 1] = 1
    lit = recolour_(x, _one(brightness=np.float32(1.2)))
    assert lit[0, 0, 0].tolist() == pytest.approx([0.6, 1])


def test_an_occluding_box_is_black_and_the_rest_untouched() -> None:
    x = torch.ones(1, 3, 4, 4)
    box = np.array([0.25, 0.5, 0.5, 0.25], np.float32)  # top, left, height, width
    shaded = hide_(x, _one(occlusion=box))
    expected = torch.ones(4, 4)
    expected[1:3, 2] = 0
    assert torch.equal(shaded[0, 0], expected)


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
    turned = warp_(x.clone(), _one(angle=np.float32(90)), SQUARE)
    assert torch.allclose(turned, turn(x, _one(rotation=1)), atol=1e-5)


def test_an_angle_turns_the_scene_in_the_frames_true_aspect() -> None:
    aspect = torch.tensor(
        [2.0]
    )  # a bar 32 px long across the squeezed frame is 64 px long in truth
    turned = warp_(_bar(64, wide=True), _one(angle=np.float32(90)), aspect)
    assert _extent(turned) == (32, 4), "longer down, thinner across; of the middle half"


def test_a_frame_that_was_laid_on_its_side_has_the_other_aspect() -> None:
    aspect = torch.tensor([2.0])
    turned = warp_(_bar(64, wide=True), _one(angle=np.float32(90), rotation=1), aspect)
    assert _extent(turned) == (16, 16)


def test_what_lies_outside_the_frame_is_its_reflection() -> None:
    x = torch.arange(1.0, 5.0).expand(1, 1, 4, 4)
    wider = warp_(x.clone(), _one(crop=np.float32(2)), SQUARE)
    assert wider.min() >= 1, "no black corner"
    shifted = warp_(x.clone(), _one(shift=np.array([0, 0.5], np.float32)), SQUARE)
    assert shifted[0, 0, 0].tolist() == pytest.approx([3, 4, 4, 3])


def test_a_stretch_keeps_the_area() -> None:
    stretched = warp_(_bar(64, wide=True), _one(stretch=np.float32(4)), SQUARE)
    assert _extent(stretched) == (16, 16), "from 8 by 32"


def test_contrast_keeps_the_mean_and_saturation_keeps_grey() -> None:
    x = torch.full((1, 3, 2, 2), 0.4)
    x[..., 1] = 0.6
    sharper = recolour_(x.clone(), _one(contrast=np.float32(1.5)))
    assert sharper[0, 0, 0].tolist() == pytest.approx([0.35, 0.65])
    assert torch.allclose(recolour_(x.clone(), _one(saturation=np.float32(0))), x, atol=1e-3)


def test_no_saturation_leaves_the_brightness_and_half_a_turn_of_the_hue_the_opposite() -> None:
    red = torch.tensor([0.6, 0.4, 0.4]).view(1, 3, 1, 1)
    grey = 0.4 + 0.299 * 0.2
    assert recolour_(red.clone(), _one(saturation=np.float32(0))).flatten().tolist() == (
        pytest.approx([grey] * 3, abs=1e-3)
    )
    opposite = recolour_(red.clone(), _one(hue=np.float32(0.5))).flatten()
    assert opposite.tolist() == pytest.approx([2 * grey - v for v in (0.6, 0.4, 0.4)], abs=1e-3)


def test_a_flat_image_is_spoilt_by_noise_alone() -> None:
    flat = torch.full((1, 3, 32, 32), 0.5)
    worn = _one(resolution=np.float32(3), blur=np.float32(0.03), quality=np.float32(30))
    assert torch.allclose(spoil_(flat.clone(), worn), flat, atol=0.02)
    noisy = spoil_(flat.clone(), _one(noise=np.float32(0.1)))
    assert noisy.std().item() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    "column", [{"resolution": 3.0}, {"blur": 0.05}, {"quality": 10.0}], ids=lambda c: next(iter(c))
)
def test_fine_detail_is_lost(column: dict[str, float]) -> None:
    checks = (torch.arange(32) % 2).float().expand(1, 3, 32, 32).mul(0.05).add(0.475)
    name, value = next(iter(column.items()))
    spoilt = spoil_(checks.clone(), _one(**{name: np.float32(value)}))
    assert spoilt[..., 8:-8, 8:-8].std() < 0.6 * checks.std()


def test_noise_is_that_of_its_row() -> None:
    flat = torch.full((1, 3, 8, 8), 0.5)
    first, again, other = (
        spoil_(flat.clone(), _one(noise=np.float32(0.1), lot=np.int64(lot))) for lot in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_values_stay_in_range_whatever_is_drawn() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=64)
    plan = classification_plan(["a"], [Label.BENIGN], config, seed=0)
    rows = PlanTensors.from_plan(plan)
    x = torch.rand(64, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    moved = hide_(spoil_(recolour_(warp_(turn(x, rows), rows, torch.ones(64)), rows), rows), rows)
    assert moved.min() >= 0
    assert moved.max() <= 1
    assert math.isfinite(moved.sum().item())
