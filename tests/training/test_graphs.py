"""Steps as CUDA graphs: what a CPU can tell, with nothing captured; the rest needs a GPU."""

import importlib
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dermfuse.config import Config
from dermfuse.errors import ConfigError, TrainingError
from dermfuse.folders import RunFolder, read_json
from dermfuse.training import graphs, train
from dermfuse.training.distributed import Processes
from dermfuse.training.graphs import WARM_UP, GraphedStep, capture, require_graph, settle_optimizer
from dermfuse.training.shares import Share

from .tiny import rows, tiny


@pytest.fixture
def uncaptured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes steps as they are where they would be captured; lists what was asked for."""
    asked: list[str] = []

    def take(step: Callable[[], Tensor]) -> Tensor:
        asked.append("warm up")
        return step()

    def keep(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
        asked.append("capture")
        return step

    module = importlib.import_module("dermfuse.training.train")  # the function hides it
    monkeypatch.setattr(module, "require_graph", lambda *_: None)
    monkeypatch.setattr(graphs, "warm_up", take)
    monkeypatch.setattr(graphs, "capture", keep)
    return asked


def test_a_graph_is_refused_on_a_cpu_before_anything_is_written(
    drawn: Path, tmp_path: Path
) -> None:
    config = tiny("mobilenetv1", "train.graph=true", "train.device=cpu")
    with pytest.raises(ConfigError, match=r"train\.graph is true and the training runs on a CPU"):
        train(config, data=drawn, run=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_graph_is_refused_with_several_devices_and_beside_a_compiler() -> None:
    graph = Config().override(["train.graph=true"]).train
    require_graph(graph, "cuda", Processes())
    require_graph(Config().train, "cpu", Processes(count=2))
    with pytest.raises(ConfigError, match=r"train\.graph is true with 2 devices"):
        require_graph(graph, "cuda", Processes(count=2))
    with pytest.raises(ConfigError, match=r"train\.graph is true with train\.compile true"):
        Config().override(["train.graph=true", "train.compile=true"])


def test_each_kind_warms_up_and_is_captured_once(uncaptured: list[str]) -> None:
    seen: list[tuple[int, ...]] = []

    def step(share: Share) -> Tensor:
        seen.append(tuple(share.rows.tolist()))
        return share.rows.sum()

    graphed = GraphedStep(step)
    single = [Share(torch.tensor([at, at + 1])) for at in range(5)]
    paired = [Share(torch.tensor([at, at]), partner=torch.tensor([1, 0])) for at in range(4)]
    losses = [graphed(share, kind=None).item() for share in single]
    assert uncaptured == ["warm up"] * WARM_UP + ["capture"]
    for share in paired:
        graphed(share, kind=None)
    graphed(single[0], kind="other")
    assert uncaptured[4:] == ["warm up"] * WARM_UP + ["capture"] + ["warm up"]
    assert seen == [tuple(share.rows.tolist()) for share in (*single, *paired, single[0])]
    assert losses == [1, 3, 5, 7, 9], "a replayed step sees the rows of its own batch"


@pytest.mark.parametrize(
    ("preset", "tolerance", "more"),
    [
        ("dc-mobilenetv1", 0, ()),
        (
            "dc-mobilenetv1",
            0,
            (
                "augment.policy=label_blind",
                "augment.mixup=0.4",
                "model.dropout=0.3",
                "train.weight_decay=0.1",
                "train.gradient_clip=1.0",
                "train.ema_decay=0.9",
            ),
        ),
        ("u-mobilenetv1", 0.01, ("train.schedule=cosine",)),  # rates are rounded to float32,
    ],
)
def test_a_graphed_training_takes_the_steps_of_an_ordinary_one(
    preset: str,
    tolerance: float,
    more: tuple[str, ...],
    drawn: Path,
    tmp_path: Path,
    uncaptured: list[str],
) -> None:
    runs = []
    for graph in ("false", "true"):
        run = RunFolder(tmp_path / graph)
        config = tiny(preset, *more, f"train.graph={graph}", "train.epochs=3")
        train(config, data=drawn, run=run.path)
        runs.append(rows(run.path))
    assert "capture" in uncaptured
    assert read_json(run.record)["config"]["train"]["graph"] is True
    ordinary, graphed = runs
    assert len(ordinary) == 3
    for row, expected in zip(graphed, ordinary, strict=True):
        for key in ("epoch", "learning_rate", "train_loss", "validation_loss"):
            assert row[key] == pytest.approx(expected[key], rel=tolerance, abs=0)


@pytest.mark.parametrize(
    ("first", "then"), [("true", "true"), ("true", "false"), ("false", "true")]
)
def test_a_run_continues_with_a_graph_or_without(
    first: str, then: str, drawn: Path, tmp_path: Path, uncaptured: list[str]
) -> None:
    once, twice, two = tmp_path / "once", tmp_path / "twice", "train.epochs=2"
    train(tiny("dc-mobilenetv1", two), data=drawn, run=once)
    train(tiny("dc-mobilenetv1", f"train.graph={first}"), data=drawn, run=twice)
    more = tiny("dc-mobilenetv1", two, f"train.graph={then}")
    train(more, data=drawn, run=twice, resume=True)
    assert uncaptured
    assert rows(once) == rows(twice)


def test_an_optimizer_of_another_version_is_taken_up() -> None:
    layer = torch.nn.Linear(1, 1)
    before = torch.optim.Adam(layer.parameters(), lr=0.5, foreach=True)
    layer(torch.ones(1)).sum().backward()
    before.step()
    now = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    now.load_state_dict(before.state_dict())
    settle_optimizer(now, graph=False)
    assert now.param_groups[0]["fused"] is True
    assert now.param_groups[0]["lr"] == 0.5
    now.step()
    assert now.state[layer.weight]["step"].item() == 2
    settle_optimizer(now, graph=True)
    assert now.param_groups[0]["capturable"] is True
    assert isinstance(now.param_groups[0]["lr"], Tensor)


def test_what_cannot_be_captured_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Tensor:
        raise RuntimeError("operation not permitted when stream is capturing\nand more lines")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    with pytest.raises(TrainingError, match=r"could not be captured .* stream is capturing\)"):
        capture(refuse)


@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["mobilenetv1", "dc-mobilenetv1", "dc-mobilenetv1-blind"])
def test_captured_steps_train_as_ordinary_ones(preset: str, drawn: Path, tmp_path: Path) -> None:
    losses = []
    for graph in ("false", "true"):
        config = tiny(preset, "train.device=cuda", "train.epochs=3", f"train.graph={graph}")
        report = train(config, data=drawn, run=tmp_path / graph)
        losses.append(report.best["train_loss"])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
