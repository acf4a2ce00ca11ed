from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray

from dermfuse.errors import DataError
from dermfuse.folders import NOTICE
from dermfuse.publishing.stress import ORIENTATION, Disturbance, Mask, Pixels, disturbances, stress


@dataclass(frozen=True)
class Said:
    is_dermoscopy: bool | None
    malignant_probability: float | None
    mask: NDArray[np.bool_] | None


def _ask(image: NDArray[np.uint8]) -> Said:
    """The red level is the probability, the green half of the frame the lesion; blue refuses."""
    known = bool(image[..., 2].max() <= 200)
    return Said(known, float(image[..., 0].mean() / 200), image[..., 1] > 100)


def _image(red: int, green_columns: int = 2) -> NDArray[np.uint8]:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0] = red
    image[:, :green_columns, 1] = 200
    return image


def _plus(red: int, blue: int = 0) -> Disturbance:
    def apply(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        out = image.copy()
        out[..., 0] += red
        out[..., 2] = blue
        return out

    return Disturbance(f"red +{red}", "red", apply)


def test_shifts_and_calls_are_counted_by_hand() -> None:
    # probabilities 0.1, 0.45, 0.8 become 0.2, 0.55, 0.9; at 0.5 one call changes
    images = [_image(20), _image(90), _image(160)]
    report = stress(_ask, images, release="r", threshold=0.5, chosen={"red +20": _plus(20)})
    row = report.rows[0]
    assert (row.images, row.refused) == (3, 0.0)
    assert row.median_shift == pytest.approx(0.1)
    assert row.largest_shift == pytest.approx(0.1)
    assert row.mean_change == pytest.approx(0.1)
    assert row.calls_changed == pytest.approx(1 / 3)
    assert row.mask_agreement == 1.0
    assert row.still_outlined == 1.0
    assert report.to_dict()["notice"] == NOTICE


def test_masks_are_compared_where_the_lesion_was() -> None:
    def half(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        out = image.copy()
        out[:, 1, 1] = 0
        return out[:, ::-1]

    one = Disturbance("half, mirrored", "m", half, restore=lambda mask: mask[:, ::-1])
    row = stress(_ask, [_image(20)], release="r", threshold=0.5, chosen={"h": one}).rows[0]
    assert row.mask_agreement == pytest.approx(1 / 2)
    assert row.still_outlined == pytest.approx(1 / 2)


def test_an_image_that_is_refused_after_is_counted_and_one_refused_before_is_left_out() -> None:
    refused = _image(20)
    refused[..., 2] = 255
    report = stress(
        _ask,
        [refused, _image(40)],
        release="r",
        threshold=0.5,
        chosen={"red +0": _plus(0, blue=255)},
    )
    assert (report.images, report.refused) == (2, 1)
    row = report.rows[0]
    assert (row.images, row.refused, row.median_shift) == (1, 1.0, None)


def test_the_control_has_no_agreement() -> None:
    def gone(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        out = image.copy()
        out[mask, 1] = 0
        return out

    one = Disturbance("gone", "control", gone, removes_lesion=True)
    row = stress(_ask, [_image(20)], release="r", threshold=0.5, chosen={"gone": one}).rows[0]
    assert row.mask_agreement is None
    assert row.still_outlined == 0.0


def _corner(image: NDArray[np.uint8]) -> Said:
    """The red of the upper left pixel is the probability, green the lesion; blue there refuses."""
    known = image[0, 0, 2] <= 200
    return Said(bool(known), float(image[0, 0, 0] / 200), image[..., 1] > 100)


def test_the_call_of_an_image_is_compared_over_all_its_orientations() -> None:
    """Each corner is the upper left one in two of the eight."""
    steady, moved, refused = _image(20), _image(20), _image(20)  # probability 0.1
    moved[3, 3, 0] = 160  # 0.8 in two orientations: another call at 0.5
    refused[0, 3, 2] = 255  # no dermoscopy in two, and 0.2 in two others
    refused[3, 0, 0] = 40
    family = {n: one for n, one in disturbances().items() if one.kind == ORIENTATION}
    report = stress(
        _corner, [steady, moved, refused], release="r", threshold=0.5, looks=4, chosen=family
    )
    row = report.orientations
    assert row is report.rows[-1]
    assert len(report.rows) == 8
    assert report.looks == report.to_dict()["looks"] == 4
    assert row.images == 3
    assert row.calls_changed == pytest.approx(1 / 3)
    assert row.refused == pytest.approx(1 / 3)
    assert row.median_shift == pytest.approx(0.1), "of 0, 0.7 and 0.1"
    assert row.mean_change == pytest.approx((2 * 0.7 + 2 * 0.1) / (7 + 7 + 5))
    assert row.mask_agreement == 1.0
    assert row.still_outlined == 1.0
    some = dict(list(family.items())[:3])
    assert stress(_corner, [steady], release="r", threshold=0.5, chosen=some).orientations is None


def test_a_malignant_call_may_change_too_and_one_that_stays_does_not() -> None:
    high, mixed = _image(160), _image(160)
    mixed[3, 0, 0] = 20
    family = {n: one for n, one in disturbances().items() if one.kind == ORIENTATION}
    report = stress(_corner, [high, mixed], release="r", threshold=0.5, chosen=family)
    assert report.orientations.calls_changed == pytest.approx(1 / 2)
    assert report.orientations.median_shift == pytest.approx(0.35)


def test_images_that_are_no_dermoscopy_at_all_are_refused() -> None:
    other = _image(20)
    other[..., 2] = 255
    with pytest.raises(DataError, match="all of 1 images are unlike"):
        stress(_ask, [other], release="r", threshold=0.5, chosen={"red +0": _plus(0)})


def test_an_analysis_without_a_mask_is_refused() -> None:
    def ask(image: NDArray[np.uint8]) -> Said:
        return Said(True, 0.5, None)

    with pytest.raises(DataError, match="score_all=True"):
        stress(ask, [_image(20)], release="r", threshold=0.5, chosen={"red +0": _plus(0)})


def test_progress_counts_images() -> None:
    seen: list[int] = []
    stress(
        _ask,
        [_image(20), _image(30)],
        release="r",
        threshold=0.5,
        chosen={"red +0": _plus(0)},
        progress=seen.append,
    )
    assert seen == [1, 2]
