from dataclasses import fields

import numpy as np
import pytest

from dermfuse.config import AugmentConfig
from dermfuse.data.augment import Plan, classification_plan, originals, segmentation_plan
from dermfuse.data.labels import Label

IDS = [f"ISIC_{index:07d}" for index in range(900)]
LABELS = [Label.MALIGNANT if index < 173 else Label.BENIGN for index in range(900)]


def _same(a: Plan, b: Plan) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Plan))


def test_the_full_900_give_exactly_4430_classification_samples() -> None:
    plan = classification_plan(IDS, LABELS, AugmentConfig(), seed=0)
    assert len(plan) == 4430
    assert np.bincount(plan.source[plan.source < 173]).tolist() == [13] * 173
    assert np.bincount(plan.source)[173:].tolist() == [3] * 727


@pytest.mark.parametrize("seed", [0, 7])
def test_the_full_900_give_exactly_6900_segmentation_samples(seed: int) -> None:
    plan = segmentation_plan(IDS, AugmentConfig(), seed=seed)
    counts = np.bincount(plan.source)
    assert len(plan) == 6900
    assert (counts.min(), counts.max()) == (7, 8), "6,000 draws spread evenly: 6 or 7 each"
    assert plan.original.sum() == 900


def test_every_source_keeps_its_original_and_every_draw_is_another_image() -> None:
    plan = classification_plan(IDS, LABELS, AugmentConfig(), seed=0)
    assert plan.source[plan.original].tolist() == list(range(900))
    moved = plan.select(~plan.original)
    assert (moved.mirror | (moved.rotation > 0)).all()


def test_draws_run_through_all_orientations_before_one_comes_back() -> None:
    plan = classification_plan(["a"], [Label.MALIGNANT], AugmentConfig(malignant_copies=8), seed=3)
    assert len(set(zip(plan.mirror.tolist(), plan.rotation.tolist(), strict=True))) == 8


def test_the_same_seed_gives_the_same_plan_and_another_seed_another() -> None:
    first, again, other = (
        segmentation_plan(IDS[:50], AugmentConfig(), seed=seed) for seed in (1, 1, 2)
    )
    assert _same(first, again)
    assert not _same(first, other)


def test_an_epoch_draws_other_transforms_for_the_same_rows() -> None:
    config = AugmentConfig(segmentation_draws=130)  # 50 images: 2 or 3 draws each
    plans = [segmentation_plan(IDS[:50], config, seed=1, epoch=epoch) for epoch in (0, 1, 1, 2)]
    assert _same(plans[0], segmentation_plan(IDS[:50], config, seed=1))
    assert _same(plans[1], plans[2])
    for first, second in ((plans[0], plans[1]), (plans[1], plans[3])):
        assert np.array_equal(first.source, second.source)
        assert np.array_equal(first.original, second.original)
        assert not np.array_equal(first.crop, second.crop)


def test_rows_are_taken_from_another_plan() -> None:
    first, second = (
        classification_plan(IDS[:2], LABELS[:2], AugmentConfig(malignant_copies=2), seed=seed)
        for seed in (0, 1)
    )
    mixed = first.replace_rows(np.array([3]), second)
    assert _same(mixed.select(np.array([3])), second.select(np.array([3])))
    assert _same(mixed.select(np.arange(3)), first.select(np.arange(3)))
    assert not _same(mixed, first)


def test_a_missing_image_changes_no_other_images_rows() -> None:
    config = AugmentConfig()
    whole = classification_plan(IDS[:20], LABELS[:20], config, seed=0)
    part = classification_plan(IDS[1:20], LABELS[1:20], config, seed=0)
    rest = whole.select(whole.source > 0)
    assert np.array_equal(rest.crop, part.crop)
    assert np.array_equal(rest.occlusion, part.occlusion)


def test_parameters_stay_within_the_configured_strengths() -> None:
    plan = segmentation_plan(IDS, AugmentConfig(), seed=0)
    top, left, height, width = plan.occlusion.T
    assert plan.crop.min() >= np.float32(0.8)
    assert plan.crop.max() == 1
    assert (plan.brightness.min(), plan.brightness.max()) >= (np.float32(0.8), 1)
    assert plan.brightness.max() <= np.float32(1.2)
    assert max(height.max(), width.max()) <= 0.25
    assert (top + height).max() <= 1
    assert (left + width).max() <= 1


def test_half_of_the_draws_are_cropped_lit_and_occluded() -> None:
    drawn = segmentation_plan(IDS, AugmentConfig(), seed=0)
    drawn = drawn.select(~drawn.original)
    for share in ((drawn.crop < 1), (drawn.brightness != 1), (drawn.occlusion[:, 2] > 0)):
        assert share.mean() == pytest.approx(0.5, abs=0.03)


def test_without_augmentation_every_image_stands_once_as_it_is() -> None:
    config = AugmentConfig(enabled=False)
    assert _same(segmentation_plan(IDS, config, seed=0), originals(900))
    assert _same(classification_plan(IDS, LABELS, config, seed=0), originals(900))


def test_no_images_give_an_empty_plan() -> None:
    assert len(segmentation_plan([], AugmentConfig(), seed=0)) == 0
