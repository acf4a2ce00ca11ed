"""Every orientation of a square is looked at, and what is said of it comes back onto the image."""

import numpy as np
import pytest

from dermfuse.errors import ConfigError
from dermfuse.imaging import symmetries
from dermfuse.imaging.symmetries import Looks

SQUARE = np.array([[[[1], [2]], [[3], [4]]]], np.uint8).repeat(3, axis=3)  # (1, 2, 2, 3)


def test_the_eight_looks_are_turns_and_their_mirror_images() -> None:
    assert symmetries.spread_looks(SQUARE, 8)[..., 0].reshape(8, 4).tolist() == [
        [1, 2, 3, 4], [2, 4, 1, 3], [4, 3, 2, 1], [3, 1, 4, 2],
        [2, 1, 4, 3], [1, 3, 2, 4], [3, 4, 1, 2], [4, 2, 3, 1],
    ]  # fmt: skip


@pytest.mark.parametrize("looks", [1, 4, 8])
def test_maps_come_back_onto_the_image_and_other_answers_stay(looks: Looks) -> None:
    red = symmetries.spread_looks(SQUARE, looks)[..., 0].astype(np.float32)
    said = {"malignant": red[:, 0, 0], "embedding": red[:, 0], "lesion": red}
    found = symmetries.gather_all(said, looks)
    assert found["lesion"].shape == (looks, 1, 2, 2)
    assert (found["lesion"] == SQUARE[None, ..., 0]).all()
    assert found["malignant"][:, 0].tolist() == [1, 2, 4, 3, 2, 1, 3, 4][:looks]
    mean = symmetries.mean_looks(found)
    assert mean["malignant"].tolist() == [1.0 if looks == 1 else 2.5]
    assert mean["embedding"].tolist() == [[1.0, 2.0] if looks == 1 else [2.5, 2.5]]


def test_other_looks_are_refused_and_those_of_the_release_need_no_words() -> None:
    for looks in (0, 2, 16):
        with pytest.raises(ConfigError, match=f"looks is {looks}"):
            symmetries.check_looks(looks)
    assert symmetries.describe_other_looks(8, measured=8) == ""
    assert "looked at 1 orientation; " in symmetries.describe_other_looks(1, measured=8)
