import numpy as np
import pytest

from dermfuse.errors import DataError
from dermfuse.evaluation.calibrate import fit_calibration, fit_weights


def _scores(rng: np.random.Generator, labels: np.ndarray, separation: float) -> np.ndarray:
    logits = separation * (labels - 0.5) + rng.normal(0.0, 1.0, labels.size)
    return 1 / (1 + np.exp(-logits))


def test_one_network_has_the_whole_weight() -> None:
    labels = np.arange(40) % 2
    scores = _scores(np.random.default_rng(0), labels, 2.0)
    assert fit_weights(labels, scores[:, None]).tolist() == [1.0]


def test_equal_networks_share_alike() -> None:
    labels = np.arange(60) % 2
    scores = _scores(np.random.default_rng(0), labels, 2.0)
    weights = fit_weights(labels, np.stack([scores] * 4, axis=1))
    assert weights.tolist() == [0.25] * 4


def test_a_network_that_tells_nothing_weighs_next_to_nothing() -> None:
    rng = np.random.default_rng(1)
    labels = (rng.random(600) < 0.3).astype(int)
    good, better, noise = (_scores(rng, labels, s) for s in (2.0, 3.0, 0.0))
    weights = fit_weights(labels, np.stack([good, noise, better], axis=1))
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    assert weights[2] > weights[0] > weights[1]
    assert weights[1] < 0.05


def test_no_weights_on_a_fine_grid_make_the_labels_likelier() -> None:
    rng = np.random.default_rng(2)
    labels = (rng.random(400) < 0.3).astype(int)
    columns = np.stack([_scores(rng, labels, s) for s in (1.5, 1.0)], axis=1)

    def loss(weight: float) -> float:
        mean = columns @ [weight, 1 - weight]
        chance = fit_calibration(labels, mean)(mean)
        return float(-np.log(np.where(labels == 1, chance, 1 - chance)).mean())

    found = fit_weights(labels, columns)
    assert loss(found[0]) <= min(loss(w) for w in np.linspace(0, 1, 101)) + 1e-6


def test_one_class_alone_is_refused() -> None:
    with pytest.raises(DataError, match="one class is missing"):
        fit_weights(np.ones(5), np.full((5, 2), 0.5))
