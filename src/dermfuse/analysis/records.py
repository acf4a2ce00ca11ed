"""What an analysis found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.analysis.measures import LesionMeasures
from dermfuse.analysis.overlays import draw_activation, draw_outline
from dermfuse.analysis.quality import QualityFlag
from dermfuse.outlines import outline
from dermfuse.release.operating import OperatingPoint
from dermfuse.runs import NOTICE
from dermfuse.scores import Label

_PROBABILITY_DIGITS = 6
_NOT_DERMOSCOPY = "This does not look like a dermoscopy image to the networks, so "
_WITHHELD = _NOT_DERMOSCOPY + "no probability is given."
_UNFOUNDED = _NOT_DERMOSCOPY + "its probability stands on nothing that they have learnt."


@dataclass(frozen=True, slots=True)
class Score:
    """How likely one image is melanoma. Research software: this is not a diagnosis.

    Args:
        name: As for ``Analysis``, and so are all the others.
        release: Of the networks.
        malignant_probability: None where the image does not look like dermoscopy.
        operating_point: At whose threshold the probability becomes a call.
        scores: Of each class network by name.
        disagreement: Of the networks.
        is_dermoscopy: Whether the image looks like those the networks learnt from.
        dermoscopy_distance: How far it is from them.
    """

    name: str
    release: str
    malignant_probability: float | None
    operating_point: OperatingPoint
    scores: Mapping[str, float]
    disagreement: float | None
    is_dermoscopy: bool | None
    dermoscopy_distance: float | None

    @property
    def predicted(self) -> Label | None:
        """The call at the operating point; None where there is no probability."""
        return _call(self.malignant_probability, self.operating_point)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the number, a sentence each."""
        return _doubts(self.is_dermoscopy, self.malignant_probability)

    def to_dict(self) -> dict[str, Any]:
        """Returns the score as JSON values, under the keys that ``Analysis`` has for them."""
        return _score_values(self) | {"warnings": list(self.warnings), "notice": NOTICE}


@dataclass(frozen=True, slots=True, eq=False)
class Analysis:
    """One image, analysed. Research software: nothing here is a diagnosis.

    Args:
        name: Of the image.
        release: Of the networks.
        image: As it was analysed: RGB, upright, (H, W, 3).
        malignant_probability: Of melanoma, calibrated, in [0, 1]; None where the image does not
            look like dermoscopy, unless the analyzer was told to score all.
        operating_point: At whose threshold the probability becomes a call.
        scores: Of each class network by name, not calibrated; empty where the probability is None.
        disagreement: Standard deviation of the networks' probabilities, each calibrated like
            their mean, in [0, 0.5]; None where the probability is.
        is_dermoscopy: Whether the image looks like those the networks learnt from; None where
            the release has no means to tell.
        dermoscopy_distance: How far it is from them, about 1 for what is typical; as above.
        mask: Where the lesion is, (H, W).
        activation: Where the class networks looked, (h, w), in [0, 1]: 1 speaks most for
            melanoma, 0 is the map's mean or below.
        measures: Of the lesion; those that an empty mask has not are None.
        quality: What may spoil the answer, and what was checked.
    """

    name: str
    release: str
    image: NDArray[np.uint8]
    malignant_probability: float | None
    operating_point: OperatingPoint
    scores: Mapping[str, float]
    disagreement: float | None
    is_dermoscopy: bool | None
    dermoscopy_distance: float | None
    mask: NDArray[np.bool_]
    activation: NDArray[np.float32]
    measures: LesionMeasures
    quality: tuple[QualityFlag, ...]

    @property
    def predicted(self) -> Label | None:
        """The call at the operating point; None where there is no probability."""
        return _call(self.malignant_probability, self.operating_point)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the numbers, a sentence each."""
        said = _doubts(self.is_dermoscopy, self.malignant_probability)
        return (*said, *(flag.sentence for flag in self.quality if flag.raised))

    def contour_overlay(self) -> NDArray[np.uint8]:
        """Returns the image with the outline of the lesion over it, (H, W, 3)."""
        return draw_outline(self.image, self.mask)

    def activation_overlay(self) -> NDArray[np.uint8]:
        """Returns the image with the class activation map over it, (H, W, 3)."""
        return draw_activation(self.image, self.activation)

    def to_dict(self, *, with_outline: bool = True) -> dict[str, Any]:
        """Returns the analysis as JSON values: everything but pixels, the outline as points.

        Args:
            with_outline: Whether the outline is traced, which takes some milliseconds.
        """
        height, width = self.mask.shape
        about = {"name": self.name, "release": self.release, "width_px": width, "height_px": height}
        return {
            **about,
            **_score_values(self),
            "lesion_area_fraction": _rounded(float(self.mask.mean())),
            "measures": self.measures.to_dict(),
            "quality": {
                flag.name: {key: value for key, value in flag.to_dict().items() if key != "name"}
                for flag in self.quality
            },
            "warnings": list(self.warnings),
            **({"outline": outline(self.mask)} if with_outline else {}),
            "notice": NOTICE,
        }


def _doubts(is_dermoscopy: bool | None, probability: float | None) -> tuple[str, ...]:
    if is_dermoscopy is not False:
        return ()
    return (_WITHHELD if probability is None else _UNFOUNDED,)


def _call(probability: float | None, point: OperatingPoint) -> Label | None:
    if probability is None:
        return None
    return Label.MALIGNANT if probability >= point.threshold else Label.BENIGN


def _score_values(found: Score | Analysis) -> dict[str, Any]:
    """Returns what scores and analyses have in common, as JSON values."""
    predicted, point = found.predicted, found.operating_point
    return {
        "name": found.name,
        "release": found.release,
        "malignant_probability": _rounded(found.malignant_probability),
        "predicted": None if predicted is None else predicted.name.lower(),
        "operating_point": point.name,
        "threshold": point.threshold,
        "sensitivity": asdict(point.sensitivity),
        "specificity": asdict(point.specificity),
        "scores": {name: _rounded(score) for name, score in found.scores.items()},
        "disagreement": _rounded(found.disagreement),
        "dermoscopy": found.is_dermoscopy,
        "dermoscopy_distance": _rounded(found.dermoscopy_distance),
    }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _PROBABILITY_DIGITS)
