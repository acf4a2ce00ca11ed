"""Every orientation of a square is looked at, and what is said of it comes back onto the image."""

import numpy as np
import pytest

from dermfuse.errors import ConfigError
from dermfuse.imaging.symmetries import (
    SYMMETRIES,
    Looks,
    check_looks,
    describe_other_looks,
    gather_all,
    mean_looks,
    spread_looks,
)

SQUARE = np.array([[[[1], [2]], [[3], [4]]]], np.uint8).repeat(3, axis=3)
"""1 2 over 3 4, (1, 2, 2, 3)."""


def corner(looks: Looks) -> dict[str, np.ndarray]:
    """What a network says that names the upper left pixel, the two upper ones, and all of them."""
    red = spread_looks(SQUARE, looks)[..., 0].astype(np.float32)
    return gather_all({"malignant": red[:, 0, 0], "embedding": red[:, 0], "lesion": red}, looks)


def test_the_eight_looks_are_all_different() -> None:
    spread = spread_looks(SQUARE, 8)[..., 0]
    assert spread[:4].reshape(4, 4).tolist() == [
        [1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2],
    ]  # fmt: skip
    assert spread[4].tolist() == [[2, 1], [4, 3]], "mirrored left to right"
    assert spread[5].tolist() == [[1, 3], [2, 4]], "and then turned counter-clockwise"
    assert len({look.tobytes() for look in spread}) == len(SYMMETRIES) == 8


@pytest.mark.parametrize("looks", [1, 4, 8])
def test_maps_come_back_onto_the_image_and_other_answers_stay(looks: Looks) -> None:
    found = corner(looks)
    assert found["lesion"].shape == (looks, 1, 2, 2)
    assert (found["lesion"] == SQUARE[None, ..., 0]).all()
    assert found["malignant"][:, 0].tolist() == [1, 2, 4, 3, 2, 1, 3, 4][:looks]
    mean = mean_looks(found)
    assert mean["malignant"].tolist() == [1.0 if looks == 1 else 2.5]
    assert mean["embedding"].tolist() == [[1.0, 2.0] if looks == 1 else [2.5, 2.5]]


def test_other_looks_are_refused_and_those_of_the_release_need_no_words() -> None:
    for looks in (0, 2, 16):
        with pytest.raises(ConfigError, match=f"looks is {looks}"):
            check_looks(looks)
    assert describe_other_looks(8, measured=8) == ""
    assert "looked at 1 orientation; " in describe_other_looks(1, measured=8)
