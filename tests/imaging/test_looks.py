import numpy as np
import pytest
from numpy.typing import NDArray

from dermfuse.errors import ConfigError
from dermfuse.imaging.symmetries import (
    SYMMETRIES,
    Looks,
    ask_mean,
    check_looks,
    describe_other_looks,
    gather_all,
    mean_looks,
    spread_looks,
)

SQUARE = np.array([[[[1], [2]], [[3], [4]]]], np.uint8).repeat(3, axis=3)
"""1 2 over 3 4, (1, 2, 2, 3)."""


def _corner(squares: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
    """A network that says the upper left pixel, the two upper ones, and the red of the square."""
    red = squares[..., 0].astype(np.float32)
    return {"malignant": red[:, 0, 0], "embedding": red[:, 0], "lesion": red}


def test_the_eight_looks_are_all_different() -> None:
    spread = spread_looks(SQUARE, 8)[..., 0]
    assert spread.shape == (8, 2, 2)
    assert spread[:4].reshape(4, 4).tolist() == [
        [1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2],
    ]  # fmt: skip
    assert spread[4].tolist() == [[2, 1], [4, 3]], "mirrored left to right"
    assert spread[5].tolist() == [[1, 3], [2, 4]], "and then turned counter-clockwise"
    assert len({look.tobytes() for look in spread}) == len(SYMMETRIES) == 8


@pytest.mark.parametrize("looks", [1, 4, 8])
def test_maps_come_back_onto_the_image_and_other_answers_stay(looks: Looks) -> None:
    found = gather_all(_corner(spread_looks(SQUARE, looks)), looks)
    assert (found["lesion"] == SQUARE[None, ..., 0]).all()
    assert found["lesion"].shape == (looks, 1, 2, 2)
    assert found["malignant"].shape == (looks, 1)
    assert found["malignant"][:, 0].tolist() == [1, 2, 4, 3, 2, 1, 3, 4][:looks]


def test_the_mean_is_over_looks() -> None:
    mean = mean_looks(gather_all(_corner(spread_looks(SQUARE, 4)), 4))
    assert mean["malignant"].tolist() == [2.5]
    assert mean["embedding"].tolist() == [[(1 + 2 + 4 + 3) / 4, (2 + 4 + 3 + 1) / 4]]


@pytest.mark.parametrize("looks", [1, 4, 8])
def test_many_images_are_asked_a_few_at_a_time_and_answered_alike(looks: Looks) -> None:
    squares = np.random.default_rng(0).integers(0, 256, (150, 4, 4, 3)).astype(np.uint8)
    asked: list[int] = []

    def ask(some: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        asked.append(len(some))
        return _corner(some)

    found = ask_mean(ask, squares, looks)
    assert max(asked) <= 64
    assert sum(asked) == 150 * looks
    for name, expected in mean_looks(
        gather_all(_corner(spread_looks(squares, looks)), looks)
    ).items():
        np.testing.assert_array_equal(found[name], expected)


def test_other_looks_are_refused() -> None:
    for looks in (0, 2, 3, 16):
        with pytest.raises(ConfigError, match=f"looks is {looks}"):
            check_looks(looks)


def test_nothing_is_said_about_the_looks_of_the_release() -> None:
    assert describe_other_looks(8, measured=8) == ""
    assert "looked at 1 orientation; " in describe_other_looks(1, measured=8)
