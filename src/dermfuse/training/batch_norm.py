"""BatchNorm over the whole batch where several processes hold shares of it.

PyTorch's ``SyncBatchNorm`` does this on GPUs alone. On CPUs ``SharedBatchNorm2d`` does: there it
serves to show that several processes train as one.
"""

from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, distributed, nn
from torch.autograd import Function


class SharedBatchNorm2d(nn.BatchNorm2d):
    """BatchNorm whose batch statistics are those of all processes together; any device.

    Evaluation uses the running statistics, as ever.

    Shape:
        (B, C, H, W) -> (B, C, H, W); B may differ between the processes
    """

    def forward(self, x: Tensor) -> Tensor:
        """Returns the normalised batch."""
        if not self.training:
            return super().forward(x)
        values = x.to(torch.promote_types(x.dtype, torch.float32))
        count = values.new_tensor(values.numel() / values.shape[1])
        total = _sum(torch.cat([values.sum(dim=(0, 2, 3)), count.view(1)]))  # (C + 1,)
        mean, count = total[:-1] / total[-1], total[-1].detach()
        centred = values - mean.view(1, -1, 1, 1)
        variance = _sum(centred.square().sum(dim=(0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale.view(1, -1, 1, 1) + self.bias.view(1, -1, 1, 1)).to(x.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        momentum = self.momentum if self.momentum is not None else 0.1
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)
        if self.num_batches_tracked is not None:
            self.num_batches_tracked += 1


def share_batch_norms(network: nn.Module, accelerator: str) -> nn.Module:
    """Returns ``network`` with every BatchNorm over the batch of all processes.

    Weights, statistics and their names stay; the network itself is changed.

    Args:
        network: With BatchNorms over images.
        accelerator: ``cuda`` takes PyTorch's own layer.
    """
    if accelerator == "cuda":
        convert = cast("Callable[[nn.Module], nn.Module]", nn.SyncBatchNorm.convert_sync_batchnorm)
        return convert(network)
    for module in network.modules():
        for name, child in module.named_children():
            if type(child) is nn.BatchNorm2d:
                shared = SharedBatchNorm2d(child.num_features, child.eps, child.momentum)
                shared.to(child.weight).load_state_dict(child.state_dict())
                setattr(module, name, shared)
    return network


class _Sum(Function):
    """The sum over the processes, and of the gradients on the way back."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:  # noqa: ANN401 — PyTorch's form
        return _summed(values)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:  # noqa: ANN401
        return _summed(gradient)


def _sum(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def _summed(values: Tensor) -> Tensor:
    total = values.clone()
    distributed.all_reduce(total)
    return total
