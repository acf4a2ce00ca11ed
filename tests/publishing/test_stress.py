"""Disturbances, what they move, and the report."""

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from dermfuse.data.isic2016 import Label
from dermfuse.data.synthetic import SyntheticLesion, draw_lesion
from dermfuse.errors import ConfigError, DataError, RunError
from dermfuse.folders import NOTICE
from dermfuse.publishing.stress import (
    COLUMNS,
    ORIENTATION,
    Disturbance,
    Mask,
    Pixels,
    StressReport,
    StressRow,
    disturbances,
    read_stress,
    remove_lesion,
    say_orientations,
    stress,
    table_row,
    write_stress,
)

NAMES = list(disturbances())


@pytest.fixture(scope="module")
def drawn() -> SyntheticLesion:
    rng = np.random.default_rng(4)
    return draw_lesion(
        rng, label=Label.MALIGNANT, size_px=(96, 72), interferences=frozenset(), difficulty=0.0
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_disturbance_changes_the_image_and_only_a_copy(
    name: str, drawn: SyntheticLesion
) -> None:
    one, before = disturbances()[name], drawn.image.copy()
    disturbed = one.apply(drawn.image, drawn.mask, np.random.default_rng(1))
    assert disturbed.dtype == np.uint8
    assert sorted(disturbed.shape) == sorted(before.shape)
    assert not np.array_equal(disturbed, before)
    assert np.array_equal(drawn.image, before), "the image itself stays"
    again = one.apply(drawn.image, drawn.mask, np.random.default_rng(1))
    assert np.array_equal(disturbed, again), "a seed draws the same"


@pytest.mark.parametrize("name", [name for name in NAMES if "rotation" in name or "mirr" in name])
def test_a_moved_mask_is_laid_back_where_it_was(name: str, drawn: SyntheticLesion) -> None:
    one = disturbances()[name]
    as_image = np.repeat(drawn.mask[:, :, None], 3, axis=2).astype(np.uint8)
    moved = one.apply(as_image, drawn.mask, np.random.default_rng(0))[:, :, 0] > 0
    assert np.array_equal(one.restore(moved), drawn.mask)


def test_the_seven_other_orientations_are_among_them(drawn: SyntheticLesion) -> None:
    rng = np.random.default_rng(0)
    seen = {one.apply(drawn.image, drawn.mask, rng).tobytes() for one in FAMILY}
    assert len(seen | {drawn.image.tobytes()}) == 8
    assert [one.name for one in FAMILY][::3] == [
        "rotation by 90 degrees",
        "mirroring",
        "mirroring and rotation by 270 degrees",
    ]


@pytest.mark.parametrize("kind", ["blur", "JPEG"])
def test_strengths_of_a_kind_are_ordered(kind: str, drawn: SyntheticLesion) -> None:
    rng = np.random.default_rng(0)
    errors = [
        np.abs(one.apply(drawn.image, drawn.mask, rng).astype(float) - drawn.image).mean()
        for one in disturbances().values()
        if one.kind == kind
    ]
    assert len(errors) == 3
    assert errors == sorted(errors)


def test_where_the_lesion_was_there_is_skin(drawn: SyntheticLesion) -> None:
    removed = remove_lesion(drawn.image, drawn.mask, np.random.default_rng(0)).astype(float)
    skin = drawn.image[~drawn.mask].astype(float).mean(axis=0)
    before = np.abs(drawn.image[drawn.mask].astype(float).mean(axis=0) - skin).mean()
    after = np.abs(removed[drawn.mask].mean(axis=0) - skin).mean()
    assert after < 0.25 * before
    far = ~drawn.mask
    far[np.argwhere(drawn.mask)[:, 0].min() - 12 : np.argwhere(drawn.mask)[:, 0].max() + 12] = False
    assert np.array_equal(removed[far], drawn.image[far].astype(float)), "the rest stays"


def test_without_a_lesion_or_without_skin_nothing_is_filled(drawn: SyntheticLesion) -> None:
    rng = np.random.default_rng(0)
    for mask in (np.zeros_like(drawn.mask), np.ones_like(drawn.mask)):
        assert np.array_equal(remove_lesion(drawn.image, mask, rng), drawn.image)


@dataclass(frozen=True)
class Said:
    is_dermoscopy: bool | None
    malignant_probability: float | None
    mask: NDArray[np.bool_] | None


def _ask(image: Pixels) -> Said:
    """The red level is the probability, the green half of the frame the lesion; blue refuses."""
    known = bool(image[..., 2].max() <= 200)
    return Said(known, float(image[..., 0].mean() / 200), image[..., 1] > 100)


def _corner(image: Pixels) -> Said:
    """The red of the upper left pixel is the probability, green the lesion; blue there refuses."""
    known = image[0, 0, 2] <= 200
    return Said(bool(known), float(image[0, 0, 0] / 200), image[..., 1] > 100)


def _image(red: int, blue: int = 0) -> Pixels:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0], image[..., 2] = red, blue
    image[:, :2, 1] = 200
    return image


