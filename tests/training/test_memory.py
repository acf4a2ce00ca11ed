from pathlib import Path

import pytest
import torch

from dermfuse.config import Config, load_preset
from dermfuse.errors import TrainingError
from dermfuse.folders import RunFolder
from dermfuse.training import train
from dermfuse.training.distributed import explain_memory
from dermfuse.training.modules import ClassifierModule

MESSAGE = r"memory ran out with train\.batch_size 16 and data\.input_size 32.*Lower train\.batch_"
SMALL = Config().override(["train.batch_size=16", "data.input_size=32"])


def _take_an_exabyte() -> torch.Tensor:
    return torch.empty(1 << 60, dtype=torch.uint8)


def _fill_a_gpu() -> torch.Tensor:
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")


@pytest.mark.parametrize("take", [_take_an_exabyte, _fill_a_gpu])
def test_too_little_memory_is_one_line_that_names_what_takes_it(take: object) -> None:
    assert callable(take)
    with pytest.raises(TrainingError, match=MESSAGE), explain_memory(SMALL):
        take()


def test_another_error_passes_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="shapes") as raised, explain_memory(SMALL):
        raise RuntimeError("shapes do not fit")
    assert not isinstance(raised.value, TrainingError)


def test_a_training_that_runs_out_of_memory_is_a_training_error(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ClassifierModule, "step_loss", lambda *_: _take_an_exabyte())
    tiny = ["model.init=random", "augment.enabled=false", "train.epochs=1"]
    config = load_preset("squeezenet").override(
        [*tiny, "train.batch_size=16", "data.input_size=32"]
    )
    with pytest.raises(TrainingError, match=MESSAGE):
        train(config, data=drawn, run=tmp_path / "run")
    assert not RunFolder(tmp_path / "run").weights.exists()
