"""What a step of each kind computes and measures, and what it costs: looks, copies, operators."""

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from dermfuse.config import LossConfig
from dermfuse.data import loaders
from dermfuse.models import build_network
from dermfuse.models.classifier import JointLogits
from dermfuse.predictions.metrics import auc
from dermfuse.training.modules import TrainingModule, class_targets
from dermfuse.training.samples import load_samples, select_lesions
from dermfuse.training.shares import Share
from dermfuse.training.train import MODULES

from .tiny import tiny

WAITS = {"_local_scalar_dense", "item", "is_nonzero", "equal", "nonzero", "masked_select"}
WAITS = {f"aten::{name}" for name in (*WAITS, "unique_consecutive")}
"""Operators that hand a number, or a length, to Python: a GPU ends all that was launched first."""


def _build(data: Path, preset: str, *more: str) -> TrainingModule:
    config = tiny(preset, *more)
    samples = load_samples(select_lesions(data, config), config)
    return MODULES[config.model.network](build_network(config.model), samples, config)


def test_a_gpu_and_a_cpu_augment_alike(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = _build(drawn, "mobilenetv1", "augment.policy=label_blind").samples.source
    quiet = source.redrawn(replace(source.plan, noise=np.zeros_like(source.plan.noise)))
    here = quiet.images(torch.arange(30))
    monkeypatch.setattr(loaders, "_may_look", lambda _: False)
    torch.testing.assert_close(quiet.images(torch.arange(30)), here)


class NothingFromElsewhere(TorchDispatchMode):
    """Refuses what waits for a device, or copies to it: operators with tensors of another one."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.name().split(".")[0]
        assert name not in WAITS, f"{name} waits"
        result = func(*args, **(kwargs or {}))
        seen = [x for x in tree_leaves((args, kwargs, result)) if isinstance(x, Tensor)]
        assert {tensor.device.type for tensor in seen} <= {"meta"}, f"{name} copies"
        return result


@pytest.mark.parametrize(
    ("preset", "more"),
    [
        (
            "mobilenetv1",
            ["augment.policy=label_blind", "augment.cutmix=0.5", "loss.label_smoothing=0.1"],
        ),
        ("dc-mobilenetv1-focal", []),
        ("dc-mobilenetv1-blind", ["augment.mixup=0.5", "model.dropout=0.3"]),
        ("u-mobilenetv1-blind", ["loss.mask_loss=focal"]),
        ("joint-mobilenetv1", []),
    ],
)
def test_a_step_neither_copies_to_the_device_nor_waits_for_it(
    preset: str, more: list[str], drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The meta device has shapes, no numbers, and no autocast.
    monkeypatch.setattr(loaders.SampleSource, "_in_float32", lambda _: nullcontext())
    module = _build(drawn, preset, *more).to("meta")
    module.on_fit_start()
    for share in [module.share(batch) for batch in module.schedule(0)[:2]]:  # of both methods
        with NothingFromElsewhere():
            loss = module.step_loss(share)
            loss.backward()
            module.configure_gradient_clipping(torch.optim.SGD(module.parameters()), 1.0)
        assert loss.shape == ()
    with NothingFromElsewhere(), pytest.raises(AssertionError, match="copies"):
        torch.ones(2).to("meta")
    with NothingFromElsewhere(), pytest.raises(AssertionError, match="waits"):
        torch.masked_select(loss, loss > 0)


def test_smoothing_and_teachers_move_a_target() -> None:
    labels, smooth = np.array([0, 1]), LossConfig(label_smoothing=0.1, distillation=0.5)
    assert class_targets(labels, None, LossConfig()).tolist() == [0, 1]
    assert class_targets(labels, None, smooth).tolist() == pytest.approx([0.05, 0.95])
    taught = class_targets(labels, np.array([0.25, 0.45], np.float32), smooth)
    assert taught.tolist() == pytest.approx([0.15, 0.7])


def test_new_layers_may_learn_faster_and_weight_decay_spares_biases_and_batch_norm(
    drawn: Path,
) -> None:
    plain = _build(drawn, "mobilenetv1", "train.new_layer_factor=10").configure_optimizers()
    assert type(plain) is torch.optim.Adam
    rates = [group["lr"] / plain.defaults["lr"] for group in plain.param_groups]
    assert rates == pytest.approx([1, 10])
    assert [len(group["params"]) for group in plain.param_groups] == [81, 2]
    decaying = _build(drawn, "mobilenetv1", "train.weight_decay=0.1").configure_optimizers()
    assert isinstance(decaying, torch.optim.AdamW)
    for group in decaying.param_groups:
        dimensions = {parameter.ndim > 1 for parameter in group["params"]}
        assert dimensions == {group["weight_decay"] > 0}


@pytest.mark.parametrize(("preset", "part"), [("unet", "forward"), ("dc-mobilenetv1", "embed")])
def test_a_compiled_pass_renames_no_weight(
    preset: str, part: str, drawn: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(torch, "compile", lambda f: compiled.append(f.__name__) or f)
    plain, other = (
        list(_build(drawn, preset, f"train.compile={on}").state_dict()) for on in ("false", "true")
    )
    assert plain == other
    assert compiled == [part]


def test_dropout_drops_before_the_head_while_training_alone() -> None:
    network = build_network(tiny("mobilenetv1", "model.dropout=0.5").model)
    images = torch.rand(2, 3, 32, 32)
    for training in (False, True):
        network.train(training)
        assert torch.equal(network(images), network.head(network.embed(images))) != training
    assert not any("dropout" in name for name in network.state_dict())


def _undecided(x: Tensor) -> JointLogits:
    return JointLogits(torch.zeros(len(x), 2), torch.zeros(len(x), 1, 32, 32))


def test_a_joint_step_and_its_measures_weigh_both_tasks(drawn: Path) -> None:
    module = _build(
        drawn, "joint-mobilenetv1", "loss.joint_class_weight=2", "augment.enabled=false"
    )
    module.trained_pass, rows = _undecided, torch.arange(4)
    mask_loss = module.mask_loss(torch.zeros(4, 1, 32, 32), module.samples.source.masks(rows))
    loss = module.step_loss(Share(rows))
    assert loss.item() == pytest.approx(2 * np.log(2) + mask_loss.item(), rel=1e-5)
    logits, labels = torch.tensor([[0.0, 2.0], [0.0, -1.0], [0.0, 1.0]]), torch.tensor([1, 0, 0])
    masks = [torch.tensor(values).double() for values in ([0.5] * 3, [0.2, 0.4, 0.9], [1.0] * 3)]
    measured = module.measure([logits, labels, *masks])
    assert (measured["average_precision"], measured["accuracy"]) == (1, pytest.approx(2 / 3))
    assert measured["auc"] == auc(labels.numpy(), logits[:, 1].numpy())
    assert (measured["jaccard"], measured["rank"]) == (pytest.approx(0.5), pytest.approx(0.75))
    class_loss = F.cross_entropy(logits, labels).item()
    assert measured["validation_loss"] == pytest.approx(2 * class_loss + 0.5)


@pytest.mark.parametrize("kind", ["", "dc-", "u-", "joint-"])
def test_with_averaged_weights_the_average_is_validated(kind: str, drawn: Path) -> None:
    module = _build(drawn, f"{kind}mobilenetv1", "train.ema_decay=0.9").eval()
    rows = torch.from_numpy(module.samples.validation_rows[:2])
    for part in (module.validated, module.network):  # what becomes of the second changes nothing
        for parameter in part.parameters():
            torch.nn.init.zeros_(parameter)
        with torch.inference_mode():
            module.validation_step(rows, 0)
    first, second = module._outputs
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
