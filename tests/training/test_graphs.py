"""Steps as CUDA graphs: what a CPU can tell, with nothing captured; the rest needs a GPU."""

from collections.abc import Callable
from contextlib import nullcontext

import pytest
import torch
from torch import Tensor

from dermfuse.config import Config
from dermfuse.errors import ConfigError, TrainingError
from dermfuse.training import graphs, train
from dermfuse.training.distributed import Processes
from dermfuse.training.shares import Share

from .tiny import MANY, Fit, rows

Step = Callable[[], Tensor]


@pytest.fixture
def uncaptured(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Takes steps as they are where they would be captured; lists what was asked for."""
    asked: list[str] = []

    def take(step: Step) -> Tensor:
        asked.append("warm up")
        return step()

    def keep(step: Step) -> Step:
        asked.append("capture")
        return step

    monkeypatch.setattr(train, "require_graph", lambda *_: None)
    monkeypatch.setattr(graphs, "warm_up", take)
    monkeypatch.setattr(graphs, "capture", keep)
    return asked


def test_a_graph_is_refused_on_a_cpu_and_with_several_devices(fit: Fit) -> None:
    with pytest.raises(ConfigError, match=r"train\.graph is true and the training runs on a CPU"):
        fit("mobilenetv1", "train.graph=true", "train.device=cpu")
    assert not fit.run().path.exists()
    graph, two = Config().override(["train.graph=true"]).train, Processes(count=2)
    graphs.require_graph(graph, "cuda", Processes())
    graphs.require_graph(Config().train, "cpu", two)
    with pytest.raises(ConfigError, match=r"train\.graph is true with 2 devices"):
        graphs.require_graph(graph, "cuda", two)


def test_each_kind_warms_up_and_is_captured_once(uncaptured: list[str]) -> None:
    graphed = graphs.GraphedStep(lambda share: share.rows.sum())
    single = [Share(torch.tensor([at, at + 1])) for at in range(5)]
    paired = [Share(torch.tensor([at, at]), partner=torch.tensor([1, 0])) for at in range(4)]
    once = ["warm up"] * graphs.WARM_UP + ["capture"]
    losses = [graphed(share, kind=None).item() for share in single]
    assert losses == [1, 3, 5, 7, 9], "a replayed step sees the rows of its own batch"
    assert uncaptured == once
    assert [graphed(share, kind=None).item() for share in paired] == [0, 2, 4, 6]
    graphed(single[0], kind="other")
    assert uncaptured == [*once, *once, "warm up"]


@pytest.mark.parametrize(
    ("preset", "graphs_until", "more"),
    [
        ("dc-mobilenetv1", {2: "true"}, MANY),
        ("dc-mobilenetv1", {1: "true", 2: "true", 3: "false", 4: "true"}, []),
        ("u-mobilenetv1", {2: "true"}, ["train.schedule=cosine"]),
    ],
)
def test_a_graphed_training_takes_the_steps_of_an_ordinary_one_and_continues_with_or_without(
    preset: str, graphs_until: dict[int, str], more: list[str], fit: Fit, uncaptured: list[str]
) -> None:
    last = max(graphs_until)
    ordinary = rows(fit(preset, *more, f"train.epochs={last}", run="ordinary").run)
    for epochs, graph in graphs_until.items():
        settings = [*more, f"train.graph={graph}", f"train.epochs={epochs}"]
        report = fit(preset, *settings, resume=True)
    assert uncaptured
    assert len(ordinary) == last
    tolerance = 0.01 if preset == "u-mobilenetv1" else 0  # the cosine's rates are rounded
    for row, expected in zip(rows(report.run), ordinary, strict=True):
        assert row == pytest.approx(expected, rel=tolerance, abs=0)


def test_an_optimizer_of_another_version_is_taken_up() -> None:
    layer = torch.nn.Linear(1, 1)
    before = torch.optim.Adam(layer.parameters(), lr=0.5, foreach=True)
    layer(torch.ones(1)).sum().backward()
    before.step()
    now = torch.optim.Adam(layer.parameters(), lr=0.1, fused=True)
    now.load_state_dict(before.state_dict())
    graphs.settle_optimizer(now, graph=False)
    (group,) = now.param_groups
    assert (group["fused"], group["lr"]) == (True, 0.5)
    now.step()
    assert now.state[layer.weight]["step"].item() == 2
    graphs.settle_optimizer(now, graph=True)
    assert group["capturable"] is True
    assert isinstance(group["lr"], Tensor)


def test_what_cannot_be_captured_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Tensor:
        raise RuntimeError("operation not permitted when stream is capturing\nand more lines")

    monkeypatch.setattr(torch.cuda, "CUDAGraph", object)
    monkeypatch.setattr(torch.cuda, "graph", lambda _: nullcontext())
    with pytest.raises(TrainingError, match=r"could not be captured .* stream is capturing\)"):
        graphs.capture(refuse)


@pytest.mark.gpu
@pytest.mark.parametrize("preset", ["mobilenetv1", "dc-mobilenetv1", "dc-mobilenetv1-blind"])
def test_captured_steps_train_as_ordinary_ones(preset: str, fit: Fit) -> None:
    on_gpu = ("train.device=cuda", "train.epochs=3")
    plain, captured = (fit(preset, *on_gpu, f"train.graph={x}", run=x) for x in ("false", "true"))
    assert captured.best["train_loss"] == pytest.approx(plain.best["train_loss"], rel=0.02)
