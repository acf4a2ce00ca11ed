import importlib
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

from dermfuse.config import load_preset, preset_names
from dermfuse.data.augment import match_same_class, originals
from dermfuse.data.loaders import ImageCache, PairRows, SampleSource
from dermfuse.errors import ConfigError
from dermfuse.folders import RunFolder, read_json
from dermfuse.models import build_network
from dermfuse.models.classifier import DiscriminantNetwork
from dermfuse.training import train
from dermfuse.training.distributed import (
    Batch,
    Processes,
    as_the_first,
    batch_length,
    find_processes,
    gather_in_order,
    mean_over_processes,
    require_devices,
    require_shares,
    share_statistics,
    take_share,
)
from dermfuse.training.samples import Samples
from dermfuse.training.shares import draw_share
from dermfuse.training.train import MODULES, TrainingModule

from .tiny import TINY, rows

LABELS = np.array([0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0])
MIXED = torch.tensor([3, 8, 0, 5, 10, 1, 7, 2, 9, 4, 6])
PARTNER = torch.from_numpy(match_same_class(LABELS[MIXED.numpy()]))


def _method_1() -> PairRows:
    a, partner = torch.arange(100, 111), torch.from_numpy(match_same_class(LABELS))
    return PairRows(a, a[partner], partner)


def _shares(batch: PairRows, count: int) -> list[PairRows]:
    shares = [take_share(batch, Processes(rank, count)) for rank in range(count)]
    return [share for share in shares if isinstance(share, PairRows)]


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_the_shares_of_a_batch_hold_each_row_once(count: int) -> None:
    batch = torch.arange(7)
    shares = [take_share(batch, Processes(rank, count)) for rank in range(count)]
    assert torch.equal(torch.cat(shares), batch)
    assert max(map(batch_length, shares)) - min(map(batch_length, shares)) <= 1


@pytest.mark.parametrize("count", [2, 3])
def test_pairs_of_method_2_stay_whole(count: int) -> None:
    batch = PairRows(torch.arange(7), torch.arange(7) + 50, None)
    shares = _shares(batch, count)
    assert torch.cat([share.a for share in shares]).tolist() == list(range(7))
    assert all(torch.equal(share.b, share.a + 50) for share in shares)


@pytest.mark.parametrize("count", [2, 3, 4])
def test_pairs_of_method_1_are_shared_with_their_partners(count: int) -> None:
    batch = _method_1()
    shares = _shares(batch, count)
    assert len(shares) == count
    pairs = set(zip(batch.a.tolist(), batch.b.tolist(), strict=True))
    assert sorted(torch.cat([share.a for share in shares]).tolist()) == batch.a.tolist()
    for share in shares:
        assert share.partner is not None
        assert torch.equal(share.a[share.partner], share.b), "a share is a permutation of itself"
        assert set(zip(share.a.tolist(), share.b.tolist(), strict=True)) <= pairs
    sizes = [batch_length(share) for share in shares]
    assert max(sizes) - min(sizes) <= 3, "a pair more, and the image that is left alone"


def test_one_process_takes_the_batch_as_it_is() -> None:
    batch, alone, loss = _method_1(), Processes(), torch.tensor(2.0)
    assert take_share(batch, alone) is batch
    assert mean_over_processes(loss, alone) is loss
    assert gather_in_order([loss], alone) == [loss]
    assert as_the_first({"rank": 1.0}, alone) == {"rank": 1.0}


