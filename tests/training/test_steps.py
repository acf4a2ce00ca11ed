"""What a training step costs, counted: operator calls, looks at a number, copies to the device."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dermfuse.config import Config, load_preset
from dermfuse.data import loaders as pixels
from dermfuse.data.augment import classification_plan
from dermfuse.data.labels import Label
from dermfuse.data.loaders import ImageCache, SampleSource
from dermfuse.models.build import build_network
from dermfuse.training import train
from dermfuse.training.modules import TrainingModule
from dermfuse.training.samples import Samples
from dermfuse.training.train import MODULES

LOOKS = {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal"}
"""Operators that hand a number to Python: on a GPU each waits for all that was launched."""
MORE_LOOKS = LOOKS | {"aten::nonzero", "aten::masked_select", "aten::unique_consecutive"}
"""And those whose result has a length that depends on numbers."""

OLD_CALLS = {("paper", False): 598, ("paper", True): 1065} | {
    ("label_blind", False): 2274,
    ("label_blind", True): 2741,
}
"""Operator calls of the augmentation before it was done in one pass: by policy, without and with
masks, for 32 images at 224 px, nested calls counted."""


def _samples(policy: str, *, size: int = 32, masks: bool = True) -> Samples:
    """Returns 40 images, half of them malignant, with the plan that a policy draws for them."""
    config = Config().override([f"augment.policy={policy}"]).augment
    labels = [Label(index % 2) for index in range(40)]
    plan = classification_plan([f"i{index}" for index in range(40)], labels, config, seed=0)
    numbers = torch.Generator().manual_seed(0)
    images, truth = (
        torch.randint(0, most, (40, planes, size, size), dtype=torch.uint8, generator=numbers)
        for most, planes in ((256, 3), (2, 1))
    )
    source = SampleSource.from_plan(
        ImageCache(images, truth if masks else None, torch.full((40,), 1.3)), plan
    )
    rows = np.arange(len(plan))
    of_rows = np.array([int(label) for label in labels])[plan.source]
    return Samples(source, of_rows, rows, rows[:10], {}, plan.original)


def _calls(work: Any) -> dict[str, int]:
    """Returns how often each operator is called, nested calls counted."""
    with profile(activities=[ProfilerActivity.CPU]) as profiled:
        work()
    return {e.key: e.count for e in profiled.key_averages() if e.key.startswith("aten::")}


@pytest.mark.parametrize("on_a_gpu", [False, True])
@pytest.mark.parametrize("policy", ["paper", "label_blind"])
@pytest.mark.parametrize("masks", [False, True])
def test_augmentation_takes_at_most_60_percent_of_its_former_calls(
    policy: str, masks: bool, on_a_gpu: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if on_a_gpu:
        monkeypatch.setattr(pixels, "_may_look", lambda _: False)
    source = _samples(policy, size=224).source.to(torch.device("cpu"))
    rows = torch.randperm(len(source.plan), generator=torch.Generator().manual_seed(1))[:32]

    def work() -> None:
        source.images_and_masks(rows, distillation=0) if masks else source.images(rows)

    calls = _calls(work)
    assert 20 < sum(calls.values()) <= 0.6 * OLD_CALLS[policy, masks]
    assert not LOOKS & calls.keys()
    if on_a_gpu:
        assert not MORE_LOOKS & calls.keys()


def test_a_gpu_and_a_cpu_augment_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _samples("label_blind").source
    quiet = source.redrawn(replace(source.plan, noise=np.zeros_like(source.plan.noise)))
    rows = torch.arange(64)
    here = quiet.images(rows)
    monkeypatch.setattr(pixels, "_may_look", lambda _: False)
    assert torch.allclose(quiet.images(rows), here, atol=1e-6)


class NothingFromElsewhere(TorchDispatchMode):
    """Refuses what waits for a device, or copies to it: operators with tensors of another one."""

    def __init__(self) -> None:
        super().__init__()
        self.operators = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        assert name not in MORE_LOOKS, f"{name} waits"
        result = func(*args, **(kwargs or {}))
        seen = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        assert {tensor.device.type for tensor in seen} <= {"meta"}, f"{name} copies"
        self.operators += 1
        return result


@pytest.fixture
def uncast(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes autocast away, which the meta device has not: it has shapes, and no numbers."""
    monkeypatch.setattr(SampleSource, "_in_float32", lambda _: nullcontext())


