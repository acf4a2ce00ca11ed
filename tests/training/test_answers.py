import pytest
import torch
from torch import Tensor, nn

from dermfuse.imaging.symmetries import SYMMETRIES
from dermfuse.training.prediction import Answer, look_eight_times, move, move_back, read_logits

CORNERS = torch.tensor([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("mirror", "turns", "expected"),
    [
        (False, 0, [[1, 2], [3, 4]]),
        (False, 1, [[2, 4], [1, 3]]),  # counter-clockwise
        (False, 2, [[4, 3], [2, 1]]),
        (False, 3, [[3, 1], [4, 2]]),
        (True, 0, [[2, 1], [4, 3]]),
        (True, 1, [[1, 3], [2, 4]]),  # mirrored first, then turned
        (True, 2, [[3, 4], [1, 2]]),
        (True, 3, [[4, 2], [3, 1]]),
    ],
)
def test_each_symmetry_moves_the_corners_and_brings_them_back(
    mirror: bool, turns: int, expected: list[list[int]]
) -> None:
    moved = move(CORNERS, mirror=mirror, turns=turns)
    assert moved.tolist() == expected
    assert torch.equal(move_back(moved, mirror=mirror, turns=turns), CORNERS)
    assert (mirror, turns) in SYMMETRIES


def test_there_are_eight_different_symmetries() -> None:
    moved = {tuple(move(CORNERS, mirror=m, turns=t).flatten().tolist()) for m, t in SYMMETRIES}
    assert len(moved) == len(SYMMETRIES) == 8


def test_a_map_that_follows_the_image_comes_back_as_it_was() -> None:
    def look(images: Tensor) -> Answer:  # calls lesion what is bright
        return Answer(None, images[:, 0])

    images = torch.rand(2, 3, 6, 6)
    lesion = look_eight_times(look, images).lesion
    assert lesion is not None
    torch.testing.assert_close(lesion, images[:, 0])


def test_a_map_that_does_not_follow_becomes_symmetric() -> None:
    def look(images: Tensor) -> Answer:  # calls the upper left corner lesion, whatever it sees
        corner = torch.zeros(len(images), 4, 4)
        corner[:, 0, 0] = 1
        return Answer(None, corner)

    lesion = look_eight_times(look, torch.rand(1, 3, 4, 4)).lesion
    expected = torch.zeros(1, 4, 4)
    expected[:, ::3, ::3] = 2 / 8  # two of the eight bring it to each corner
    torch.testing.assert_close(lesion, expected)


@pytest.mark.parametrize(("mirror", "turns"), SYMMETRIES[1:])
def test_turning_the_input_changes_no_score_and_turns_the_map(mirror: bool, turns: int) -> None:
    torch.manual_seed(0)
    classes = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 36, 2))
    masks = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 1, 1))
    images = torch.rand(2, 3, 8, 8)
    moved = move(images, mirror=mirror, turns=turns)
    with torch.inference_mode():
        once = read_logits(classes(images)).malignant
        again = read_logits(classes(moved)).malignant
        assert once is not None
        assert not torch.allclose(once, again, atol=1e-4), "one look does depend on it"
        before = look_eight_times(lambda x: read_logits(classes(x)), images).malignant
        after = look_eight_times(lambda x: read_logits(classes(x)), moved).malignant
        torch.testing.assert_close(after, before)
        lesion = look_eight_times(lambda x: read_logits(masks(x)), images).lesion
        turned = look_eight_times(lambda x: read_logits(masks(x)), moved).lesion
        assert lesion is not None
        torch.testing.assert_close(turned, move(lesion, mirror=mirror, turns=turns))


def test_logits_become_probabilities() -> None:
    classes = read_logits(torch.tensor([[0.0, 0.0], [0.0, 40.0]]))
    assert classes.malignant is not None
    assert classes.lesion is None
    assert classes.malignant.tolist() == pytest.approx([0.5, 1.0])
    masks = read_logits(torch.tensor([[[[0.0, torch.inf], [-torch.inf, 0.0]]]]))
    assert masks.lesion is not None
    assert masks.malignant is None
    assert masks.lesion.tolist() == [[[0.5, 1.0], [0.0, 0.5]]]
