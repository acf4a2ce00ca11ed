"""The contract of label-blind augmentation: what is drawn for a row does not tell its label."""

from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import ks_2samp
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from dermfuse.config import AugmentConfig, Config, load_preset, preset_names
from dermfuse.data.augment import Plan, classification_plan, hold_out, segmentation_plan
from dermfuse.data.labels import Label

IDS = [f"ISIC_{index:07d}" for index in range(300)]
LABELS = [Label.MALIGNANT if index % 5 == 0 else Label.BENIGN for index in range(300)]
BLIND = [name for name in preset_names() if load_preset(name).augment.policy == "label_blind"]


def _rows(config: AugmentConfig, *, epoch: int) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Returns all that is drawn for an epoch, (n, columns), and whether a row is malignant."""
    plan = classification_plan(IDS, LABELS, config, seed=0, epoch=epoch)
    names = [field.name for field in fields(Plan) if field.name != "source"]
    columns = [np.asarray(getattr(plan, name), np.float32).reshape(len(plan), -1) for name in names]
    malignant = np.array([label == Label.MALIGNANT for label in LABELS])[plan.source]
    return np.concatenate(columns, axis=1), malignant


def _told(numbers: NDArray[np.float32], malignant: NDArray[np.bool_]) -> float:
    """Returns how well a classifier tells the label from the drawn numbers: .5 is not at all."""
    model = HistGradientBoostingClassifier(max_iter=30, random_state=0)
    scores = cross_val_predict(model, numbers, malignant, cv=3, method="predict_proba")[:, 1]
    return float(roc_auc_score(malignant, scores))


def _as_it_ships(config: Config) -> AugmentConfig:
    """Returns a preset's augmentation; of a mask network too, asked as if it learnt classes."""
    return replace(config.augment, benign_copies=3, malignant_copies=12)


def test_some_presets_that_ship_are_label_blind() -> None:
    assert {"dc-mobilenetv1-shipped", "dc-mobilenetv2-shipped"} <= set(BLIND)


@pytest.mark.parametrize("name", BLIND)
def test_no_classifier_tells_the_label_from_what_is_drawn(name: str) -> None:
    for epoch in (0, 1):
        assert 0.45 < _told(*_rows(_as_it_ships(load_preset(name)), epoch=epoch)) < 0.55


@pytest.mark.parametrize("name", BLIND)
def test_every_parameter_has_one_distribution_for_both_classes(name: str) -> None:
    numbers, malignant = _rows(_as_it_ships(load_preset(name)), epoch=3)
    chances = [ks_2samp(column[malignant], column[~malignant]).pvalue for column in numbers.T]
    assert min(chances) * len(chances) > 0.05, "Bonferroni over the columns"


@pytest.mark.parametrize("fresh", [False, True])
def test_the_papers_plan_tells_the_label(fresh: bool) -> None:
    config = AugmentConfig(fresh=fresh)
    numbers, malignant = _rows(config, epoch=1)
    assert _told(numbers, malignant) > 0.6
    original = classification_plan(IDS, LABELS, config, seed=0).original
    assert malignant[original].mean() == pytest.approx(0.2)  # 60 of 300
    assert malignant[~original].mean() == pytest.approx(60 * 12 / (60 * 12 + 240 * 2))


def test_the_identity_is_one_draw_among_others_in_both_classes() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=40, malignant_copies=40)
    plan = classification_plan(IDS, LABELS, config, seed=0)
    upright = ~plan.mirror & (plan.rotation == 0)
    assert upright.mean() == pytest.approx(1 / 8, abs=0.01)
    assert 0 < plan.original.sum() < len(plan) / 500


def test_classes_are_balanced_by_how_often_an_image_is_drawn() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=1, malignant_copies=4)
    counts = np.bincount(classification_plan(IDS, LABELS, config, seed=0).source)
    assert [counts[0], counts[1]] == [4, 1]
    assert counts.sum() == 60 * 4 + 240


def test_every_row_of_every_epoch_is_drawn_anew() -> None:
    config = AugmentConfig(policy="label_blind", segmentation_draws=300)
    first, second = (segmentation_plan(IDS, config, seed=0, epoch=epoch) for epoch in (1, 2))
    assert np.array_equal(first.source, second.source)
    same = (first.angle == second.angle) & (first.crop == second.crop)
    assert same.mean() < 0.35, "each is neutral in half of the draws"


def test_an_image_draws_the_same_whatever_its_label_and_whoever_is_beside_it() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=4, malignant_copies=4)
    alone = classification_plan(["a"], [Label.BENIGN], config, seed=0)
    beside = classification_plan(["b", "a"], [Label.BENIGN, Label.MALIGNANT], config, seed=0)
    chosen = beside.select(beside.source == 1)
    assert np.array_equal(alone.angle, chosen.angle)
    assert np.array_equal(alone.occlusion, chosen.occlusion)


def test_what_is_validated_on_stands_once_as_it_is() -> None:
    config = AugmentConfig(policy="label_blind", benign_copies=2, malignant_copies=3)
    plan = classification_plan(["a", "b", "c"], [Label.BENIGN] * 3, config, seed=0)
    held = hold_out(plan, np.array([False, True, False]))
    assert held.source.tolist() == [0, 0, 2, 2, 1]
    assert held.original.tolist()[-1]
