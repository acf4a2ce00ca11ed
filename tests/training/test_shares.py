import numpy as np
import pytest
import torch

from dermfuse.config import AugmentConfig
from dermfuse.training.shares import Mixture, draw_mixture

BLACK_AND_WHITE = torch.stack([torch.zeros(1, 4, 4), torch.ones(1, 4, 4)])
LABELS, SWAPPED = torch.tensor([0, 1]), torch.tensor([1, 0])


def test_mixup_blends_images_and_labels_by_the_same_share() -> None:
    mixture = Mixture(SWAPPED, torch.tensor([0.75, 0.75]), boxes=None)
    blended = mixture.images(BLACK_AND_WHITE)
    assert [blended[i].unique().tolist() for i in (0, 1)] == [[0.25], [0.75]]
    assert mixture.values(LABELS).tolist() == [0.25, 0.75]


def test_cutmix_shows_the_partner_in_a_box_and_counts_its_area() -> None:
    box = torch.tensor([[0.0, 0.5, 0.5, 0.5], [0.0, 0.0, 0.0, 0.0]])
    mixture = Mixture(SWAPPED, torch.tensor([0.75, 1.0]), box)
    blended = mixture.images(BLACK_AND_WHITE)
    assert blended[0, 0].tolist() == [[0, 0, 1, 1]] * 2 + [[0] * 4] * 2
    assert torch.equal(blended[1], BLACK_AND_WHITE[1])
    assert mixture.values(LABELS).tolist() == [0.25, 1.0]


@pytest.mark.parametrize("key", ["mixup", "cutmix"])
def test_a_batch_draws_a_partner_for_each_image_and_a_share_in_range(key: str) -> None:
    assert draw_mixture(4, AugmentConfig(), np.random.default_rng(0)) is None
    mixture = draw_mixture(64, AugmentConfig(**{key: 0.5}), np.random.default_rng(0))
    assert mixture is not None
    assert sorted(mixture.partner.tolist()) == list(range(64))
    assert 0 <= mixture.share.min() <= mixture.share.max() <= 1
    assert (mixture.boxes is not None) == (key == "cutmix")
    if mixture.boxes is not None:
        top, left, height, width = mixture.boxes.unbind(dim=1)
        assert max((top + height).max(), (left + width).max()) <= 1
        torch.testing.assert_close(1 - height * width, mixture.share)
