"""What a step of each kind computes and measures, and what it costs: looks, copies, operators."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dermfuse.config import Config, LossConfig, load_preset
from dermfuse.data import loaders
from dermfuse.data.augment import classification_plan
from dermfuse.data.isic2016 import Label
from dermfuse.data.loaders import ImageCache, SampleSource
from dermfuse.models import build_network
from dermfuse.models.backbones import build_backbone
from dermfuse.models.classifier import Classifier, JointLogits, JointNetwork
from dermfuse.predictions.metrics import auc
from dermfuse.training import train
from dermfuse.training.losses import cross_entropy
from dermfuse.training.modules import JointModule, TrainingModule, class_targets
from dermfuse.training.samples import Samples, load_samples, select_lesions
from dermfuse.training.shares import Share
from dermfuse.training.train import MODULES

from .tiny import tiny

LOOKS = {"aten::_local_scalar_dense", "aten::item", "aten::is_nonzero", "aten::equal"}
"""Operators that hand a number to Python: on a GPU each waits for all that was launched."""
MORE_LOOKS = LOOKS | {"aten::nonzero", "aten::masked_select", "aten::unique_consecutive"}
"""And those whose result has a length that depends on numbers."""


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


def test_a_gpu_and_a_cpu_augment_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _samples("label_blind").source
    quiet = source.redrawn(replace(source.plan, noise=np.zeros_like(source.plan.noise)))
    rows = torch.arange(64)
    here = quiet.images(rows)
    monkeypatch.setattr(loaders, "_may_look", lambda _: False)
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


def _module(preset: str, policy: str, more: tuple[str, ...] = ()) -> TrainingModule:
    settings = ("model.init=random", "train.batch_size=8", f"augment.policy={policy}", *more)
    config = load_preset(preset).override(settings)
    return MODULES[config.model.network](build_network(config.model), _samples(policy), config)


@pytest.mark.usefixtures("uncast")
@pytest.mark.parametrize(("preset", "policy", "more"), STEPS)
def test_a_step_neither_copies_to_the_device_nor_waits_for_it(
    preset: str, policy: str, more: tuple[str, ...]
) -> None:
    module = _module(preset, policy, more).to("meta")
    module.on_fit_start()
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
    more = ("train.gradient_clip=1.0", "train.ema_decay=0.9", "train.weight_decay=0.1")
    size = f"train.batch_size={batch_size}"
    config = tiny("dc-mobilenetv1", size, "augment.policy=label_blind", "train.device=cpu", *more)
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
    module.on_fit_start()
    shares = [module.share(batch) for batch in module.schedule(0)[:2]]
    module.step_loss(shares[0]).backward()
    torch.cuda.set_sync_debug_mode("error")
    try:
        for share in shares:
            module.step_loss(share).backward()
            module.configure_gradient_clipping(torch.optim.SGD(module.parameters()), 1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")


def _without_samples(preset: str, *more: str) -> TrainingModule:
    config = tiny(preset, *more)
    return MODULES[config.model.network](build_network(config.model), None, config)  # type: ignore[arg-type]


def test_a_hard_target_has_the_loss_of_its_label_and_smoothing_and_teachers_move_it() -> None:
    logits = torch.randn(5, 2, generator=torch.Generator().manual_seed(0))
    hard = torch.tensor([0, 1, 1, 0, 1])
    assert cross_entropy(logits, hard).item() == pytest.approx(F.cross_entropy(logits, hard).item())
    labels, smooth = np.array([0, 1]), LossConfig(label_smoothing=0.1, distillation=0.5)
    assert class_targets(labels, None, LossConfig()).tolist() == [0, 1]
    assert class_targets(labels, None, smooth).tolist() == pytest.approx([0.05, 0.95])
    taught = class_targets(labels, np.array([0.25, 0.45], np.float32), smooth)
    assert taught.tolist() == pytest.approx([0.15, 0.7])


def test_new_layers_may_learn_faster_and_weight_decay_spares_biases_and_batch_norm() -> None:
    plain = _without_samples("mobilenetv1", "train.new_layer_factor=10").configure_optimizers()
    assert type(plain) is torch.optim.Adam
    rates = [group["lr"] / plain.defaults["lr"] for group in plain.param_groups]
    assert rates == pytest.approx([1, 10])
    assert [len(group["params"]) for group in plain.param_groups] == [81, 2]
    decaying = _without_samples("mobilenetv1", "train.weight_decay=0.1").configure_optimizers()
    assert isinstance(decaying, torch.optim.AdamW)
    for group in decaying.param_groups:
        dimensions = {parameter.ndim > 1 for parameter in group["params"]}
        assert dimensions == {group["weight_decay"] > 0}


@pytest.mark.parametrize("preset", ["mobilenetv1", "dc-mobilenetv1"])
def test_a_compiled_pass_renames_no_weight(preset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[str] = []

    def mark(function: Callable[..., Any]) -> Callable[..., Any]:
        compiled.append(function.__name__)
        return function

    monkeypatch.setattr(torch, "compile", mark)
    plain, other = (
        list(_without_samples(preset, "train.ema_decay=0.9", f"train.compile={on}").state_dict())
        for on in ("false", "true")
    )
    assert plain == other
    assert compiled == ["forward" if preset == "mobilenetv1" else "embed"]


def test_dropout_drops_before_the_head_while_training_alone() -> None:
    network = build_network(tiny("mobilenetv1", "model.dropout=0.5").model)
    assert isinstance(network, Classifier)
    x = torch.rand(2, 3, 32, 32)
    network.eval()
    assert torch.equal(network(x), network.head(network.embed(x)))
    network.train()  # batch statistics: random weights alone answer next to nothing
    assert not torch.equal(network(x), network.head(network.embed(x)))
    assert not any("dropout" in name for name in network.state_dict())


class Undecided(torch.nn.Module):
    """Finds every class and every pixel as likely as not."""

    def forward(self, x: Tensor) -> JointLogits:
        return JointLogits(torch.zeros(len(x), 2), torch.zeros(len(x), 1, 32, 32))


def _joint(data: Path, *more: str, network: torch.nn.Module | None = None) -> JointModule:
    config = tiny("joint-mobilenetv1", *more)
    samples = load_samples(select_lesions(data, config), config)
    return JointModule(network or Undecided(), samples, config)


@pytest.mark.parametrize("weight", [0.0, 3.0])
def test_the_loss_is_the_weighted_class_loss_and_the_mask_loss(drawn: Path, weight: float) -> None:
    module = _joint(drawn, f"loss.joint_class_weight={weight}", "augment.enabled=false")
    rows = torch.arange(4)
    mask_loss = module.mask_loss(torch.zeros(4, 1, 32, 32), module.samples.source.masks(rows))
    loss = module.step_loss(Share(rows))
    assert loss.item() == pytest.approx(weight * 0.693147 + mask_loss.item(), rel=1e-5)


def test_the_measure_is_that_of_each_task(drawn: Path) -> None:
    module = _joint(drawn, "loss.joint_class_weight=2")
    logits = torch.tensor([[0.0, 2.0], [0.0, -1.0], [0.0, 1.0]])
    labels = torch.tensor([1, 0, 0])
    masks = [torch.tensor(values).double() for values in ([0.5] * 3, [0.2, 0.4, 0.9], [1.0] * 3)]
    measured = module.measure([logits, labels, *masks])
    assert measured["jaccard"] == pytest.approx(0.5)
    assert measured["average_precision"] == 1.0
    assert measured["auc"] == auc(labels.numpy(), logits[:, 1].numpy())
    assert measured["rank"] == pytest.approx(0.75)
    losses = F.cross_entropy(logits, labels).item()
    assert measured["validation_loss"] == pytest.approx(2 * losses + 0.5)


def test_with_averaged_weights_the_average_is_validated(drawn: Path) -> None:
    network = JointNetwork(build_backbone("mobilenet_v1")).eval()
    module = _joint(drawn, "train.ema_decay=0.9", network=network)
    kept, rows = module.validated, module.samples.validation_rows[:2]
    assert isinstance(kept, JointNetwork)
    assert kept is not network
    torch.nn.init.zeros_(kept.class_head.weight)
    torch.nn.init.constant_(kept.head.bias, 50.0)  # every pixel is lesion
    with torch.inference_mode():
        kept.class_head.bias.copy_(torch.tensor([0.0, 5.0]))
        module.validation_step(torch.from_numpy(rows), 0)
    class_logits, labels, _, jaccard, _ = module._outputs[0]
    assert class_logits.tolist() == [[0.0, 5.0]] * 2
    assert labels.tolist() == module.samples.labels[rows].tolist()
    share_of_lesion = [module.samples.truth(row).mean() for row in rows.tolist()]
    assert jaccard.tolist() == pytest.approx(share_of_lesion)


def test_each_kind_of_network_must_say_its_loss_and_its_metrics() -> None:
    module = TrainingModule(torch.nn.Linear(1, 1), None, Config())  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        module.step_loss(None)  # type: ignore[arg-type]
    with pytest.raises(NotImplementedError):
        module.measure([])
