from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dermfuse.config import TrainConfig, load_preset
from dermfuse.errors import ConfigError
from dermfuse.folders import RunFolder, read_json
from dermfuse.models.build import build_network
from dermfuse.training import train
from dermfuse.training.modules import compile_pass, require_compiler
from dermfuse.training.train import MODULES


def _broken(*_: object, **__: object) -> None:
    raise RuntimeError("no C++ compiler was found\nand more lines")


def test_nothing_is_compiled_unless_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "compile", _broken)
    assert compile_pass(len, TrainConfig()) is None
    require_compiler(TrainConfig(), "cpu")


def test_no_compiler_is_one_line_before_anything_is_written(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch, "compile", _broken)
    config = load_preset("squeezenet").override(["model.init=random", "train.compile=true"])
    with pytest.raises(ConfigError, match=r"does not work here \(no C\+\+ compiler was found\)"):
        train(config, data=drawn, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("preset", ["mobilenetv1", "dc-mobilenetv1"])
def test_a_compiled_pass_renames_no_weight(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def mark(function: object) -> object:
        compiled.append(getattr(function, "__name__", ""))
        return function

    monkeypatch.setattr(torch, "compile", mark)
    names = []
    for more in (["train.compile=false"], ["train.compile=true"]):
        config = load_preset(preset).override([*more, "model.init=random", "train.ema_decay=0.9"])
        module = MODULES[config.model.network](build_network(config.model), None, config)  # type: ignore[arg-type]
        names.append(list(module.state_dict()))
    assert names[0] == names[1]
    assert compiled == ["forward" if preset == "mobilenetv1" else "embed"]


def _trace_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Traces, and differentiates the trace, without generating code, which takes minutes."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*script_method.*:DeprecationWarning")  # of torch itself
@pytest.mark.parametrize(
    ("backbone", "generates"), [("mobilenet_v1", False), ("squeezenet1_1", True)]
)
def test_a_compiled_epoch_equals_one_that_is_not(
    backbone: str, generates: bool, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not generates:
        _trace_alone(monkeypatch)
    tiny = ["model.init=random", "data.input_size=32", "train.epochs=1", "train.batch_size=12"]
    tiny += ["augment.enabled=false", "train.precision=float32", "train.ema_decay=0.9"]
    tiny += ["train.learning_rate=1e-5", f"model.backbone={backbone}"]
    base = load_preset("dc-mobilenetv1").override(tiny)
    losses, weights = [], []
    for compiled in (False, True):
        config = base.override([f"train.compile={str(compiled).lower()}"])
        run = RunFolder(tmp_path / str(compiled))
        losses.append(train(config, data=drawn, run=run.path).best["train_loss"])
        weights.append(load_file(run.weights))
        assert read_json(run.record)["config"]["train"]["compile"] is compiled
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)
    assert list(weights[0]) == list(weights[1])
    for key, value in weights[0].items():
        torch.testing.assert_close(weights[1][key], value, rtol=1e-3, atol=1e-3)
    longer = base.override(["train.epochs=2"])
    assert train(longer, data=drawn, run=tmp_path / "True", resume=True).epochs == 2
