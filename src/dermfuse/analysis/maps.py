"""From what the networks of a fusion answer to one mask and one activation map."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.looks import Answers
from dermfuse.preprocess import resize_map
from dermfuse.release.folder import MaskRelease, Member

_STRIP_ROWS = 64


def join_masks(
    answers: Sequence[Answers], masks: MaskRelease, *, height: int, width: int
) -> NDArray[np.bool_]:
    """Returns where the weighted mean of the networks' probability maps reaches the threshold.

    Args:
        answers: Of each mask network in the mean over looks, in the order of ``masks.members``.
        masks: Their weights, and the threshold.
        height: Of the image, in pixels.
        width: Of the image, in pixels.

    Returns:
        (H, W)
    """
    by_size: dict[tuple[int, ...], NDArray[np.float32]] = {}
    for answer, member in zip(answers, masks.members, strict=True):
        lesion = answer["lesion"] * np.float32(member.weight)
        # Resizing is linear: maps of one size are added first and resized once.
        by_size[lesion.shape] = by_size.get(lesion.shape, 0) + lesion
    maps = [Image.fromarray(total) for total in by_size.values()]
    mask = np.empty((height, width), dtype=np.bool_)
    for top in range(0, height, _STRIP_ROWS):  # strips stay in the cache: a third of the time
        bottom = min(top + _STRIP_ROWS, height)
        first, *others = (_strip(one, top, bottom, height=height, width=width) for one in maps)
        for other in others:
            first = first + other
        mask[top:bottom] = first >= np.float32(masks.threshold - 1e-6)
    return mask


def _strip(
    whole: Image.Image, top: int, bottom: int, *, height: int, width: int
) -> NDArray[np.float32]:
    """Returns some rows of what ``resize_probability`` makes of a map, not clipped; read-only."""
    box = (0, top * whole.height / height, whole.width, bottom * whole.height / height)
    rows = whole.resize((width, bottom - top), Image.Resampling.BILINEAR, box=box)
    return np.asarray(rows)


def join_activations(answers: Sequence[Answers], members: Sequence[Member]) -> NDArray[np.float32]:
    """Returns the weighted mean of the networks' maps: what each place adds to the log-odds.

    The scale is that of the networks and the same for every image: the mean of a network's map
    plus a constant is its log-odds of malignancy, before calibration.

    Args:
        answers: Of each class network in the mean over looks, in the order of ``members``.
        members: Their weights, with sum 1.

    Returns:
        (h, w), the size of the largest map; above 0 speaks for malignancy, below 0 against it.
    """
    maps = [answer["activation_map"] for answer in answers]
    side = max(one.shape[0] for one in maps)
    total = np.zeros((side, side), dtype=np.float32)
    for one, member in zip(maps, members, strict=True):
        total += np.float32(member.weight) * resize_map(one, side, side)
    return total
