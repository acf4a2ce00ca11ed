"""The networks: backbones, the classifier, the pair network, the U-Net, the joint network."""

from torch import nn

__all__ = ["count_parameters"]


def count_parameters(module: nn.Module, *, trainable: bool) -> int:
    """Returns how many numbers a network is made of, as the paper counts them.

    Args:
        module: The network.
        trainable: Only what training changes; otherwise BatchNorm's running mean and variance
            count too (its batch counter never does), as in Keras's total.

    Example:
        >>> layers = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
        >>> count_parameters(layers, trainable=True), count_parameters(layers, trainable=False)
        (15, 21)
    """
    parameters = sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable)
    if trainable:
        return parameters
    statistics = ("running_mean", "running_var")
    return parameters + sum(
        buffer.numel() for key, buffer in module.named_buffers() if key.endswith(statistics)
    )