STEPS = [
    ("mobilenetv1", "paper", ()),
    ("mobilenetv1", "label_blind", ("augment.cutmix=0.5", "loss.label_smoothing=0.1")),
    ("dc-mobilenetv1", "paper", ()),
    ("dc-mobilenetv1", "label_blind", ("augment.mixup=0.5", "model.dropout=0.3")),
    ("dc-mobilenetv1-focal", "paper", ()),
    ("u-mobilenetv1", "label_blind", ()),
    ("u-mobilenetv1-focal", "paper", ()),
    ("joint-mobilenetv1", "paper", ()),
]


def _module(preset: str, policy: str, more: tuple[str, ...]) -> TrainingModule:
    config = load_preset(preset).override(
        ["model.init=random", "train.batch_size=8", f"augment.policy={policy}", *more]
    )
    return MODULES[config.model.network](build_network(config.model), _samples(policy), config)


@pytest.mark.usefixtures("uncast")
@pytest.mark.parametrize(("preset", "policy", "more"), STEPS)
def test_a_step_neither_copies_to_the_device_nor_waits_for_it(
    preset: str, policy: str, more: tuple[str, ...]
) -> None:
    module = _module(preset, policy, more).to("meta")
    module.place_samples()
    batches = module.schedule(0)[:2]  # of pairs, one for each method
    shares = [module.share(batch) for batch in batches]
    for share in shares:
        with NothingFromElsewhere() as counted:
            loss = module.step_loss(share)
            loss.backward()
            module.configure_gradient_clipping(torch.optim.SGD(module.parameters()), 1.0)
        assert counted.operators > 100
        assert loss.shape == ()


def test_the_watch_would_see_a_copy_and_a_look() -> None:
    there = torch.ones(2, device="meta")
    with NothingFromElsewhere(), pytest.raises(AssertionError, match="copies"):
        torch.ones(2).to("meta")
    with NothingFromElsewhere(), pytest.raises(AssertionError, match="waits"):
        torch.masked_select(there, there > 0)


def _looks_of_an_epoch(
    data: Path, run: Path, batch_size: int, monkeypatch: pytest.MonkeyPatch
) -> tuple[int, int, list[int]]:
    """Returns the steps of an epoch, the looks in all of them, and the reads at its end."""
    steps: list[dict[str, int]] = []
    ends: list[int] = []
    taken, read = TrainingModule.on_train_batch_start, TrainingModule._read_losses
    profiler = profile(activities=[ProfilerActivity.CPU])

    def begin(module: TrainingModule, batch: Any, index: int) -> None:
        if not steps:
            profiler.__enter__()
        steps.append({})
        taken(module, batch, index)

    def end(module: TrainingModule) -> None:
        profiler.__exit__(None, None, None)
        with profile(activities=[ProfilerActivity.CPU]) as profiled:
            read(module)
        ends.append(sum(event.name == "aten::cat" for event in profiled.events()))

    monkeypatch.setattr(TrainingModule, "on_train_batch_start", begin)
    monkeypatch.setattr(TrainingModule, "_read_losses", end)
    config = load_preset("dc-mobilenetv1").override(
        [
            *("model.init=random", "data.input_size=32", f"train.batch_size={batch_size}"),
            *("train.epochs=1", "augment.policy=label_blind", "augment.benign_copies=1"),
            *("augment.malignant_copies=2", "train.precision=float32", "train.device=cpu"),
            *("train.gradient_clip=1.0", "train.ema_decay=0.9", "train.weight_decay=0.1"),
        ]
    )
    train(config, data=data, run=run)
    return len(steps), sum(map(_is_look, profiler.events())), ends


def _is_look(event: Any) -> bool:
    """Returns whether an event is a look; Adam's kernel for CPUs alone has its own."""
    parent = event
    while parent is not None and not parent.name.startswith("aten::_fused_adam"):
        parent = parent.cpu_parent
    return event.name in LOOKS and parent is None


def test_no_step_looks_at_a_number_and_an_epoch_does_once(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps, looks, ends = _looks_of_an_epoch(drawn, tmp_path / "run", 12, monkeypatch)
    assert steps == 3
    assert looks == 0, "of the loop, the optimiser, clipping and the average too"
    assert ends == [1], "all losses as one, once an epoch"


@pytest.mark.gpu
@pytest.mark.parametrize(("preset", "policy", "more"), STEPS)
def test_a_step_on_a_gpu_does_not_synchronise(
    preset: str, policy: str, more: tuple[str, ...]
) -> None:
    module = _module(preset, policy, more).to("cuda")
    module.place_samples()
    shares = [module.share(batch) for batch in module.schedule(0)[:2]]
    module.step_loss(shares[0]).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for share in shares:
            module.step_loss(share).backward()
            module.configure_gradient_clipping(torch.optim.SGD(module.parameters()), 1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
