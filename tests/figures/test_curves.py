import io

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import DataError
from dermfuse.figures.curves import History, draw_training_curves
from dermfuse.figures.style import DPI, Basis

BASIS = Basis("validation", 178, ("a",))
EPOCHS = np.array([1.0, 2.0, 3.0])


def history(name: str, **columns: list[float]) -> History:
    given = {
        "train_loss": [1.0, 0.6, 0.4],
        "validation_loss": [1.1, 0.8, 0.9],
        "jaccard": [0.6, 0.8, 0.8],
        **columns,
    }
    arrays = {key: np.array(values) for key, values in given.items()}
    return History(name, EPOCHS, arrays, ("jaccard", "dice"))


def test_the_kept_epoch_is_the_earliest_of_the_best() -> None:
    assert history("a").best_epoch == 2.0


def test_each_network_has_its_panels_and_a_row_holds_three() -> None:
    def height(count: int) -> int:
        picture = draw_training_curves(
            [history(f"u-net {i}") for i in range(count)], name="f", title="T", basis=BASIS
        )
        return Image.open(io.BytesIO(picture.png)).height

    assert height(1) == round((5.6 + 0.6) * DPI)
    assert height(4) == round((2 * 5.6 + 0.6) * DPI)


def test_the_caption_says_if_training_metrics_were_not_measured() -> None:
    without = draw_training_curves([history("a")], name="f", title="T", basis=BASIS)
    assert "did not measure metrics on their training images" in without.caption
    measured = history("a", train_jaccard=[0.7, 0.8, 0.9])
    with_them = draw_training_curves([measured], name="f", title="T", basis=BASIS)
    assert "did not measure" not in with_them.caption
    assert with_them.png != without.png


def test_a_history_without_a_metric_is_refused() -> None:
    columns = {"train_loss": EPOCHS, "validation_loss": EPOCHS}
    with pytest.raises(DataError, match="history of a has no column auc"):
        History("a", EPOCHS, columns, ("auc",))


def test_a_history_that_measured_nothing_is_refused() -> None:
    with pytest.raises(DataError, match="jaccard of a was measured after no epoch"):
        history("a", jaccard=[np.nan] * 3)


def test_no_history_is_refused() -> None:
    with pytest.raises(DataError, match="no training histories to draw"):
        draw_training_curves([], name="f", title="T", basis=BASIS)
