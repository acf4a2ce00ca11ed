"""The analysis that anyone would write first: PIL, eager PyTorch, float32."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from dermfuse.data.isic2016 import Label
from dermfuse.imaging.geometry import reduce_image
from dermfuse.imaging.measures import measure_lesion
from dermfuse.imaging.quality import appearance, assess_quality
from dermfuse.imaging.symmetries import SYMMETRIES
from dermfuse.models.backbones import build_backbone
from dermfuse.models.classifier import Classifier, log_odds_row
from dermfuse.models.unet import OriginalUNet, UNet
from dermfuse.release.cards import NetworkCard, read_card
from dermfuse.release.folder import Member, read_release


@dataclass(frozen=True, slots=True)
class EagerFindings:
    """What the plain side says about one image.

    Args:
        image: RGB, (H, W, 3).
        malignant: Mean of the networks' probabilities.
        mask: Where the lesion is, (H, W).
        activation: The class activation map, (h, w).
    """

    image: NDArray[np.uint8]
    malignant: float
    mask: NDArray[np.bool_]
    activation: NDArray[np.float32]


class EagerEnsemble:
    """The networks of a release as PyTorch modules, with random weights.

    They are built by their cards, for speed does not depend on weights. A joint network is a
    classifier where it scores and a U-Net where it outlines.

    Args:
        folder: The release.
        looks: At how many orientations of an image each network looks, in one batch.
        threads: PyTorch's.

    Raises:
        ReleaseError: The release cannot be read.
        ConfigError: A card names a backbone that dermfuse has not.
    """

    def __init__(self, folder: Path, *, looks: int = 1, threads: int = 1) -> None:
        release = read_release(folder)
        self._looks = SYMMETRIES[:looks]
        self._threads = threads
        self._threshold = release.masks.threshold
        self._classes = [
            (Classifier(build_backbone(card.backbone)).eval(), card.input.size, weight)
            for card, weight in _cards(folder, release.classes.members)
        ]
        self._masks = [
            (_build_unet(card).eval(), card.input.size, weight)
            for card, weight in _cards(folder, release.masks.members)
        ]

    @torch.inference_mode()
    def find(self, data: bytes) -> EagerFindings:
        """Returns what the networks say about an image file's bytes."""
        torch.set_num_threads(self._threads)
        picture = Image.open(io.BytesIO(data)).convert("RGB")
        malignant, activation = self._score(picture)
        return EagerFindings(np.array(picture), malignant, self._outline(picture), activation)

    def analyze(self, data: bytes) -> None:
        """Does a full analysis of an image file's bytes."""
        found = self.find(data)
        _describe(found.image, found.mask)

    def _score(self, picture: Image.Image) -> tuple[float, NDArray[np.float32]]:
        probability, maps = 0.0, []
        for network, size, weight in self._classes:
            squares = self._spread(picture, size)
            last = network.backbone(network.normalise(squares))  # (looks, E, h, w)
            logits = network.head(last.mean(dim=(2, 3)))
            probability += weight * float(logits.softmax(dim=1)[:, Label.MALIGNANT].mean())
            row = log_odds_row(network.head).view(1, -1, 1, 1)
            maps.append(weight * self._gather((last * row).sum(dim=1, keepdim=True)))
        return probability, _mean(maps, max(each.shape[-1] for each in maps)).numpy()

    def _outline(self, picture: Image.Image) -> NDArray[np.bool_]:
        total = torch.zeros(picture.height, picture.width)
        for network, size, weight in self._masks:
            lesion = self._gather(network(self._spread(picture, size)).sigmoid())  # (1, 1, S, S)
            full = F.interpolate(lesion, tuple(total.shape), mode="bilinear")
            total += weight * full[0, 0]
        return (total >= self._threshold).numpy()

    def _spread(self, picture: Image.Image, size: int) -> Tensor:
        """Returns (looks, 3, S, S) in [0, 1]."""
        square = _square(picture, size)
        moved = [(square.flip(3) if m else square).rot90(t, (2, 3)) for m, t in self._looks]
        return torch.cat(moved)

    def _gather(self, maps: Tensor) -> Tensor:
        """Returns the mean of maps (looks, 1, h, w) over looks, moved back, (1, 1, h, w)."""
        back = [one.rot90(-t, (1, 2)) for one, (_, t) in zip(maps, self._looks, strict=True)]
        moved = [one.flip(2) if m else one for one, (m, _) in zip(back, self._looks, strict=True)]
        return torch.stack(moved).mean(dim=0, keepdim=True)


def _cards(folder: Path, members: Sequence[Member]) -> list[tuple[NetworkCard, float]]:
    return [(read_card(folder / each.card_name), each.weight) for each in members]


def _build_unet(card: NetworkCard) -> nn.Module:
    return UNet(build_backbone(card.backbone)) if card.backbone else OriginalUNet()


def _square(picture: Image.Image, size: int) -> Tensor:
    """Returns (1, 3, S, S) in [0, 1]."""
    pixels = np.array(picture.resize((size, size), Image.Resampling.BILINEAR))
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def _mean(maps: Sequence[Tensor], side: int) -> Tensor:
    """Returns the sum of weighted maps at one size, scaled to at most 1, (side, side)."""
    resized = [F.interpolate(each, (side, side), mode="bilinear") for each in maps]
    total = torch.stack(resized).sum(dim=0)[0, 0].clamp(min=0)
    return total / total.max().clamp(min=1e-12)


def _describe(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Does what both sides do alike: measures, appearance, quality."""
    reduced = reduce_image(image)
    appearance(reduced)
    measures = measure_lesion(image, mask)
    assess_quality(reduced, frame_contact=measures.frame_contact)
