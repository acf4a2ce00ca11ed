"""The paper's plan, a plan that does not tell the label, and the pairs of the discriminant."""

from dataclasses import fields, replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from dermfuse.config import AugmentConfig, load_preset, preset_names
from dermfuse.data.augment import (
    Plan,
    classification_plan,
    hold_out,
    match_same_class,
    originals,
    segmentation_plan,
)
from dermfuse.data.isic2016 import Label

IDS = [f"ISIC_{index:07d}" for index in range(900)]
LABELS = [Label.MALIGNANT if index < 173 else Label.BENIGN for index in range(900)]
MIXED = [Label.MALIGNANT if index % 5 == 0 else Label.BENIGN for index in range(300)]
BLIND = [name for name in preset_names() if load_preset(name).augment.policy == "label_blind"]
SHIPPED = ["dc-mobilenetv1-shipped", "dc-mobilenetv2-shipped"]


def _same(a: Plan, b: Plan) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Plan))


def test_the_full_900_give_exactly_4430_classification_samples() -> None:
    plan = classification_plan(IDS, LABELS, AugmentConfig(), seed=0)
    assert np.bincount(plan.source).tolist() == [13] * 173 + [3] * 727
    assert len(plan) == 4430
    assert plan.source[plan.original].tolist() == list(range(900)), "each keeps its original"
    moved = plan.select(~plan.original)
    assert (moved.mirror | (moved.rotation > 0)).all(), "every draw is another image"


def test_the_full_900_give_exactly_6900_segmentation_samples_within_the_strengths() -> None:
    plan = segmentation_plan(IDS, AugmentConfig(), seed=0)
    counts = np.bincount(plan.source)
    assert (len(plan), plan.original.sum()) == (6900, 900)
    assert (counts.min(), counts.max()) == (7, 8), "6,000 draws spread evenly: 6 or 7 each"
    top, left, height, width = plan.occlusion.T
    for column, low, high in ((plan.crop, 0.8, 1), (plan.brightness, 0.8, 1.2)):
        assert np.float32(low) <= column.min() < column.max() <= np.float32(high)
    assert max(height.max(), width.max()) <= 0.25
    assert max((top + height).max(), (left + width).max()) <= 1
    drawn = plan.select(~plan.original)
    for share in ((drawn.crop < 1), (drawn.brightness != 1), (drawn.occlusion[:, 2] > 0)):
        assert share.mean() == pytest.approx(0.5, abs=0.03)


def test_draws_run_through_all_orientations_before_one_comes_back() -> None:
    config = AugmentConfig(malignant_copies=8)
    plan = classification_plan(["a"], [Label.MALIGNANT], config, seed=3)
    assert len({*zip(plan.mirror.tolist(), plan.rotation.tolist(), strict=True)}) == 8


@pytest.mark.parametrize("policy", ["paper", "label_blind"])
def test_an_epoch_draws_other_transforms_for_the_same_rows_and_a_seed_others(policy: str) -> None:
    config = AugmentConfig(policy=policy, segmentation_draws=130)  # type: ignore[arg-type]
    first, second, third = (
        segmentation_plan(IDS[:50], config, seed=1, epoch=epoch) for epoch in (0, 1, 2)
    )
    assert _same(first, segmentation_plan(IDS[:50], config, seed=1))
    assert not _same(first, segmentation_plan(IDS[:50], config, seed=2))
    for one, other in ((first, second), (second, third)):
        assert np.array_equal(one.source, other.source)
        same = (one.crop == other.crop) & (one.brightness == other.brightness)
        assert same[~one.original].mean() < 0.35, "each is neutral in half of the draws"
        assert policy == "label_blind" or np.array_equal(one.original, other.original)


@pytest.mark.parametrize("policy", ["paper", "label_blind"])
def test_an_image_draws_the_same_whatever_its_label_and_whoever_is_beside_it(policy: str) -> None:
    config = AugmentConfig(policy=policy, benign_copies=4, malignant_copies=4)  # type: ignore[arg-type]
    alone = classification_plan(["a"], [Label.BENIGN], config, seed=0)
    beside = classification_plan(["b", "a"], [Label.BENIGN, Label.MALIGNANT], config, seed=0)
    chosen = beside.select(beside.source == 1)
    assert _same(alone, replace(chosen, source=alone.source))


