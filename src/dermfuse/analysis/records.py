"""What an analysis found."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.isic2016 import Label
from dermfuse.imaging.geometry import reduce_image, reduce_mask
from dermfuse.imaging.measures import LesionMeasures
from dermfuse.imaging.outlines import Ring, outline
from dermfuse.imaging.overlays import LONG_SIDE_PX, add_caption, draw_activation, draw_outline
from dermfuse.imaging.quality import QualityFlag
from dermfuse.imaging.symmetries import describe_looks, describe_other_looks
from dermfuse.records.folders import NOTICE
from dermfuse.release.folder import OperatingPoint

_PROBABILITY_DIGITS = 6
_UNLIKE = "This image is unlike the images the networks learnt from, so "
_WITHHELD = _UNLIKE + "no probability, outline or measure is given: a person must look at it first."
_UNFOUNDED = _UNLIKE + "its probability stands on nothing that they have learnt."


@dataclass(frozen=True, slots=True)
class Score:
    """How likely one image is melanoma. Research software: this is not a diagnosis.

    Args:
        name: The image's name.
        release: The name of the networks' release.
        malignant_probability: Calibrated, in [0, 1]; None where it is withheld: the image is
            unlike those the networks learnt from, and the analyzer was not asked to score
            all.
        operating_point: At whose threshold the probability becomes a call.
        scores: The mean over looks of each class network, by name, not calibrated; empty where the
            probability is None.
        uncertainty: Weighted standard deviation of the probabilities of all looks and networks,
            each calibrated like their mean, in [0, 0.5]; None where the probability is, and with
            one look of one network.
        looks: At how many orientations of the image each network looked.
        measured_looks: How many the release was calibrated and measured with.
        is_dermoscopy: Whether the image is like those the networks learnt from; None where the
            release has no means to tell.
        dermoscopy_distance: How far it is from them, about 1 for what is typical; as above.
    """

    name: str
    release: str
    malignant_probability: float | None
    operating_point: OperatingPoint
    scores: Mapping[str, float]
    uncertainty: float | None
    looks: int
    measured_looks: int
    is_dermoscopy: bool | None
    dermoscopy_distance: float | None

    @property
    def is_withheld(self) -> bool:
        """Whether there is no call and no outline, as the image is unlike those learnt from."""
        return self.malignant_probability is None

    @property
    def predicted(self) -> Label | None:
        """The call at the operating point; None where there is no probability."""
        if self.malignant_probability is None:
            return None
        called = self.malignant_probability >= self.operating_point.threshold
        return Label.MALIGNANT if called else Label.BENIGN

    @property
    def variation(self) -> str:
        """How far looks and networks lie apart, in words; empty where there is nothing to say."""
        if self.uncertainty is None:
            return ""
        parts = [describe_looks(self.looks)] * (self.looks > 1)
        parts += [f"{len(self.scores)} networks"] * (len(self.scores) > 1)
        varies = "less than 0.001" if self.uncertainty < 5e-4 else f"{self.uncertainty:.3f}"
        over = " and ".join(parts)
        return f"Over {over} the probability varies by {varies} (standard deviation)"

    @property
    def doubts(self) -> tuple[str, ...]:
        """What stands against the probability, a sentence each."""
        found = [_WITHHELD if self.is_withheld else _UNFOUNDED]
        found = found if self.is_dermoscopy is False else []
        other_looks = describe_other_looks(self.looks, measured=self.measured_looks)
        return (*found, *([other_looks] if other_looks else []))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the number, a sentence each."""
        return self.doubts

    def values(self) -> dict[str, Any]:
        """Returns the score as JSON values, without warnings and notice."""
        predicted, point = self.predicted, self.operating_point
        return {
            "name": self.name,
            "release": self.release,
            "malignant_probability": _rounded(self.malignant_probability),
            "predicted": None if predicted is None else predicted.name.lower(),
            "operating_point": point.name,
            "threshold": point.threshold,
            "sensitivity": asdict(point.sensitivity),
            "specificity": asdict(point.specificity),
            "scores": {name: _rounded(score) for name, score in self.scores.items()},
            "uncertainty": _rounded(self.uncertainty),
            "looks": self.looks,
            "dermoscopy": self.is_dermoscopy,
            "dermoscopy_distance": _rounded(self.dermoscopy_distance),
        }

    def to_dict(self) -> dict[str, Any]:
        """Returns the score as JSON values, under the keys that ``Analysis`` has for them."""
        return self.values() | {"warnings": list(self.warnings), "notice": NOTICE}


