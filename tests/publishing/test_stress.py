import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dermfuse.data.isic2016 import Label
from dermfuse.data.synthetic import SyntheticLesion, draw_lesion
from dermfuse.errors import ConfigError, DataError, RunError
from dermfuse.publishing import stress as module
from dermfuse.publishing.stress import (
    ORIENTATION,
    Disturbance,
    Mask,
    Pixels,
    StressReport,
    StressRow,
)
from dermfuse.records.folders import NOTICE

ALL = module.disturbances()
FAMILY = [one for one in ALL.values() if one.kind == ORIENTATION]


@pytest.fixture(scope="module")
def drawn() -> SyntheticLesion:
    rng = np.random.default_rng(4)
    return draw_lesion(rng, label=Label.MALIGNANT, size_px=(96, 72), interferences=frozenset())


def _apply(one: Disturbance, image: Pixels, mask: Mask) -> Pixels:
    return one.apply(image, mask, np.random.default_rng(1))


def test_every_disturbance_gives_another_image_and_changes_only_a_copy(
    drawn: SyntheticLesion,
) -> None:
    before, seen = drawn.image.copy(), {drawn.image.tobytes()}
    as_image = np.repeat(drawn.mask[:, :, None], 3, axis=2).astype(np.uint8)
    for one in ALL.values():
        disturbed = _apply(one, drawn.image, drawn.mask)
        assert (disturbed.dtype, disturbed.size) == (np.uint8, before.size)
        assert np.array_equal(disturbed, _apply(one, drawn.image, drawn.mask)), "a seed draws alike"
        seen.add(disturbed.tobytes())
        if one.kind == ORIENTATION:
            moved = _apply(one, as_image, drawn.mask)[:, :, 0] > 0
            assert np.array_equal(one.restore(moved), drawn.mask), "laid back where it was"
    assert len(seen) == 1 + len(ALL)
    assert np.array_equal(drawn.image, before)
    for kind in ("blur", "JPEG"):
        found = [_apply(x, drawn.image, drawn.mask) for x in ALL.values() if x.kind == kind]
        errors = [np.abs(one.astype(float) - drawn.image).mean() for one in found]
        assert errors == sorted(errors), "mild before strong"


def test_where_the_lesion_was_there_is_skin(drawn: SyntheticLesion) -> None:
    mask, rng = drawn.mask, np.random.default_rng(0)
    removed = module.remove_lesion(drawn.image, mask, rng).astype(float)
    skin = drawn.image[~mask].astype(float).mean(axis=0)
    before = np.abs(drawn.image[mask].astype(float).mean(axis=0) - skin).mean()
    assert np.abs(removed[mask].mean(axis=0) - skin).mean() < 0.25 * before
    assert np.array_equal(removed[0], drawn.image[0].astype(float)), "the rest stays"
    for nothing in (np.zeros_like(mask), np.ones_like(mask)):
        assert np.array_equal(module.remove_lesion(drawn.image, nothing, rng), drawn.image)


def _ask(image: Pixels) -> Any:
    """The red of the upper left pixel is the probability, green the lesion; blue there refuses."""
    red, _, blue = image[0, 0].tolist()
    return SimpleNamespace(
        is_dermoscopy=blue <= 200, malignant_probability=red / 200, mask=image[..., 1] > 100
    )


def _image(red: int, blue: int = 0) -> Pixels:
    image = np.zeros((4, 4, 3), np.uint8)
    image[..., 0], image[..., 2] = red, blue
    image[:, :2, 1] = 200
    return image


def _stress(images: Sequence[Pixels], *chosen: Disturbance, ask: Any = _ask) -> StressReport:
    point, release = SimpleNamespace(threshold=0.5), SimpleNamespace(name="r")
    analyzer: Any = SimpleNamespace(analyze=ask, release=release, operating_point=point, looks=4)
    return module.stress(analyzer, images, chosen={one.name: one for one in chosen})


def _change(do: Callable[[Pixels, Mask], object], **more: object) -> Disturbance:
    """Disturbs a copy in place."""

    def apply(image: Pixels, mask: Mask, _: np.random.Generator) -> Pixels:
        copy = image.copy()
        do(copy, mask)
        return copy

    return Disturbance("one", "kind", apply, **more)  # type: ignore[arg-type]


def _redder(image: Pixels, _: Mask) -> None:
    image[..., 0] += 20


