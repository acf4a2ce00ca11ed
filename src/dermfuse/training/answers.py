"""What a deployed network answers about a batch: probabilities, of one look or of eight."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dermfuse.looks import SYMMETRIES
from dermfuse.models.joint import JointLogits


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Probabilities for a batch of images; None for what the network does not answer.

    Attributes:
        malignant: The softmax probability of malignant, (B,) float64.
        lesion: The probability of lesion at each pixel, (B, S, S) float32.
    """

    malignant: Tensor | None
    lesion: Tensor | None

    def cpu(self) -> "Answer":
        """Returns the same on the CPU."""
        parts = (self.malignant, self.lesion)
        return Answer(*(None if part is None else part.cpu() for part in parts))


Look = Callable[[Tensor], Answer]
"""From images (B, 3, S, S) to what a network answers."""


def read_logits(logits: Tensor | JointLogits) -> Answer:
    """Returns the probabilities of class logits (B, 2), mask logits (B, 1, S, S), or both."""
    if isinstance(logits, JointLogits):
        return Answer(_malignant(logits.class_logits), _lesion(logits.mask_logits))
    if logits.ndim == 4:
        return Answer(malignant=None, lesion=_lesion(logits))
    return Answer(malignant=_malignant(logits), lesion=None)


def look_eight_times(look: Look, images: Tensor) -> Answer:
    """Returns the mean of what ``look`` answers to the eight symmetries of ``images``.

    Probability maps are moved back before they are averaged. The mean does not depend on how a
    photograph was turned.

    Args:
        look: Answers one batch.
        images: (B, 3, S, S); square, for a quarter turn keeps their shape.
    """
    answers = []
    for mirror, turns in SYMMETRIES:
        answer = look(move(images, mirror=mirror, turns=turns))
        back = answer.lesion
        if back is not None:
            back = move_back(back, mirror=mirror, turns=turns)
        answers.append(Answer(answer.malignant, back))
    return Answer(
        malignant=_mean([answer.malignant for answer in answers]),
        lesion=_mean([answer.lesion for answer in answers]),
    )


def move(x: Tensor, *, mirror: bool, turns: int) -> Tensor:
    """Returns squares (..., S, S) mirrored left to right, then turned counter-clockwise.

    Example:
        >>> move(torch.tensor([[1, 2], [3, 4]]), mirror=True, turns=1).tolist()
        [[1, 3], [2, 4]]
    """
    return (x.flip(-1) if mirror else x).rot90(turns, (-2, -1))


def move_back(x: Tensor, *, mirror: bool, turns: int) -> Tensor:
    """Returns what ``move`` was given, from what it returned.

    Example:
        >>> move_back(torch.tensor([[1, 3], [2, 4]]), mirror=True, turns=1).tolist()
        [[1, 2], [3, 4]]
    """
    back = x.rot90(-turns, (-2, -1))
    return back.flip(-1) if mirror else back


def _malignant(class_logits: Tensor) -> Tensor:
    return class_logits.double().softmax(1)[:, 1]


def _lesion(mask_logits: Tensor) -> Tensor:
    return mask_logits.float().sigmoid()[:, 0]


def _mean(parts: list[Tensor | None]) -> Tensor | None:
    there = [part for part in parts if part is not None]
    return torch.stack(there).mean(dim=0) if there else None
