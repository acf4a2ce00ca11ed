"""ResNet-18, the paper's baseline (He et al., 2015 and 2016).

Its 11,187,915 parameters are those of the pre-activation network (arXiv:1603.05027) in the Keras
release it was taken from: a BatchNorm without scale on the input, BatchNorm and ReLU before every
convolution, and a projection in the first unit of every stage, the first stage included.

torchvision publishes weights of the original network (arXiv:1512.03385) alone.
``convert_torchvision`` transplants them; see there how far that is exact.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.models.backbones.base import IMAGENET, Backbone, Maps, State, initialise

STEM_CHANNELS = 64
STAGES = (
    # channels, stride
    (64, 1),  # conv2_x
    (128, 2),  # conv3_x
    (256, 2),  # conv4_x
    (512, 2),  # conv5_x
)
"""Table 1 of arXiv:1512.03385, column "18-layer": two units of two 3x3 convolutions each."""
EPS = nn.BatchNorm2d(1).eps


class ShiftBatchNorm2d(nn.BatchNorm2d):
    """A BatchNorm with a shift and no scale.

    Args:
        channels: Channels of the input.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, affine=False)
        self.shift = nn.Parameter(torch.zeros(channels))

    def forward(self, input: Tensor) -> Tensor:
        """Returns the normalised input plus the shift."""
        return super().forward(input) + self.shift.view(-1, 1, 1)


class PreActivationUnit(nn.Module):
    """Two 3x3 convolutions, each after BatchNorm and ReLU, beside a shortcut.

    Args:
        in_channels: Channels of the input.
        out_channels: Channels of the output.
        stride: Stride of the first convolution.
        project: Whether the shortcut is a 1x1 convolution of the activated input (the first
            unit of a stage) or the input as it came.
    """

    def __init__(self, in_channels: int, out_channels: int, *, stride: int, project: bool) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(in_channels)
        self.conv1 = _conv3x3(in_channels, out_channels, stride)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv3x3(out_channels, out_channels)
        self.shortcut = (
            nn.Conv2d(in_channels, out_channels, 1, stride, bias=False) if project else None
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the input after the unit's BatchNorm and ReLU, and the unit's sum as it is."""
        activated = F.relu(self.bn1(x), inplace=True)
        shortcut = x if self.shortcut is None else self.shortcut(activated)
        branch = self.conv2(F.relu(self.bn2(self.conv1(activated)), inplace=True))
        return activated, branch + shortcut


class ResNet18(Backbone):
    """The paper's ResNet-18: pre-activation units and a BatchNorm on the input."""

    name = "resnet18"
    normalisation = IMAGENET
    channels = (64, 64, 128, 256, 512)
    embedding_channels = 512

    def __init__(self) -> None:
        super().__init__()
        self.bn_input = ShiftBatchNorm2d(3)
        self.conv0 = nn.Conv2d(3, STEM_CHANNELS, 7, stride=2, padding=3, bias=False)
        self.bn0 = nn.BatchNorm2d(STEM_CHANNELS)
        self.stages = nn.ModuleList()
        width = STEM_CHANNELS
        for channels, stride in STAGES:
            first = PreActivationUnit(width, channels, stride=stride, project=True)
            second = PreActivationUnit(channels, channels, stride=1, project=False)
            self.stages.append(nn.ModuleList([first, second]))
            width = channels
        self.bn1 = nn.BatchNorm2d(width)
        initialise(self)

    def features(self, x: Tensor) -> Maps:
        """Returns the stem and the four stages, each after the BatchNorm and ReLU that follow it.

        Args:
            x: Normalised images, (B, 3, H, W), H and W multiples of 32.
        """
        stem = F.relu(self.bn0(self.conv0(self.bn_input(x))), inplace=True)
        x = F.max_pool2d(stem, 3, stride=2, padding=1)
        before = []
        for first, second in map(nn.Module.children, self.stages):
            activated, x = first(x)
            before.append(activated)  # the stage before, as this one sees it
            _, x = second(x)
        return stem, *before[1:], F.relu(self.bn1(x), inplace=True)


def convert_torchvision(state: State) -> dict[str, Tensor]:
    """Transplants torchvision's ``resnet18`` into the paper's pre-activation network.

    Every convolution is kept. The BatchNorm between a unit's convolutions is kept; those before
    a sum are folded, their scales into the convolutions, their shifts into the BatchNorm that
    next reads the sum, which otherwise leaves it as it is. The projection that only the
    pre-activation network has (stage 1) becomes the identity.

    The first unit of every stage is then exact. The second is not: its shortcut carries the sum
    of the first before rectification, torchvision's after it, and no weights can change that.
    It still classifies: with torchvision's Dense layer it gives a cat photograph 0.99 to the
    cats (torchvision 0.99) and a cup of coffee 0.85 to espresso (0.85); the cosine between the
    two networks' embeddings is 0.89 to 0.94.

    Args:
        state: torchvision's ``resnet18`` without ``fc``; float16 is widened.
    """
    source = {key: value.float() for key, value in state.items() if value.is_floating_point()}
    own = {
        "bn_input.shift": torch.zeros(3),
        "bn_input.running_mean": torch.zeros(3),
        "bn_input.running_var": torch.full((3,), 1 - EPS),
        "conv0.weight": source["conv1.weight"],
        **_renamed(source, "bn1", "bn0"),
    }
    # mean, var: of the stream; offset: what the stream still lacks of torchvision's
    mean, var = _rectified_moments(source["bn1.bias"], source["bn1.weight"] ** 2)
    offset = torch.zeros(STEM_CHANNELS)
    for stage in range(len(STAGES)):
        for unit in range(2):
            theirs, ours = f"layer{stage + 1}.{unit}", f"stages.{stage}.{unit}"
            own |= _passing_norm(f"{ours}.bn1", mean, var, offset)
            own[f"{ours}.conv1.weight"] = source[f"{theirs}.conv1.weight"]
            own |= _renamed(source, f"{theirs}.bn1", f"{ours}.bn2")
            scale, shift = _affine(source, f"{theirs}.bn2")
            own[f"{ours}.conv2.weight"] = source[f"{theirs}.conv2.weight"] * scale
            if unit > 0:
                offset = offset + shift
            elif stage == 0:
                own[f"{ours}.shortcut.weight"] = torch.eye(STEM_CHANNELS)[:, :, None, None]
                offset = shift
            else:
                scale, projected = _affine(source, f"{theirs}.downsample.1")
                weight = source[f"{theirs}.downsample.0.weight"]
                own[f"{ours}.shortcut.weight"] = weight * scale
                offset = shift + projected
                mean = source[f"{theirs}.downsample.1.bias"]
                var = source[f"{theirs}.downsample.1.weight"] ** 2
            mean = mean + source[f"{theirs}.bn2.bias"]
            var = var + source[f"{theirs}.bn2.weight"] ** 2
    return own | _passing_norm("bn1", mean, var, offset)


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)


