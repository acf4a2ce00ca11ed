"""Loads ImageNet weights into a backbone: all of them or none.

They come from a local folder of safetensors files, or are downloaded once. Either way they pass
the same strict check before the first of them is copied.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from dermfuse.errors import WeightsError
from dermfuse.models.backbones import Backbone, build_backbone
from dermfuse.models.backbones.base import Normalise
from dermfuse.models.published import State, download_imagenet, find_published


def load_imagenet(backbone: Backbone, *, folder: Path | None, cache: Path | None = None) -> None:
    """Loads ImageNet weights into a backbone, all of them or none.

    Args:
        backbone: Changed in place.
        folder: Folder with the safetensors files; None downloads the public file once.
        cache: Where downloads are kept; by default ``~/.cache/dermfuse``.

    Raises:
        WeightsError: The file is missing, cannot be had, is damaged or does not fit.
    """
    path = _locate(backbone.name, folder=folder, cache=cache)
    state = find_published(backbone.name).backbone_state(read_weights(path), source=path)
    load_strictly(backbone, state, source=path)


def load_imagenet_classifier(
    name: str, *, folder: Path | None, cache: Path | None = None
) -> "ImageNetClassifier":
    """Returns a network as published, ImageNet classifier included, in evaluation mode.

    Args:
        name: A backbone whose published classifier is one dense layer or part of it.
        folder: As in ``load_imagenet``.
        cache: As in ``load_imagenet``.

    Raises:
        WeightsError: As ``load_imagenet``; or the file holds no such classifier.
    """
    backbone = build_backbone(name)
    load_imagenet(backbone, folder=folder, cache=cache)
    head: nn.Module = nn.Identity()
    key = find_published(name).head
    if key != "":
        path = _locate(name, folder=folder, cache=cache)
        weights = read_weights(path)
        if f"{key}.weight" not in weights or f"{key}.bias" not in weights:
            raise WeightsError(
                f"{path} holds no ImageNet classifier for {name}",
                expected="a dense layer after global average pooling",
            )
        state = {leaf: weights[f"{key}.{leaf}"] for leaf in ("weight", "bias")}
        head = nn.Linear(backbone.embedding_channels, len(state["bias"]))
        load_strictly(head, state, source=path)
    return ImageNetClassifier(backbone, head).eval()


class ImageNetClassifier(nn.Module):
    """A backbone with its published ImageNet classifier.

    Args:
        backbone: With its ImageNet weights.
        head: The published dense layer; the identity where the backbone answers itself.

    Shape:
        RGB in [0, 1] (B, 3, H, W) -> logits (B, classes)
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.normalise = Normalise(backbone.normalisation)
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits; with 1001 classes, class 0 is the background."""
        logits: Tensor = self.head(self.backbone(self.normalise(x)).mean(dim=(2, 3)))
        return logits


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read ({error})",
            expected="a whole safetensors file",
            action="Fetch or write it again",
        ) from error


def load_strictly(module: nn.Module, state: State, *, source: Path) -> None:
    """Copies weights into a network after checking every name, shape and number.

    Half-precision weights are up-cast; BatchNorm's batch counters may be absent.

    Args:
        module: Changed in place, and only if everything fits.
        state: Weights under the network's own names.
        source: Their file, for the error.

    Raises:
        WeightsError: Names are missing or unexpected, a shape differs, a number is not finite.
    """
    faults = list(_faults(module.state_dict(), state))
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsError(
            f"{source} does not fit the network: {'; '.join(faults[:3])}{more}",
            expected="exactly the network's weights, all finite",
            action="Check that the file belongs to this network, or fetch it again",
        )
    module.load_state_dict(dict(state), strict=False)


def _faults(wanted: State, given: State) -> Iterator[str]:
    for key in sorted(set(wanted) | set(given)):
        if key not in wanted:
            yield f"{key} is unexpected"
        elif key not in given:
            if not key.endswith("num_batches_tracked"):
                yield f"{key} is missing"
        elif wanted[key].shape != given[key].shape:
            yield f"{key} is {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
        elif not bool(torch.isfinite(given[key]).all()):
            yield f"{key} holds numbers that are not finite"


def _locate(name: str, *, folder: Path | None, cache: Path | None) -> Path:
    if folder is None:
        return download_imagenet(name, cache=cache)
    path = folder / find_published(name).file
    if not path.is_file():
        raise WeightsError(
            f"the ImageNet weights of {name} are missing: there is no {path}",
            expected=f"the file {path.name} in the folder given by --imagenet",
            action="Leave --imagenet out to download them, or set model.init=random",
        )
    return path
