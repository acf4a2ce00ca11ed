"""What teachers say about images, as a pupil's training reads it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.loaders import Fit, fit_probability
from dermfuse.preprocess import read_probability


@dataclass(frozen=True, slots=True, eq=False)
class Lessons:
    """What the teachers say of each image, the mean of those that held it back.

    Attributes:
        scores: Malignant probability by image id; None where only masks are learnt.
        maps: Files of lesion probability maps by image id; none where only classes are learnt.
    """

    scores: Mapping[str, float] | None
    maps: Mapping[str, Sequence[Path]]

    def scores_of(self, image_ids: Sequence[str]) -> NDArray[np.float32] | None:
        """Returns the scores of images, (N,); 0 for one that is not taught."""
        if self.scores is None:
            return None
        return np.array([self.scores.get(image_id, 0.0) for image_id in image_ids], np.float32)

    def maps_of(
        self, image_ids: Sequence[str], size: int, fit: Fit = "squeeze"
    ) -> NDArray[np.uint8] | None:
        """Returns the maps of images fitted to squares, (N, 1, S, S) of 0 to 255."""
        if not self.maps:
            return None
        squares = np.zeros((len(image_ids), 1, size, size), np.uint8)
        for square, image_id in zip(squares, image_ids, strict=True):
            paths = self.maps.get(image_id, ())
            if paths:
                found = [fit_probability(read_probability(path), size, fit) for path in paths]
                square[0] = np.rint(255 * np.clip(np.mean(found, axis=0), 0, 1))
        return squares
