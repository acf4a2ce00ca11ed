import io

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import DataError
from dermfuse.estimates import Estimate
from dermfuse.evaluation.bootstrap import ResampledRanking
from dermfuse.figures.ranking import (
    GRID,
    ScoredNetwork,
    bands,
    draw_decision_curves,
    draw_rankings,
    net_benefit,
    precision_on_grid,
    sensitivity_on_grid,
)
from dermfuse.figures.style import DPI, WIDTH_IN, Basis
from dermfuse.predictions.metrics import auc

BASIS = Basis("test", 4, ("a",), malignant=2)
MALIGNANT = np.array([True, False, True, False])
SCORES = np.array([0.9, 0.8, 0.3, 0.1])
NETWORK = ScoredNetwork("a", MALIGNANT, SCORES)


def test_net_benefit_is_as_by_hand() -> None:
    thresholds = np.array([0.2, 0.5, 0.85, 0.95])
    # 2/4 - 1/4 x 1/4; 1/4 - 1/4 x 1; 1/4 found, none false; no one called
    assert net_benefit(MALIGNANT, SCORES, thresholds).tolist() == pytest.approx(
        [0.4375, 0.0, 0.25, 0.0]
    )


def test_treating_all_breaks_even_at_the_prevalence() -> None:
    malignant = np.array([True, False, False, False, False])
    everyone = net_benefit(malignant, np.ones(5), np.array([0.0, 0.2, 0.5]))
    assert everyone.tolist() == pytest.approx([0.2, 0.0, -0.6])


def test_curves_on_the_grid_are_as_by_hand() -> None:
    ranking = ResampledRanking(MALIGNANT, SCORES, np.ones((1, 4)))
    sensitivity, precision = sensitivity_on_grid(ranking)[0], precision_on_grid(ranking)[0]
    at = {value: int(np.argmin(np.abs(GRID - value))) for value in (0.25, 0.5, 0.75, 1.0)}
    assert [sensitivity[at[x]] for x in (0.25, 0.75, 1.0)] == [0.5, 1.0, 1.0]
    assert [precision[at[x]] for x in (0.25, 0.5, 0.75, 1.0)] == pytest.approx([1, 1, 2 / 3, 2 / 3])


def test_a_perfect_ranking_has_bands_of_no_width() -> None:
    perfect = ScoredNetwork("a", MALIGNANT, np.array([0.9, 0.2, 0.8, 0.1]))
    found = bands(perfect, draws=50, seed=0)
    assert np.array_equal(found.sensitivity, np.ones((2, GRID.size)))
    assert np.array_equal(found.precision, np.ones((2, GRID.size)))
    assert found.auc == found.average_precision == Estimate(1.0, 1.0, 1.0)


def test_bands_hold_the_curve_and_depend_on_the_seed_alone() -> None:
    rng = np.random.default_rng(0)
    malignant = np.arange(60) < 20
    network = ScoredNetwork("a", malignant, np.clip(rng.normal(0.3 + 0.3 * malignant, 0.2), 0, 1))
    found, again = (bands(network, draws=200, seed=3) for _ in range(2))
    curve = sensitivity_on_grid(ResampledRanking(malignant, network.scores, np.ones((1, 60))))[0]
    inside = (found.sensitivity[0] <= curve) & (curve <= found.sensitivity[1])
    assert inside.all()
    assert found.auc.low < auc(malignant, network.scores) < found.auc.high
    assert np.array_equal(found.precision, again.precision)


def test_rankings_and_decision_curves_are_pictures() -> None:
    for picture in (
        draw_rankings([NETWORK, NETWORK], basis=BASIS, draws=20),
        draw_decision_curves([NETWORK], basis=BASIS),
    ):
        image = Image.open(io.BytesIO(picture.png))
        assert image.width == round(WIDTH_IN * DPI)
        assert "n = 4 images (2 malignant)" in picture.caption


@pytest.mark.parametrize("draw", [draw_rankings, draw_decision_curves])
def test_nothing_and_one_class_are_refused(draw: object) -> None:
    assert callable(draw)
    with pytest.raises(DataError, match="there are no scores to draw"):
        draw([], basis=BASIS)
    benign = ScoredNetwork("a", np.zeros(4, dtype=bool), SCORES)
    with pytest.raises(DataError, match="the images of a are of one class"):
        draw([benign], basis=BASIS)


def test_scores_without_their_labels_are_refused() -> None:
    with pytest.raises(DataError, match="labels and scores of a of lengths 4, 3"):
        ScoredNetwork("a", MALIGNANT, SCORES[:3])
