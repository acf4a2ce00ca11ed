"""The rule by hand, and as PyTorch has it."""

import numpy as np
import pytest
import torch

from dermfuse.training.modules import KERAS_MIN_DELTA, count_plateaus


@pytest.mark.parametrize(
    ("losses", "plateaus"),
    [
        ([], 0),
        ([0.9, 0.8, 0.7, 0.6], 0),
        ([0.5, 0.6, 0.6, 0.6], 1),  # the third epoch without a fall
        ([0.5, 0.6, 0.6, 0.4, 0.4, 0.4], 0),  # a fall counts anew
        ([0.5, *[0.6] * 6], 2),
        ([0.5, *[0.5 - 0.9 * KERAS_MIN_DELTA] * 3], 1),  # too small a fall
    ],
)
def test_the_rate_falls_after_three_epochs_without_a_fall(
    losses: list[float], plateaus: int
) -> None:
    assert count_plateaus(losses, patience=3) == plateaus


@pytest.mark.parametrize("patience", [1, 2, 3])
def test_it_is_the_rule_of_pytorch(patience: int) -> None:
    rng = np.random.default_rng(patience)
    losses = np.abs(rng.normal(1, 0.2, 40)).tolist()
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience - 1, threshold=KERAS_MIN_DELTA,
        threshold_mode="abs", eps=0.0,
    )  # fmt: skip
    for epoch, loss in enumerate(losses, start=1):
        theirs.step(loss)
        expected = 0.5 ** count_plateaus(losses[:epoch], patience=patience)
        assert optimizer.param_groups[0]["lr"] == expected
    assert expected < 0.5