def _renamed(source: State, theirs: str, ours: str) -> dict[str, Tensor]:
    parts = ("weight", "bias", "running_mean", "running_var")
    return {f"{ours}.{part}": source[f"{theirs}.{part}"] for part in parts}


def _affine(source: State, norm: str) -> tuple[Tensor, Tensor]:
    """Scale (C, 1, 1, 1) and shift (C,) that a BatchNorm amounts to once trained."""
    scale = source[f"{norm}.weight"] / torch.sqrt(source[f"{norm}.running_var"] + EPS)
    return scale.view(-1, 1, 1, 1), source[f"{norm}.bias"] - source[f"{norm}.running_mean"] * scale


def _passing_norm(name: str, mean: Tensor, var: Tensor, offset: Tensor) -> dict[str, Tensor]:
    """A BatchNorm that adds ``offset`` and otherwise lets its input pass.

    Any mean and variance would do in evaluation. Those estimated for the stream make it pass
    nearly so in training, where the batch's own take their place.
    """
    return {
        f"{name}.weight": torch.sqrt(var + EPS),
        f"{name}.bias": mean,
        f"{name}.running_mean": mean - offset,
        f"{name}.running_var": var,
    }


def _rectified_moments(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of a normal variable after a ReLU."""
    std = torch.sqrt(var).clamp_min(1e-6)
    z = mean / std
    density = torch.exp(-z * z / 2) / math.sqrt(2 * math.pi)
    below = 0.5 * (1 + torch.erf(z / math.sqrt(2)))
    first = mean * below + std * density
    second = (mean**2 + std**2) * below + mean * std * density
    return first, (second - first**2).clamp_min(0)
