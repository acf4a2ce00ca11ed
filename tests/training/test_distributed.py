import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, distributed, nn

from dermfuse.config import load_preset, preset_names
from dermfuse.data.augment import match_same_class, originals
from dermfuse.data.loaders import ImageCache, PairRows, SampleSource
from dermfuse.errors import ConfigError
from dermfuse.models import build_network
from dermfuse.models.classifier import DiscriminantNetwork
from dermfuse.training import distributed as module
from dermfuse.training.distributed import Batch, Processes
from dermfuse.training.modules import TrainingModule
from dermfuse.training.samples import Samples
from dermfuse.training.shares import draw_share
from dermfuse.training.train import MODULES

from .tiny import TINY, Fit, rows

LABELS = np.array([0, 1, 0, 0, 1, 1, 0, 0, 1, 0, 0])
MIXED = torch.tensor([3, 8, 0, 5, 10, 1, 7, 2, 9, 4, 6])
PARTNER = torch.from_numpy(match_same_class(LABELS[MIXED.numpy()]))
METHOD_1, METHOD_2 = PairRows(MIXED, MIXED[PARTNER], PARTNER), PairRows(MIXED, MIXED.flip(0), None)


def _pairs(batch: Batch) -> list[tuple[int, int]]:
    a, b = (batch, batch) if isinstance(batch, Tensor) else (batch.a, batch.b)
    return list(zip(a.tolist(), b.tolist(), strict=True))


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("batch", [MIXED, METHOD_1, METHOD_2])
def test_the_shares_of_a_batch_hold_each_row_once_and_pairs_whole(batch: Batch, count: int) -> None:
    shares = [module.take_share(batch, Processes(rank, count)) for rank in range(count)]
    assert sorted(pair for share in shares for pair in _pairs(share)) == sorted(_pairs(batch))
    sizes = [module.batch_length(share) for share in shares]
    assert max(sizes) - min(sizes) <= (3 if batch is METHOD_1 else 1), (
        "matched images stay together"
    )
    for share in shares if batch is METHOD_1 else ():
        assert torch.equal(share.a[share.partner], share.b), "a share is a permutation of itself"


def test_processes_are_those_that_torchrun_or_lightning_started(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert module.find_processes(2) == Processes(rank=1, count=2)
    assert module.find_processes(1) == Processes(), "a rank is that of several processes"
    with pytest.raises(ConfigError, match=r"devices is 0. Expected: 1 or more"):
        module.find_processes(0)
    for key, value in (("RANK", "5"), ("WORLD_SIZE", "8"), ("LOCAL_WORLD_SIZE", "4")):
        monkeypatch.setenv(key, value)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "run")
    processes = module.find_processes(1)
    assert processes == module.find_processes(4) == Processes(rank=5, count=8, hosts=2)
    assert (processes.first, processes.per_host) == (False, 4)
    with pytest.raises(ConfigError, match="devices is 2 where torchrun started 4 processes"):
        module.find_processes(2)


def test_devices_that_are_not_there_and_batches_that_do_not_go_round_are_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(sys, "argv", [__file__])
    two, hosts = Processes(count=2), Processes(count=4, hosts=2)
    module.require_devices(hosts, "cuda")
    with pytest.raises(ConfigError, match="4 devices are asked for and PyTorch finds 2 of CUDA"):
        module.require_devices(Processes(count=4), "cuda")
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", None)
    monkeypatch.setattr(sys, "argv", ["-c"])
    module.require_devices(Processes(), "cpu")
    with pytest.raises(ConfigError, match="2 devices are asked for from no script"):
        module.require_devices(two, "cpu")
    for batch, validated, processes in ((4, 2, two), (4, 0, two), (1, 0, Processes())):
        module.require_shares(batch, validated, processes)
    with pytest.raises(ConfigError, match=r"batches of 3 samples .* Raise train.batch_size"):
        module.require_shares(3, 2, two)
    with pytest.raises(ConfigError, match="1 validation samples for 2 devices"):
        module.require_shares(4, 1, two)