def _stress(
    images: Sequence[Pixels],
    *chosen: Disturbance,
    ask: Callable[[Pixels], Said] = _ask,
    progress: Callable[[int], None] | None = None,
) -> StressReport:
    named = {one.name: one for one in chosen}
    return stress(ask, images, release="r", threshold=0.5, looks=4, chosen=named, progress=progress)


def _plus(red: int, blue: int = 0) -> Disturbance:
    def apply(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        out = image.copy()
        out[..., 0] += red
        out[..., 2] = blue
        return out

    return Disturbance(f"red +{red}", "red", apply)


def test_shifts_and_calls_are_counted_by_hand() -> None:
    # probabilities 0.1, 0.45, 0.8 become 0.2, 0.55, 0.9; at 0.5 one call changes
    seen: list[int] = []
    report = _stress([_image(20), _image(90), _image(160)], _plus(20), progress=seen.append)
    row = report.rows[0]
    assert (row.images, row.refused) == (3, 0.0)
    shifts = (row.median_shift, row.largest_shift, row.mean_change)
    assert shifts == pytest.approx((0.1, 0.1, 0.1))
    assert row.calls_changed == pytest.approx(1 / 3)
    assert (row.mask_agreement, row.still_outlined) == (1.0, 1.0)
    assert report.to_dict()["notice"] == NOTICE
    assert seen == [1, 2, 3]


def test_masks_are_compared_where_the_lesion_was() -> None:
    def half(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        out = image.copy()
        out[:, 1, 1] = 0
        return out[:, ::-1]

    one = Disturbance("half, mirrored", "m", half, restore=lambda mask: mask[:, ::-1])
    row = _stress([_image(20)], one).rows[0]
    assert (row.mask_agreement, row.still_outlined) == pytest.approx((1 / 2, 1 / 2))


def test_an_image_that_is_refused_after_is_counted_and_one_refused_before_is_left_out() -> None:
    report = _stress([_image(20, blue=255), _image(40)], _plus(0, blue=255))
    assert (report.images, report.refused) == (2, 1)
    row = report.rows[0]
    assert (row.images, row.refused, row.median_shift) == (1, 1.0, None)


def test_the_control_has_no_agreement() -> None:
    def gone(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        out = image.copy()
        out[mask, 1] = 0
        return out

    row = _stress([_image(20)], Disturbance("gone", "control", gone, removes_lesion=True)).rows[0]
    assert (row.mask_agreement, row.still_outlined) == (None, 0.0)


FAMILY = [one for one in disturbances().values() if one.kind == ORIENTATION]


def test_the_call_of_an_image_is_compared_over_all_its_orientations() -> None:
    """Each corner is the upper left one in two of the eight."""
    steady, moved, refused = _image(20), _image(20), _image(20)  # probability 0.1
    moved[3, 3, 0] = 160  # 0.8 in two orientations: another call at 0.5
    refused[0, 3, 2] = 255  # no dermoscopy in two, and 0.2 in two others
    refused[3, 0, 0] = 40
    report = _stress([steady, moved, refused], *FAMILY, ask=_corner)
    row = report.orientations
    assert row is report.rows[-1]
    assert len(report.rows) == 8
    assert report.looks == report.to_dict()["looks"] == 4
    assert row.images == 3
    assert (row.calls_changed, row.refused) == pytest.approx((1 / 3, 1 / 3))
    assert row.median_shift == pytest.approx(0.1), "of 0, 0.7 and 0.1"
    assert row.mean_change == pytest.approx((2 * 0.7 + 2 * 0.1) / (7 + 7 + 5))
    assert (row.mask_agreement, row.still_outlined) == (1.0, 1.0)
    assert _stress([steady], *FAMILY[:3], ask=_corner).orientations is None


def test_a_malignant_call_may_change_too_and_one_that_stays_does_not() -> None:
    high, mixed = _image(160), _image(160)
    mixed[3, 0, 0] = 20
    row = _stress([high, mixed], *FAMILY, ask=_corner).orientations
    assert (row.calls_changed, row.median_shift) == pytest.approx((1 / 2, 0.35))


def test_what_cannot_be_disturbed_is_refused() -> None:
    with pytest.raises(DataError, match="all of 1 images are unlike"):
        _stress([_image(20, blue=255)], _plus(0))
    with pytest.raises(DataError, match="score_all=True"):
        _stress([_image(20)], _plus(0), ask=lambda _: Said(True, 0.5, None))


ROWS = (
    StressRow("hair", "hair", 10, 0.1, 0.02, 0.1, 0.01, 0.2, 0.9, 1.1),
    StressRow("blur", "blur", 10, 0.0, 0.03, 0.2, -0.02, 0.1, 0.8, 1.0),
    StressRow("orientations", "orientation", 10, 0.1, 0.05, 0.3, 0.01, 0.3, 0.95, 1.0),
    StressRow("lesion removed", "control", 10, 1.0, None, None, None, None, None, 0.25),
)
REPORT = StressReport("small", 12, 2, 0.5, 0, 8, ROWS)


def test_the_report_is_written_three_times_over(tmp_path: Path) -> None:
    page = write_stress(REPORT, tmp_path / "out").read_text()
    assert NOTICE in page
    assert "hair" in page
    assert "2 more were withheld" in page
    assert "Jaccard 0.80 with the outline before" in page
    record = json.loads((tmp_path / "out" / "stress.json").read_text())
    assert record["rows"][1]["mask_agreement"] == 0.8
    with (tmp_path / "out" / "stress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == ["hair", "blur", "orientations", "lesion removed"]
    assert rows[3]["median_shift"] == ""


def test_the_orientations_have_a_sentence_of_their_own(tmp_path: Path) -> None:
    page = write_stress(REPORT, tmp_path / "out").read_text()
    said = "The call changes between the eight orientations in 30.0 % of scored images."
    assert say_orientations(REPORT) == said
    assert said in page
    assert "Each network looks at 8 orientations of an image" in page
    assert "20.0 % of calls" in page, "the most calls that one disturbance changes"
    without = replace(REPORT, rows=ROWS[:2])
    assert say_orientations(without) == ""
    assert "eight orientations" not in write_stress(without, tmp_path / "without").read_text()


def test_a_report_from_before_there_were_looks_is_of_one(tmp_path: Path) -> None:
    write_stress(REPORT, tmp_path / "out")
    path = tmp_path / "out" / "stress.json"
    assert read_stress(path) == REPORT
    record = json.loads(path.read_text())
    del record["looks"]
    path.write_text(json.dumps(record))
    assert read_stress(path).looks == 1


def test_what_was_not_measured_is_a_dash() -> None:
    assert len(COLUMNS) == len(table_row(ROWS[0]))
    assert table_row(ROWS[0])[3:] == ("+0.010", "20.0 %", "0.900", "10.0 %")
    assert table_row(ROWS[-1]) == ("lesion removed", "-", "-", "-", "-", "area x 0.25", "100.0 %")


def test_a_folder_that_holds_something_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "kept").write_text("kept")
    with pytest.raises(RunError, match="not empty"):
        write_stress(REPORT, tmp_path)


def test_a_seed_below_0_is_refused_before_an_image_is_read() -> None:
    with pytest.raises(ConfigError, match=r"seed is -1\. Expected: 0 or more"):
        stress(iter, iter(()), release="r", threshold=0.5, seed=-1)  # type: ignore[arg-type]
