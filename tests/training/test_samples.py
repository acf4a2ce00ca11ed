from pathlib import Path

import numpy as np
import pytest
import torch

from dermfuse.config import Config, load_preset
from dermfuse.training.samples import Samples, load_samples, select_lesions


def _samples(config: Config, data: Path) -> Samples:
    return load_samples(select_lesions(data, config), config)


@pytest.mark.parametrize("split", ["source", "paper"])
@pytest.mark.parametrize("preset", ["dc-mobilenetv1-fresh", "u-mobilenetv1-fresh"])
def test_fresh_draws_change_what_is_trained_on_and_nothing_else(
    preset: str, split: str, drawn: Path
) -> None:
    small = ["data.input_size=32", "augment.segmentation_draws=90", f"data.split={split}"]
    fixed = _samples(load_preset(preset).override([*small, "augment.fresh=false"]), drawn)
    fresh = _samples(load_preset(preset).override(small), drawn)
    first, second, again = (fresh.at_epoch(epoch).source.plan for epoch in (0, 1, 1))
    assert torch.equal(first.crop, fixed.source.plan.crop), (
        "the first epoch's plan is the fixed one"
    )
    assert torch.equal(second.occlusion, again.occlusion)
    assert torch.equal(first.source, second.source)
    assert np.array_equal(fresh.labels, fixed.labels)
    train, validation = fresh.train_rows, fresh.validation_rows
    assert not torch.equal(first.crop[train], second.crop[train])
    assert torch.equal(first.crop[validation], second.crop[validation])
    originals = fresh.original.nonzero()[0]
    rows = torch.from_numpy(originals)
    assert torch.equal(fresh.source.images(rows), fresh.at_epoch(7).source.images(rows))


def test_one_plan_serves_all_epochs_unless_drawn_anew(drawn: Path) -> None:
    samples = _samples(load_preset("mobilenetv1").override(["data.input_size=32"]), drawn)
    assert samples.at_epoch(3) is samples