def test_shifts_calls_and_refusals_are_counted_by_hand() -> None:
    # probabilities 0.1, 0.45, 0.8 become 0.2, 0.55, 0.9; at 0.5 one call changes
    images = [_image(20), _image(90), _image(160)]
    report = _stress([*images, _image(20, blue=255)], _change(_redder))
    row = report.rows[0]
    assert (report.images, report.refused, report.looks) == (4, 1, 4), "refused before: left out"
    assert (row.images, row.refused, row.mask_agreement, row.still_outlined) == (3, 0.0, 1.0, 1.0)
    shifts = (row.median_shift, row.largest_shift, row.mean_change)
    assert shifts == pytest.approx((0.1, 0.1, 0.1))
    assert row.calls_changed == pytest.approx(1 / 3)
    assert report.to_dict()["notice"] == NOTICE
    blue = _change(lambda image, _: image[..., 2].fill(255))
    after = _stress(images[:1], blue).rows[0]
    assert (after.images, after.refused, after.median_shift) == (1, 1.0, None)


def test_masks_are_compared_where_the_lesion_was_and_the_control_has_no_agreement() -> None:
    def halve(image: Pixels, _: Mask) -> None:
        image[:, 1, 1] = 0
        image[:] = image[:, ::-1].copy()

    mirrored = _change(halve, restore=lambda mask: mask[:, ::-1])
    row = _stress([_image(20)], mirrored).rows[0]
    assert (row.mask_agreement, row.still_outlined) == pytest.approx((1 / 2, 1 / 2))
    gone = _change(lambda image, mask: image[..., 1].__setitem__(mask, 0), removes_lesion=True)
    row = _stress([_image(20)], gone).rows[0]
    assert (row.mask_agreement, row.still_outlined) == (None, 0.0)


def test_the_call_of_an_image_is_compared_over_all_its_orientations() -> None:
    # Each corner is the upper left one in two of the eight.
    steady, moved, refused = _image(20), _image(20), _image(20)  # probability 0.1
    moved[3, 3, 0] = 160  # 0.8 in two orientations: another call at 0.5
    refused[0, 3, 2] = 255  # no dermoscopy in two, and 0.2 in two others
    refused[3, 0, 0] = 40
    report = _stress([steady, moved, refused], *FAMILY)
    row = report.orientations
    assert (row is report.rows[-1], len(report.rows), row.images) == (True, 8, 3)
    assert (row.calls_changed, row.refused) == pytest.approx((1 / 3, 1 / 3))
    assert row.median_shift == pytest.approx(0.1), "of 0, 0.7 and 0.1"
    assert row.mean_change == pytest.approx((2 * 0.7 + 2 * 0.1) / (7 + 7 + 5))
    assert (row.mask_agreement, row.still_outlined) == (1.0, 1.0)
    assert _stress([steady], *FAMILY[:3]).orientations is None
    high, mixed = _image(160), _image(160)
    mixed[3, 0, 0] = 20
    row = _stress([high, mixed], *FAMILY).orientations
    assert (row.calls_changed, row.median_shift) == pytest.approx((1 / 2, 0.35))


def test_what_cannot_be_disturbed_is_refused() -> None:
    with pytest.raises(DataError, match="all of 1 images are unlike"):
        _stress([_image(20, blue=255)], _change(_redder))
    without = lambda _: SimpleNamespace(is_dermoscopy=True, malignant_probability=0.5, mask=None)  # noqa: E731
    with pytest.raises(DataError, match="score_all=True"):
        _stress([_image(20)], _change(_redder), ask=without)
    with pytest.raises(ConfigError, match=r"seed is -1\. Expected: 0 or more"):
        module.stress(SimpleNamespace(), iter(()), seed=-1)


ROWS = (
    StressRow("hair", "hair", 10, 0.1, 0.02, 0.1, 0.01, 0.2, 0.9, 1.1),
    StressRow("orientations", "orientation", 10, 0.1, 0.05, 0.3, 0.01, 0.3, 0.95, 1.0),
    StressRow("lesion removed", "control", 10, 1.0, None, None, None, None, None, 0.25),
)
REPORT = StressReport("small", 12, 2, 0.5, 0, 8, ROWS)


def test_the_report_is_a_page_a_table_and_a_record_that_is_read_again(tmp_path: Path) -> None:
    out = tmp_path / "out"
    page = module.write_stress(REPORT, out).read_text()
    calls = "The call changes between the eight orientations in 30.0 % of scored images."
    for said in (NOTICE, "2 more were withheld", "Jaccard 0.90 with", "20.0 % of calls", calls):
        assert said in page
    with (out / "stress.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [row.name for row in ROWS]
    assert module.read_stress(out / "stress.json") == REPORT
    record = json.loads((out / "stress.json").read_text())
    del record["looks"]
    (out / "stress.json").write_text(json.dumps(record))
    assert module.read_stress(out / "stress.json").looks == 1, "of before there were looks"
    assert module.say_orientations(replace(REPORT, rows=ROWS[:1])) == ""
    assert module.table_row(ROWS[-1])[1:] == ("-", "-", "-", "-", "area x 0.25", "100.0 %")
    with pytest.raises(RunError, match="not empty"):
        module.write_stress(REPORT, out)
