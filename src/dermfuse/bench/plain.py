"""The loop that anyone would write first: PIL, a DataLoader, float32."""

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from dermfuse.config import Config, Task, has_masks, has_scores
from dermfuse.data.augment import Plan
from dermfuse.data.isic2016 import Lesion
from dermfuse.models.classifier import DiscriminantNetwork, JointNetwork
from dermfuse.training import losses

_TURNS = (None, Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)

Batch = tuple[Tensor, ...]
"""Images (B, 3, S, S) in [0, 1] with labels (B,), masks (B, 1, S, S), or both."""


@dataclass(frozen=True, slots=True, eq=False)
class PilSamples(Dataset[Batch]):
    """The rows of a plan, each decoded and augmented by PIL when it is asked for.

    Args:
        lesions: The source images.
        plan: The rows.
        labels: Label of every row.
        size: Side of the square the network sees.
        task: Whether a sample comes with its label, its mask, or both.
    """

    lesions: Sequence[Lesion]
    plan: Plan
    labels: NDArray[np.int64]
    size: int
    task: Task

    def __len__(self) -> int:
        """Returns the number of rows."""
        return len(self.plan)

    def __getitem__(self, row: int) -> Batch:
        """Returns an image (3, S, S) and its label (), its mask (1, S, S), or both."""
        lesion = self.lesions[self.plan.source[row]]
        with Image.open(lesion.image_path) as file:
            image = self._shade(self._move(file.convert("RGB"), row), row)
        sample = [to_tensor(image)]
        if has_scores(self.task):
            sample.append(torch.tensor(self.labels[row]))
        if has_masks(self.task) and lesion.mask_path is not None:
            with Image.open(lesion.mask_path) as file:
                mask = self._move(file.convert("L"), row)
            sample.append((to_tensor(mask) >= 0.5).float())
        return tuple(sample)

    def _move(self, image: Image.Image, row: int) -> Image.Image:
        square = image.resize((self.size, self.size), Image.Resampling.BILINEAR)
        if self.plan.mirror[row]:
            square = ImageOps.mirror(square)
        turn = _TURNS[self.plan.rotation[row]]
        if turn is not None:
            square = square.transpose(turn)
        crop = float(self.plan.crop[row])
        if crop < 1:
            low, high = self.size * (1 - crop) / 2, self.size * (1 + crop) / 2
            box = (low, low, high, high)
            square = square.resize(square.size, Image.Resampling.BILINEAR, box=box)
        return square

    def _shade(self, image: Image.Image, row: int) -> Image.Image:
        brightness = float(self.plan.brightness[row])
        if brightness != 1:
            image = ImageEnhance.Brightness(image).enhance(brightness)
        top, left, height, width = (self.plan.occlusion[row] * self.size).round().tolist()
        if height and width:
            box = (left, top, left + width - 1, top + height - 1)  # PIL's corners are inside
            ImageDraw.Draw(image).rectangle(box, fill=0)
        return image


def to_tensor(image: Image.Image) -> Tensor:
    """Returns (C, H, W) float32 in [0, 1], as torchvision's ``ToTensor`` does."""
    pixels = torch.from_numpy(np.array(image))
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    return pixels.permute(2, 0, 1).contiguous().float() / 255


@dataclass(slots=True)
class RowBlock:
    """A batch sampler that a loader with living workers can be pointed elsewhere with.

    Args:
        batches: Rows of each batch to load next.
    """

    batches: list[list[int]] = field(default_factory=list)

    def __iter__(self) -> Iterator[list[int]]:
        """Yields the rows of each batch."""
        return iter(self.batches)

    def __len__(self) -> int:
        """Returns the number of batches."""
        return len(self.batches)


class PlainLoop:
    """Loads and trains block by block.

    Args:
        samples: What is trained on.
        network: What is trained.
        config: The losses and the learning rate.
        workers: Processes that load.
        device: What to train on.
    """

    def __init__(
        self,
        samples: PilSamples,
        network: nn.Module,
        config: Config,
        *,
        workers: int,
        device: torch.device,
    ) -> None:
        self.network = network.to(device).train()
        self.config = config
        self.device = device
        rate = config.train.learning_rate
        self._optimizer = torch.optim.Adam(network.parameters(), lr=rate, eps=1e-7)
        self._block = RowBlock()
        with warnings.catch_warnings():  # more workers than cores: whoever asks may have them
            warnings.filterwarnings("ignore", message="This DataLoader will create")
            self._loader = DataLoader(
                samples,
                batch_sampler=self._block,
                num_workers=workers,
                persistent_workers=workers > 0,
                pin_memory=device.type == "cuda",
            )

    def load(self, batches: Sequence[Tensor]) -> Iterator[Batch]:
        """Yields the samples of some batches of rows, on the device.

        The workers load these batches and no more: they rest while the other loop is measured.
        """
        self._block.batches = [rows.tolist() for rows in batches]
        for batch in self._loader:
            yield tuple(part.to(self.device, non_blocking=True) for part in batch)

    def train(self, batches: Sequence[Tensor]) -> None:
        """Trains on some batches of rows; of a pair network each holds a's rows, then b's."""
        for images, *targets in self.load(batches):
            loss = self.loss(images, *targets)
            self._optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self._optimizer.step()

    def loss(self, images: Tensor, *targets: Tensor) -> Tensor:
        """Returns the loss of one batch, by the equations that dermfuse trains with."""
        class_loss = losses.choose_class_loss(self.config.loss)
        mask_loss = losses.choose_mask_loss(self.config.loss)
        if self.config.model.task == "segmentation":
            return mask_loss(self.network(images), targets[0])
        if isinstance(self.network, JointNetwork):
            logits = self.network(images)
            return losses.joint_loss(
                class_loss(logits.class_logits, targets[0]),
                mask_loss(logits.mask_logits, targets[1]),
                class_weight=self.config.loss.joint_class_weight,
            )
        if not isinstance(self.network, DiscriminantNetwork):
            return class_loss(self.network(images), targets[0])
        return self._pair_loss(self.network, images, targets[0])

    def _pair_loss(self, network: DiscriminantNetwork, images: Tensor, labels: Tensor) -> Tensor:
        class_loss = losses.choose_class_loss(self.config.loss)
        logits = network(*images.chunk(2))
        labels_a, labels_b = labels.chunk(2)
        return losses.total_loss(
            class_loss(logits.class_a, labels_a),
            class_loss(logits.class_b, labels_b),
            losses.discriminant_loss(logits.discriminant, labels_a == labels_b),
            weights=self.config.loss.weights,
        )
