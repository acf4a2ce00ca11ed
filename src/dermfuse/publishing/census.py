"""What the training images are: how many, of which class and size, and how light their skin is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dermfuse.data.folders import DataFolders, load_dataset
from dermfuse.data.isic2016 import TEST_DUPLICATES, Label, Lesion
from dermfuse.errors import DataError, RunError
from dermfuse.imaging.colours import TONES, SkinTone, measure_skin, name_tone
from dermfuse.imaging.geometry import reduce_image
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image
from dermfuse.records import build_record
from dermfuse.records.folders import read_json

_ALL, _USUAL = (0, 50, 100), (5, 50, 95)


@dataclass(frozen=True, slots=True)
class Spread:
    """Where values lie.

    Args:
        low: The smallest, or the 5th percentile.
        middle: The median.
        high: The largest, or the 95th percentile.
    """

    low: float
    middle: float
    high: float


@dataclass(frozen=True, slots=True)
class ToneCount:
    """Images whose skin has one tone.

    Args:
        name: Name of the class, as in ``dermfuse.imaging.colours.TONES``.
        images: How many.
        malignant: How many of them are malignant.
    """

    name: str
    images: int
    malignant: int


@dataclass(frozen=True, slots=True)
class SkinCensus:
    """The tones of the skin around the lesions.

    Args:
        tones: From the lightest class on; together the images with an angle.
        without_mask: Images without a mask: their skin cannot be distinguished from the lesion.
        hidden: Images on which too little skin is seen, or all of it is glare.
        without_angle: Images whose b* is not above 0: the cast of the light hides the hue.
        angle_degrees: 5th, 50th and 95th percentile, of the images with an angle.
        lightness: L*, likewise, of all images whose skin is seen.
        b: b*, likewise.
    """

    tones: tuple[ToneCount, ...]
    without_mask: int
    hidden: int
    without_angle: int
    angle_degrees: Spread | None
    lightness: Spread | None
    b: Spread | None

    @property
    def images(self) -> int:
        """Images with an angle."""
        return sum(tone.images for tone in self.tones)

    def count(self, *names: str) -> int:
        """Returns how many images have one of these tones."""
        return sum(tone.images for tone in self.tones if tone.name in names)


@dataclass(frozen=True, slots=True)
class TrainingCensus:
    """The training images of a data set that may be trained on.

    Args:
        images: How many.
        benign: How many are labelled so.
        malignant: How many are labelled so.
        masks: How many have a mask.
        missing: Ids that the labels or the masks name and no image has.
        duplicates: Ids left out because they show lesions of the test set.
        short_side_px: Smallest, median and largest.
        long_side_px: Smallest, median and largest.
        skin: Tones of the skin around the lesions.
    """

    images: int
    benign: int
    malignant: int
    masks: int
    missing: tuple[str, ...]
    duplicates: tuple[str, ...]
    short_side_px: Spread
    long_side_px: Spread
    skin: SkinCensus


def take_census(
    data: DataFolders, *, progress: Callable[[int, int], None] | None = None
) -> TrainingCensus:
    """Returns what the training images of a data set are; each is read once.

    Args:
        data: The dataset folder, or several.
        progress: Called with (images read, all).

    Raises:
        DataError: There are no training images but those of the test, or an image or a
            mask cannot be used.
    """
    dataset = load_dataset(data, "train")
    lesions = [lesion for lesion in dataset.lesions if lesion.image_id not in TEST_DUPLICATES]
    if not lesions:
        raise DataError(
            f"{dataset.name} holds no training image that shows no lesion of the test set",
            expected="one or more",
        )
    sizes: list[tuple[int, int]] = []
    seen: list[tuple[Lesion, SkinTone | None]] = []
    for done, lesion in enumerate(lesions, start=1):
        image = read_image(lesion.image_path)
        sizes.append((min(image.shape[:2]), max(image.shape[:2])))
        if lesion.mask_path:
            tone = measure_skin(reduce_image(image), read_mask(lesion.mask_path))
            seen.append((lesion, tone))
        if progress:
            progress(done, len(lesions))
    short_px, long_px = zip(*sizes, strict=True)
    labels = [lesion.label for lesion in lesions]
    left_out = {lesion.image_id for lesion in dataset.lesions} & set(TEST_DUPLICATES)
    return TrainingCensus(
        images=len(lesions),
        benign=labels.count(Label.BENIGN),
        malignant=labels.count(Label.MALIGNANT),
        masks=len(seen),
        missing=dataset.missing_images,
        duplicates=tuple(sorted(left_out)),
        short_side_px=_spread(short_px, _ALL),
        long_side_px=_spread(long_px, _ALL),
        skin=_skin_census(seen, without_mask=len(lesions) - len(seen)),
    )


def read_census(path: Path) -> TrainingCensus:
    """Returns the census that an earlier card's JSON holds.

    Raises:
        RunError: The file is missing, damaged, or holds none.
    """
    stored = read_json(path).get("census")
    if stored is None:
        raise RunError(
            f"{path} holds no census of training images",
            expected="a dataset folder, or the JSON of a card that was written with --data",
        )
    return build_record(TrainingCensus, stored, str(path), within="census", error=RunError)


def _skin_census(
    seen: Sequence[tuple[Lesion, SkinTone | None]], *, without_mask: int
) -> SkinCensus:
    tones = [(lesion, tone) for lesion, tone in seen if tone is not None]
    angles = [(x.label, angle) for x, tone in tones if (angle := tone.angle_degrees) is not None]
    names = [(label, name_tone(angle)) for label, angle in angles]
    return SkinCensus(
        tones=tuple(
            ToneCount(
                name,
                images=sum(found == name for _, found in names),
                malignant=names.count((Label.MALIGNANT, name)),
            )
            for name in TONES
        ),
        without_mask=without_mask,
        hidden=len(seen) - len(tones),
        without_angle=len(tones) - len(angles),
        angle_degrees=_usual([angle for _, angle in angles]),
        lightness=_usual([tone.lightness for _, tone in tones]),
        b=_usual([tone.b for _, tone in tones]),
    )


def _usual(values: Sequence[float]) -> Spread | None:
    return _spread(values, _USUAL) if values else None


def _spread(values: Sequence[float], percentiles: tuple[int, int, int]) -> Spread:
    return Spread(*np.percentile(values, percentiles).tolist())
