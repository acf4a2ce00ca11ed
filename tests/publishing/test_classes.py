from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.data.isic2016 import Lesion
from dermfuse.data.labels import Label
from dermfuse.predictions.metrics import auc, average_precision
from dermfuse.publishing.measured import FoldAnswers, make_class_release
from dermfuse.release.cards import NetworkCard, NetworkInput, Parity
from dermfuse.release.folder import ClassRelease

COUNT = 60
LABELS = np.arange(COUNT) % 2


def make_card(name: str) -> NetworkCard:
    return NetworkCard(
        name=name,
        task="classification",
        file=f"{name}.onnx",
        sha256="0" * 64,
        bytes=1,
        precision="int8",
        input=NetworkInput(size=32),
        outputs={},
        preset=name,
        backbone="none",
        parameters=1,
        epoch=1,
        training={},
        weights_licence="none",
        parity=Parity(against="itself", images=1, largest_difference={}),
    )


def _folds(
    scores: np.ndarray, one_look: np.ndarray | None = None, *, count: int = 3
) -> tuple[FoldAnswers, ...]:
    """Folds that take turns; in float32 half of the score."""
    found = []
    for first in range(count):
        own = slice(first, None, count)
        lesions = tuple(
            Lesion(f"I{number:03}", Path("none"), None, Label(LABELS[number]))
            for number in range(COUNT)[own]
        )
        single = scores if one_look is None else one_look
        embedding = np.zeros((len(lesions), 1), np.float32)
        activations = np.zeros((len(lesions), 1, 1), np.float32)
        found.append(
            FoldAnswers(
                lesions,
                scores[own],
                single[own],
                scores[own] / 2,
                embedding,
                activations,
                (),
                embedding[:0],
            )
        )
    return tuple(found)


def _scores(seed: int, separation: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noisy = 0.5 + separation * (LABELS - 0.5) + rng.normal(0, 0.2, COUNT)
    return np.clip(noisy, 0.01, 0.99)


def _asked(scores: Sequence[np.ndarray]) -> list[tuple[NetworkCard, tuple[FoldAnswers, ...]]]:
    return [(make_card(name), _folds(one)) for name, one in zip("abcd", scores, strict=False)]


def _fuse(asked: Sequence[tuple[NetworkCard, Sequence[FoldAnswers]]], **more: Any) -> ClassRelease:
    return make_class_release(asked, **more).release


def test_scores_of_three_networks_are_fused_calibrated_and_measured_out_of_fold() -> None:
    scores = [_scores(1, 0.3), _scores(2, 0.2), _scores(3, 0.25)]
    found = _fuse(_asked(scores))
    weights = np.array([member.weight for member in found.members])
    assert [member.name for member in found.members] == ["a", "b", "c"]
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    measured = found.measured
    assert (measured["images"], measured["malignant"]) == (COUNT, 30)
    fused = weights @ scores
    whole = measured["fusion"]["auc"]
    assert whole["low"] <= whole["value"] <= whole["high"]
    assert whole["value"] == pytest.approx(auc(LABELS, fused), abs=0.02), "fitted elsewhere"
    assert measured["networks"]["a"]["average_precision"]["value"] == pytest.approx(
        average_precision(LABELS, scores[0])
    )
    assert found.point().name == "sensitivity90"
    assert np.mean(found.calibration(fused)[LABELS == 1] >= found.point().threshold) >= 0.9
    assert measured["calibration_error"] == measured["calibration"]["error_after"]
    assert "one_look" not in measured
    assert "withheld" not in measured


def test_weights_that_flatter_one_fold_do_not_count_there() -> None:
    """A network that is right on the first fold alone gets no weight from the others."""
    honest, lucky = _scores(1, 0.3), np.random.default_rng(5).uniform(0.3, 0.7, COUNT)
    lucky[::3] = np.where(LABELS[::3], 0.99, 0.01)
    found = _fuse(_asked([honest, lucky])).measured["fusion"]["auc"]["value"]
    everywhere = _fuse(_asked([honest])).measured["fusion"]["auc"]["value"]
    first = auc(LABELS[::3], lucky[::3])
    assert first == 1.0
    assert found < everywhere + 0.1, "the other folds' weights decide"


def test_more_looks_are_measured_beside_one_on_the_same_images() -> None:
    many, one = _scores(1, 0.5), _scores(4, 0.1)
    found = _fuse([(make_card("a"), _folds(many, one))], looks=8).measured
    single, gain = found["one_look"]["fusion"], found["one_look"]["gain"]
    for metric in ("auc", "average_precision"):
        difference = found["fusion"][metric]["value"] - single[metric]["value"]
        assert gain[metric]["value"] == pytest.approx(difference)
        assert gain[metric]["low"] > 0
    assert found["looks"] == 8


def test_a_subset_is_measured_apart() -> None:
    ids = frozenset(f"I{number:03}" for number in range(24))
    found = _fuse(_asked([_scores(1, 0.3)]), subsets={"few": ids}).measured
    few = found["subsets"]["few"]
    assert (few["images"], few["malignant"]) == (24, 12)
    assert 0.0 <= few["calibration_error"] <= 1.0
    assert few["fusion"]["auc"]["value"] != found["fusion"]["auc"]["value"]


def test_withheld_images_are_counted_by_class_and_as_missed() -> None:
    scores = np.where(LABELS, 0.9, 0.1) + np.linspace(0, 0.05, COUNT)
    scores[[0, 1]] = scores[[1, 0]]  # one of each class on the wrong side
    withheld = {f"I{number:03}": number in (3, 5, 7) for number in range(COUNT)}
    found = _fuse(_asked([scores]), withheld=withheld)
    lost = found.measured["withheld"]
    assert lost["malignant"] == {"images": 30, "withheld": 3}
    assert lost["benign"] == {"images": 30, "withheld": 0}
    assert lost["p_value"] == pytest.approx(0.237, abs=0.001)
    point = found.point("balanced")
    rates = lost["operating_points"]["balanced"]
    assert point.sensitivity.value - rates["sensitivity"]["value"] == pytest.approx(3 / 30)
    assert rates["specificity"]["value"] == point.specificity.value


def test_a_hold_out_is_measured_in_parts() -> None:
    found = _fuse([(make_card("a"), _folds(_scores(1, 0.3), count=1))])
    assert found.measured["images"] == COUNT
    assert found.measured["fusion"]["auc"]["value"] > 0.6


def test_the_scores_out_of_fold_are_kept_for_pupils() -> None:
    scores = _scores(1, 0.3)
    table = make_class_release(_asked([scores])).out_of_fold
    assert table.image_ids == tuple(f"I{number:03}" for number in range(COUNT))
    assert table.scores == pytest.approx(scores), "one network has the whole weight in every fold"