@dataclass(frozen=True, slots=True, eq=False)
class Analysis(Score):
    """One image, analysed: its score, and what follows. Nothing here is a diagnosis.

    Where the probability is withheld, mask, activation and measures are None, and so is all that
    follows from them: an outline of what no network has met deserves no trust.

    Args:
        image: The pixels that were analysed: RGB, upright, (H, W, 3).
        mask: Where the lesion is, (H, W).
        activation: What each place adds to the log-odds of malignancy before calibration, (h, w):
            above 0 speaks for melanoma, below 0 against it, on one scale for all images.
        measures: What was measured of the lesion; those that an empty mask lacks are None.
        quality: What may spoil the answer, and what was checked; without ``lesion_cut`` where
            there is no mask.
    """

    image: NDArray[np.uint8]
    mask: NDArray[np.bool_] | None
    activation: NDArray[np.float32] | None
    measures: LesionMeasures | None
    quality: tuple[QualityFlag, ...]

    @property
    def warnings(self) -> tuple[str, ...]:
        """What a reader must know before the numbers, a sentence each."""
        return (*self.doubts, *(flag.sentence for flag in self.quality if flag.raised))

    @property
    def lesion_area_fraction(self) -> float | None:
        """The lesion share of the frame: of all pixels of the mask, in [0, 1]."""
        return None if self.mask is None else float(self.mask.mean())

    def contour_overlay(self) -> NDArray[np.uint8] | None:
        """Returns the image with the outline of the lesion over it and the notice below it.

        Returns:
            (H + one line, W, 3), of an image longer than 2,560 px shrunk to that; None where
            there is no mask.
        """
        if self.mask is None:
            return None
        mask = reduce_mask(self.mask, long_side_px=LONG_SIDE_PX)
        return add_caption(draw_outline(self._shown(), mask), legend=False)

    def activation_overlay(self) -> NDArray[np.uint8] | None:
        """Returns the image with the activation map over it, its legend and the notice below it.

        Returns:
            (H + two lines, W, 3), shrunk as above; None where there is no map.
        """
        if self.activation is None:
            return None
        return add_caption(draw_activation(self._shown(), self.activation), legend=True)

    def _shown(self) -> NDArray[np.uint8]:
        return reduce_image(self.image, long_side_px=LONG_SIDE_PX).image

    def to_dict(self, *, with_outline: bool = True) -> dict[str, Any]:
        """Returns the analysis as JSON values: everything but pixels, the outline as points.

        Args:
            with_outline: Whether the outline is traced, which takes some milliseconds.
        """
        height, width = self.image.shape[:2]
        about = {"name": self.name, "release": self.release, "width_px": width, "height_px": height}
        return {
            **about,
            **self.values(),
            "lesion_area_fraction": _rounded(self.lesion_area_fraction),
            "measures": None if self.measures is None else self.measures.to_dict(),
            "quality": {
                flag.name: {key: value for key, value in flag.to_dict().items() if key != "name"}
                for flag in self.quality
            },
            "warnings": list(self.warnings),
            **({"outline": self._outline()} if with_outline else {}),
            "notice": NOTICE,
        }

    def _outline(self) -> list[Ring] | None:
        return None if self.mask is None else outline(self.mask)


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _PROBABILITY_DIGITS)
