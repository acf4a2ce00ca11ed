import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.config import load_preset
from dermfuse.data.splits import Split
from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import ResampledRanking
from dermfuse.figures.curves import (
    GRID,
    bands,
    draw_decision_curves,
    draw_rankings,
    draw_training_curves,
    net_benefit,
    precision_on_grid,
    sensitivity_on_grid,
)
from dermfuse.figures.sources import RunSource, ScoredNetwork
from dermfuse.figures.style import DPI, WIDTH_IN
from dermfuse.predictions.metrics import auc

MALIGNANT = np.array([True, False, True, False])
SCORES = np.array([0.9, 0.8, 0.3, 0.1])


def network(malignant: np.ndarray = MALIGNANT, scores: np.ndarray = SCORES) -> ScoredNetwork:
    ids = tuple(map(str, range(malignant.size)))
    return ScoredNetwork("a", "test", ids, malignant, scores)


def run(**columns: list[float]) -> RunSource:
    given = {"epoch": [1, 2, 3], "train_loss": [1, 0.6, 0.4], "validation_loss": [1.1, 0.8, 0.9]}
    given |= {"jaccard": [0.6, 0.8, 0.8], **columns}
    arrays = {key: np.array(values) for key, values in given.items() if values}
    return RunSource(Path("run"), load_preset("u-mobilenetv1"), Split((), ("a", "b")), arrays)


def test_each_network_has_its_panels_and_the_caption_says_what_was_not_measured() -> None:
    picture = draw_training_curves([run()] * 4)
    with Image.open(io.BytesIO(picture.png)) as image:
        assert image.size == (WIDTH_IN * DPI, round((2 * 5.6 + 0.6) * DPI))
    assert "did not measure metrics on their training images" in picture.caption
    assert "validation: n = 2 images; u-mobilenetv1, seed 0;" in picture.caption
    measured = draw_training_curves([run(train_jaccard=[0.7, 0.8, 0.9])])
    assert "did not measure" not in measured.caption


def test_a_history_without_a_metric_is_refused() -> None:
    assert run().best_epoch == 2.0, "the earliest of the best"
    with pytest.raises(DataError, match="history of u-mobilenetv1, seed 0 has no column jaccard"):
        run(jaccard=[])
    with pytest.raises(DataError, match=r"jaccard of .* was measured after no epoch"):
        run(jaccard=[np.nan] * 3)


def test_net_benefit_is_as_by_hand() -> None:
    thresholds = np.array([0.2, 0.5, 0.85, 0.95])
    # 2/4 - 1/4 x 1/4; 1/4 - 1/4 x 1; 1/4 found, none false; no one called
    assert net_benefit(MALIGNANT, SCORES, thresholds).tolist() == pytest.approx(
        [0.4375, 0.0, 0.25, 0.0]
    )
    prevalence = np.arange(5) < 1  # treating all breaks even at 1/5
    everyone = net_benefit(prevalence, np.ones(5), np.array([0.0, 0.2, 0.5]))
    assert everyone.tolist() == pytest.approx([0.2, 0.0, -0.6])


def test_curves_on_the_grid_are_as_by_hand() -> None:
    ranking = ResampledRanking(MALIGNANT, SCORES, np.ones((1, 4)))
    sensitivity, precision = sensitivity_on_grid(ranking)[0], precision_on_grid(ranking)[0]
    at = {value: int(np.argmin(np.abs(GRID - value))) for value in (0.25, 0.5, 0.75, 1.0)}
    assert [sensitivity[at[x]] for x in (0.25, 0.75, 1.0)] == [0.5, 1.0, 1.0]
    assert [precision[at[x]] for x in (0.25, 0.5, 0.75, 1.0)] == pytest.approx([1, 1, 2 / 3, 2 / 3])


def test_bands_hold_the_curve_and_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(0)
    malignant = np.arange(60) < 20
    scores = np.clip(rng.normal(0.3 + 0.3 * malignant, 0.2), 0, 1)
    (areas, found, precise), again = (
        bands(network(malignant, scores), draws=200, seed=3) for _ in range(2)
    )
    curve = sensitivity_on_grid(ResampledRanking(malignant, scores, np.ones((1, 60))))[0]
    assert ((found[0] <= curve) & (curve <= found[1])).all()
    assert areas[0, 0] < auc(malignant, scores) < areas[1, 0]
    assert np.array_equal(precise, again[2])


@pytest.mark.parametrize("draw", [draw_rankings, draw_decision_curves])
def test_one_class_is_refused(draw: Any) -> None:
    with pytest.raises(DataError, match="the images of a are of one class"):
        draw([network(np.zeros(4, dtype=bool))])