def test_processes_are_those_that_torchrun_started(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    processes = find_processes(1)
    assert processes == find_processes(4) == Processes(rank=5, count=8, hosts=2)
    assert (processes.first, processes.per_host) == (False, 4)
    with pytest.raises(ConfigError, match="devices is 2 where torchrun started 4 processes"):
        find_processes(2)


def test_without_torchrun_lightning_numbers_the_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert find_processes(2) == Processes(rank=1, count=2)
    assert find_processes(1) == Processes(), "a rank is that of several processes"
    with pytest.raises(ConfigError, match=r"devices is 0. Expected: 1 or more"):
        find_processes(0)


def test_devices_that_are_not_there_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(sys, "argv", [__file__])
    require_devices(Processes(count=4, hosts=2), "cuda")
    with pytest.raises(ConfigError, match="4 devices are asked for and PyTorch finds 2 of CUDA"):
        require_devices(Processes(count=4), "cuda")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", ["-c"])
    require_devices(Processes(), "cpu")
    with pytest.raises(ConfigError, match="2 devices are asked for from no script"):
        require_devices(Processes(count=2), "cpu")


def test_batches_that_do_not_go_round_are_refused() -> None:
    require_shares(4, 2, Processes(count=2))
    require_shares(1, 0, Processes())
    require_shares(4, 0, Processes(count=2))
    with pytest.raises(ConfigError, match=r"batches of 3 samples .* Raise train.batch_size"):
        require_shares(3, 2, Processes(count=2))
    with pytest.raises(ConfigError, match="1 validation samples for 2 devices"):
        require_shares(4, 1, Processes(count=2))


def _loss_and_gradients(network: nn.Module, loss: Tensor) -> tuple[Tensor, ...]:
    loss.backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    return loss.detach(), *(g for g in gradients if g is not None)


def _in_two_processes(work: Callable[..., None], folder: Path, *arguments: object) -> None:
    """Runs ``work(rank, ...)`` in two forked processes over gloo."""

    def start(rank: int) -> None:
        url = f"file://{folder}/rendezvous"
        distributed.init_process_group("gloo", init_method=url, rank=rank, world_size=2)
        work(rank, *arguments)
        distributed.destroy_process_group()

    context = multiprocessing.get_context("fork")  # spawned ones would import torch again
    processes = [context.Process(target=start, args=(rank,)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(timeout=60)
    assert [process.exitcode for process in processes] == [0, 0]


def _shared(rank: int, out: str) -> None:
    processes, norm = Processes(rank, 2), nn.BatchNorm2d(1)
    norm.running_mean.fill_(rank + 1)  # type: ignore[union-attr]
    share_statistics(norm, processes)
    (gathered,) = gather_in_order([torch.arange(3) + 3 * rank], processes)
    if rank:
        torch.save(
            (gathered, as_the_first({"rank": float(rank)}, processes), norm.state_dict()), out
        )
    else:
        as_the_first({"rank": float(rank)}, processes)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
def test_two_processes_share_outputs_decisions_and_statistics(tmp_path: Path) -> None:
    _in_two_processes(_shared, tmp_path, str(tmp_path / "out"))
    gathered, first, statistics = torch.load(tmp_path / "out")
    assert gathered.tolist() == [0, 1, 2, 3, 4, 5], "outputs stand in the order of the ranks"
    assert first == {"rank": 0.0}
    assert statistics["running_mean"].item() == 1


def _module(preset: str) -> TrainingModule:
    torch.manual_seed(0)
    config = load_preset(preset)
    network = build_network(config.model)
    images = torch.randint(0, 256, (11, 3, 32, 32), dtype=torch.uint8)
    masks = torch.randint(0, 2, (11, 1, 32, 32), dtype=torch.uint8)
    source = SampleSource.from_plan(ImageCache(images, masks), originals(11))
    rows = np.arange(11)
    samples = Samples(source, LABELS, rows, rows, {}, np.ones(11, np.bool_))
    module = MODULES[config.model.network](network.double(), samples, config)
    module.network.eval()  # on CPUs each process normalises by its own share
    return module


def _share_of_a_step(rank: int, preset: str, batch: Batch, out: str) -> None:
    processes, module = Processes(rank, 2), _module(preset)
    share = draw_share(batch, processes, module.config, epoch=0)
    loss = module.step_loss(share) * share.weight
    values = _loss_and_gradients(module.network, loss)
    means = [mean_over_processes(value, processes) for value in values]
    if rank:
        torch.save(means, out)


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(
    ("preset", "batch"),
    [
        ("dc-mobilenetv1", PairRows(MIXED, MIXED[PARTNER], PARTNER)),
        ("dc-mobilenetv1", PairRows(MIXED, MIXED.flip(0), None)),
        ("u-mobilenetv1", MIXED),
    ],
)
def test_two_processes_have_the_loss_and_gradients_of_one_in_a_step(
    preset: str, batch: Batch, tmp_path: Path
) -> None:
    _in_two_processes(_share_of_a_step, tmp_path, preset, batch, str(tmp_path / "out"))
    means = torch.load(tmp_path / "out")
    whole = _module(preset)
    expected = _loss_and_gradients(whole.network, whole.step_loss(whole.share(batch)))
    torch.testing.assert_close(tuple(means), expected, rtol=1e-5, atol=1e-7)


SCRIPT = """
import importlib, sys
from pathlib import Path
from dermfuse.config import load_preset
module = importlib.import_module("dermfuse.training.train")
module.load_imagenet = lambda *_, **__: None
config = load_preset(sys.argv[4]).override(sys.argv[5:])
module.train(config, data=Path(sys.argv[1]), run=Path(sys.argv[2]), devices=int(sys.argv[3]))
"""


@pytest.mark.parametrize("preset", preset_names())
def test_every_weight_takes_part_in_every_step(preset: str) -> None:
    with torch.device("meta"):  # shapes without numbers; processes wait for every gradient
        network, images = build_network(load_preset(preset).model), torch.zeros(4, 3, 64, 64)
        is_pair = isinstance(network, DiscriminantNetwork)
        outputs = network(images, images) if is_pair else network(images)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        sum(output.sum() for output in outputs).backward()
    trained = [(n, value) for n, value in network.named_parameters() if value.requires_grad]
    assert [name for name, value in trained if value.grad is None] == []


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "launcher", "devices", "batch_size"),
    [
        ("dc-mobilenetv1", (), "2", 10),  # all statistics frozen: equal over several steps
        ("dc-mobilenetv1-ema", ("-m", "torch.distributed.run", "--nproc-per-node=2"), "1", 10),
    ],
)
def test_two_devices_train_as_one(
    preset: str,
    launcher: tuple[str, ...],
    devices: str,
    batch_size: int,
    drawn: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    module = importlib.import_module("dermfuse.training.train")  # the function hides it
    monkeypatch.setattr(module, "load_imagenet", lambda *_, **__: None)
    settings = [*TINY[3:], "train.batch_norm=frozen", "train.device=cpu"]
    settings += [f"train.batch_size={batch_size}"]
    one, two, script = tmp_path / "one", tmp_path / "two", tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, *launcher, str(script), str(drawn), str(two), devices, preset]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run([*command, *settings], check=True, env=environment, timeout=600)
    train(load_preset(preset).override(settings), data=drawn, run=one)
    (first,), (second,) = map(rows, (one, two))
    assert second["train_loss"] == pytest.approx(first["train_loss"], rel=1e-5)
    assert second["validation_loss"] == pytest.approx(first["validation_loss"], rel=1e-3)
    assert read_json(RunFolder(two).record)["devices"] == 2