def test_without_augmentation_every_image_stands_once_as_it_is() -> None:
    config = AugmentConfig(enabled=False)
    assert _same(segmentation_plan(IDS, config, seed=0), originals(900))
    assert _same(classification_plan(IDS, LABELS, config, seed=0), originals(900))
    assert len(segmentation_plan([], AugmentConfig(), seed=0)) == 0


def _rows(config: AugmentConfig, *, epoch: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns all that is drawn for an epoch, (n, columns), and whether a row is malignant."""
    plan = classification_plan(IDS[:300], MIXED, config, seed=0, epoch=epoch)
    names = [field.name for field in fields(Plan) if field.name != "source"]
    columns = [np.asarray(getattr(plan, name), np.float32).reshape(len(plan), -1) for name in names]
    return np.concatenate(columns, axis=1), np.array(MIXED, bool)[plan.source]


def _told(numbers: NDArray[np.float32], malignant: NDArray[np.bool_]) -> float:
    """Returns how well a classifier tells the label from the drawn numbers: .5 is not at all."""
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0)
    scores = cross_val_predict(model, numbers, malignant, cv=3, method="predict_proba")[:, 1]
    return float(roc_auc_score(malignant, scores))


@pytest.mark.parametrize("name", sorted({*BLIND, *SHIPPED}))
def test_no_classifier_tells_the_label_from_what_a_label_blind_preset_draws(name: str) -> None:
    # Of a mask network, too, as if it learnt classes.
    config = replace(load_preset(name).augment, benign_copies=3, malignant_copies=12)
    for epoch in (0, 1):
        assert 0.45 < _told(*_rows(config, epoch=epoch)) < 0.55
    numbers, malignant = _rows(config, epoch=3)
    chances = [ks_2samp(column[malignant], column[~malignant]).pvalue for column in numbers.T]
    assert min(chances) * len(chances) > 0.05, "Bonferroni over the columns"


@pytest.mark.parametrize("fresh", [False, True])
def test_the_papers_plan_tells_the_label(*, fresh: bool) -> None:
    config = AugmentConfig(fresh=fresh)
    assert _told(*_rows(config, epoch=1)) > 0.6
    plan = classification_plan(IDS[:300], MIXED, config, seed=0)
    malignant = np.array(MIXED, bool)[plan.source]
    assert malignant[plan.original].mean() == pytest.approx(60 / 300)
    assert malignant[~plan.original].mean() == pytest.approx(60 * 12 / (60 * 12 + 240 * 2))


def test_copies_balance_the_classes_and_the_identity_is_one_label_blind_draw_among_others() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=40, malignant_copies=80)
    plan = classification_plan(IDS[:300], MIXED, config, seed=0)
    assert np.bincount(plan.source).tolist() == [80, 40, 40, 40, 40] * 60
    upright = ~plan.mirror & (plan.rotation == 0)
    assert upright.mean() == pytest.approx(1 / 8, abs=0.01)
    assert 0 < plan.original.sum() < len(plan) / 500


def test_what_is_validated_on_stands_once_as_it_is() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=2, malignant_copies=3)
    plan = classification_plan(["a", "b", "c"], [Label.BENIGN] * 3, config, seed=0)
    held = hold_out(plan, np.array([False, True, False]))
    assert held.source.tolist() == [0, 0, 2, 2, 1]
    assert held.original.tolist()[-1]


@pytest.mark.parametrize(
    ("labels", "partner"),
    [([1], [0]), ([0, 1], [1, 0]), ([0, 0, 0], [1, 0, 2]), ([1, 0, 0, 1, 1], [3, 2, 1, 0, 4])],
)
def test_method_1_matches_as_by_hand(labels: list[int], partner: list[int]) -> None:
    assert match_same_class(np.array(labels, np.int64)).tolist() == partner


@given(st.lists(st.integers(0, 1), max_size=40).map(lambda x: np.array(x, np.int64)))
def test_method_1_is_an_involution_of_at_most_one_different_class_pair(labels: np.ndarray) -> None:
    partner, own = match_same_class(labels), np.arange(len(labels))
    assert (partner[partner] == own).all()
    both_odd = labels.sum() % 2 == 1 and (1 - labels).sum() % 2 == 1
    assert (labels != labels[partner]).sum() == 2 * both_odd, "one pair stands at two indices"
    assert (partner == own).sum() == len(labels) % 2, "alone only in an odd batch"


def test_labels_that_are_not_binary_vectors_are_refused() -> None:
    for labels in (np.zeros((2, 2), np.int64), np.array([0, 2])):
        with pytest.raises(ValueError, match="not a vector of 0"):
            match_same_class(labels)
