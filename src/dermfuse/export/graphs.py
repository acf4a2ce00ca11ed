"""The networks as they are served: bytes in, probabilities out, one pass of the backbone.

What a server would otherwise have to know (scaling, normalisation, padding rules, softmax) lies
inside the graph. The modules here are made of copies, so an export leaves the network alone.
"""

import copy
from collections.abc import Mapping
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.errors import ExportError
from dermfuse.models.backbones.base import Backbone, Normalise
from dermfuse.models.classifier import Classifier, log_odds_row
from dermfuse.models.joint import JointNetwork
from dermfuse.models.unet import UNet
from dermfuse.models.unet_original import OriginalUNet
from dermfuse.scores import Label

CLASS_OUTPUTS: Mapping[str, str] = MappingProxyType(
    {
        "logits": "benign, malignant, float32 (N, 2)",
        "malignant": "softmax probability of malignant, not calibrated, float32 (N,)",
        "activation_map": "class activation map in log-odds of malignancy, float32 (N, h, w)",
        "embedding": "what the class head sees, float32 (N, E)",
    }
)
"""Outputs of a class network, in order."""
MASK_OUTPUTS: Mapping[str, str] = MappingProxyType(
    {"lesion": "probability of lesion at each pixel, float32 (N, S, S)"}
)
"""Outputs of a mask network."""


class Pixels(nn.Module):
    """Scales bytes as a backbone expects them.

    Channels are moved first: ONNX Runtime is quicker to multiply planes by a number each than
    pixels by three numbers.

    Args:
        normalise: What the network was trained with.

    Shape:
        uint8 (N, S, S, 3) -> float32 (N, 3, S, S)
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, normalise: Normalise) -> None:
        super().__init__()
        deviation = normalise.std.double().flatten()
        mean = normalise.mean.double().flatten()
        self.register_buffer("scale", (1 / (255 * deviation)).float().view(3, 1, 1))
        self.register_buffer("shift", (-mean / deviation).float().view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Returns ``(image / 255 - mean) / std``, channels first."""
        return image.permute(0, 3, 1, 2).float() * self.scale + self.shift


class ClassHead(nn.Module):
    """All that is said about a class, from the map that is pooled.

    The activation map is a 1x1 convolution with ``log_odds_row`` of the head.

    Shape:
        (N, E, h, w) -> logits (N, 2), malignant (N,), activation_map (N, h, w), embedding (N, E)
    """

    row: Tensor

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head
        row = log_odds_row(head).detach()
        self.register_buffer("row", row.view(1, -1, 1, 1).clone())

    def forward(self, last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the outputs of ``CLASS_OUTPUTS``."""
        embedding = F.adaptive_avg_pool2d(last, 1).flatten(1)
        logits = self.head(embedding)
        malignant = logits.softmax(1)[:, int(Label.MALIGNANT)]
        return logits, malignant, F.conv2d(last, self.row).squeeze(1), embedding


class ClassGraph(nn.Module):
    """A class network as it is served.

    Shape:
        uint8 (N, S, S, 3) -> the outputs of ``CLASS_OUTPUTS``
    """

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.pixels = Pixels(network.normalise)
        self.backbone = network.backbone
        self.outputs = ClassHead(network.head)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs."""
        outputs: tuple[Tensor, ...] = self.outputs(self.backbone(self.pixels(image)))
        return outputs


class MaskGraph(nn.Module):
    """A U-Net as it is served.

    Shape:
        uint8 (N, S, S, 3) -> lesion (N, S, S)
    """

    def __init__(self, network: UNet | OriginalUNet) -> None:
        super().__init__()
        self.pixels = Pixels(network.normalise)
        self.network = network
        self.network.normalise = nn.Identity()  # type: ignore[assignment]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs."""
        return (self.network(self.pixels(image)).sigmoid().squeeze(1),)


class JointGraph(nn.Module):
    """A joint network as it is served.

    Shape:
        uint8 (N, S, S, 3) -> the outputs of ``CLASS_OUTPUTS``, then lesion (N, S, S)
    """

    def __init__(self, network: JointNetwork) -> None:
        super().__init__()
        self.pixels = Pixels(network.normalise)
        self.backbone: Backbone = network.backbone
        self.decoder = network.decoder
        self.mask_head = network.head
        self.outputs = ClassHead(network.class_head)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs."""
        maps = self.backbone.features(self.pixels(image))
        classes = self.outputs(self.backbone.embedding_map(maps[-1]))
        lesion = self.mask_head(self.decoder(maps)).sigmoid().squeeze(1)
        return (*classes, lesion)


def build_graph(network: nn.Module) -> tuple[nn.Module, dict[str, str]]:
    """Returns a network as it is served, and its outputs in words, in their order.

    Args:
        network: As ``load_run`` returns it; it is copied.

    Raises:
        ExportError: It is of a kind that is not served (the pair network, uncut).
    """
    network = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    graph: nn.Module
    if isinstance(network, Classifier):
        graph, outputs = ClassGraph(network), dict(CLASS_OUTPUTS)
    elif isinstance(network, UNet | OriginalUNet):
        graph, outputs = MaskGraph(network), dict(MASK_OUTPUTS)
    elif isinstance(network, JointNetwork):
        graph, outputs = JointGraph(network), {**CLASS_OUTPUTS, **MASK_OUTPUTS}
    else:
        raise ExportError(
            f"a {type(network).__name__} cannot be exported",
            expected="a classifier, a U-Net or a joint network",
            action="Load the run with dermfuse.training.prediction.load_run",
        )
    return graph.eval(), outputs