def _module(preset: str) -> TrainingModule:
    torch.manual_seed(0)
    config = load_preset(preset)
    images = torch.randint(0, 256, (11, 3, 32, 32), dtype=torch.uint8)
    masks = torch.randint(0, 2, (11, 1, 32, 32), dtype=torch.uint8)
    source = SampleSource.from_plan(ImageCache(images, masks), originals(11))
    every = np.arange(11)
    samples = Samples(source, LABELS, every, every, {}, np.ones(11, np.bool_))
    network = build_network(config.model).double()
    made = MODULES[config.model.network](network, samples, config)
    made.network.eval()  # on CPUs each process normalises by its own share
    return made


def _loss_and_gradients(preset: str, batch: Batch, processes: Processes) -> list[Tensor]:
    made = _module(preset)
    share = draw_share(batch, processes, made.config, epoch=0)
    loss = made.step_loss(share) * share.weight
    loss.backward()
    return [loss.detach(), *(p.grad for p in made.network.parameters() if p.grad is not None)]


def _work(rank: int, folder: Path, preset: str, batch: Batch) -> None:
    url = f"file://{folder}/rendezvous"
    distributed.init_process_group("gloo", init_method=url, rank=rank, world_size=2)
    processes, norm = Processes(rank, 2), nn.BatchNorm2d(1)
    norm.running_mean.fill_(rank + 1)  # type: ignore[union-attr]
    module.share_statistics(norm, processes)
    (gathered,) = module.gather_in_order([torch.arange(3) + 3 * rank], processes)
    first = module.as_the_first({"rank": float(rank)}, processes)
    values = _loss_and_gradients(preset, batch, processes)
    means = [module.mean_over_processes(value, processes) for value in values]
    torch.save((gathered, first, norm.running_mean, means), folder / str(rank))
    distributed.destroy_process_group()


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.parametrize(
    ("preset", "batch"),
    [("dc-mobilenetv1", METHOD_1), ("dc-mobilenetv1", METHOD_2), ("u-mobilenetv1", MIXED)],
)
def test_two_processes_share_what_they_found_and_have_the_loss_and_gradients_of_one(
    preset: str, batch: Batch, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("fork")  # spawned ones would import torch again
    forked = [context.Process(target=_work, args=(r, tmp_path, preset, batch)) for r in range(2)]
    for process in forked:
        process.start()
    for process in forked:
        process.join(timeout=60)
    assert [process.exitcode for process in forked] == [0, 0]
    gathered, first, mean, means = torch.load(tmp_path / "1")
    assert gathered.tolist() == [0, 1, 2, 3, 4, 5], "outputs stand in the order of the ranks"
    assert (first, mean.item()) == ({"rank": 0.0}, 1)
    expected = _loss_and_gradients(preset, batch, Processes())
    torch.testing.assert_close(means, expected, rtol=1e-5, atol=1e-7)


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


SCRIPT = """
import sys
from dermfuse.config import load_preset
from dermfuse.training.train import train
data, run, start, devices, preset, *settings = sys.argv[1:]
config = load_preset(preset).override(settings)
train(config, data=data, run=run, start=start, devices=int(devices))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("preset", "devices", "launcher"),
    [
        ("dc-mobilenetv1", "2", []),
        ("dc-mobilenetv1-ema", "1", ["-m", "torch.distributed.run", "--nproc-per-node=2"]),
    ],
)
def test_two_devices_train_as_one(
    preset: str, devices: str, launcher: list[str], fit: Fit, classified: Path
) -> None:
    frozen = ["model.init=imagenet", "train.batch_norm=frozen"]  # else each has its own statistics
    settings = [*frozen, "train.device=cpu", "train.batch_size=10"]
    script = fit.folder / "script.py"
    script.write_text(SCRIPT)
    folders = [fit.data, fit.folder / "two", classified]
    command = [sys.executable, *launcher, script, *folders, devices, preset, *TINY, *settings]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(list(map(str, command)), check=True, env=environment, timeout=600)
    (first,) = rows(fit(preset, *settings, run="one", start=classified).run)
    (second,) = rows(fit.folder / "two")
    assert second["train_loss"] == pytest.approx(first["train_loss"], rel=1e-5)
    assert second["validation_loss"] == pytest.approx(first["validation_loss"], rel=1e-3)
    assert fit.record("two")["devices"] == 2
