import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import ReleaseError
from dermfuse.folders import NOTICE
from dermfuse.release.folder import (
    Calibration,
    ClassRelease,
    Gate,
    MaskRelease,
    Member,
    OperatingPoint,
    Rate,
    Release,
    read_release,
    write_release,
)

POINTS = tuple(
    OperatingPoint(name, at, Rate(0.9, 0.8, 0.95), Rate(0.6, 0.5, 0.7))
    for name, at in (("balanced", 0.3), ("sensitivity95", 0.1))
)
RELEASE = Release(
    name="small",
    classes=ClassRelease(
        members=(Member("a", 0.4), Member("b", 0.6)),
        calibration=Calibration(2.0, -1.5),
        operating_points=POINTS,
        default_point="balanced",
        measured={"auc": {"value": 0.8}},
    ),
    masks=MaskRelease(members=(Member("u", 1.0),), threshold=0.5),
    gate=Gate("dermoscopy.npz", "0" * 64, 1.3),
    facts={"data": "drawn"},
)


def _rewritten(folder: Path, change: Any) -> Path:
    path = write_release(folder, RELEASE)
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    return folder


@pytest.mark.parametrize("release", [RELEASE, replace(RELEASE, gate=None)])
def test_what_is_written_is_read(release: Release, tmp_path: Path) -> None:
    path = write_release(tmp_path, release)
    assert read_release(tmp_path) == release
    assert json.loads(path.read_text())["notice"] == NOTICE


def test_looks_are_1_4_or_8_and_1_in_a_record_from_before_them(tmp_path: Path) -> None:
    write_release(tmp_path, replace(RELEASE, looks=8))
    assert read_release(tmp_path).looks == 8
    assert read_release(_rewritten(tmp_path, lambda record: record.pop("looks"))).looks == 1
    with pytest.raises(ReleaseError, match=r"release\.json: looks is 3"):
        read_release(_rewritten(tmp_path, lambda record: record.update(looks=3)))
    with pytest.raises(ReleaseError, match="looks is 2"):
        write_release(tmp_path, replace(RELEASE, looks=2))


def test_a_point_is_chosen_by_its_name() -> None:
    assert RELEASE.classes.point().name == "balanced"
    assert RELEASE.classes.point("sensitivity95").threshold == 0.1
    with pytest.raises(ReleaseError, match="one of balanced, sensitivity95"):
        RELEASE.classes.point("sensitivity99")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format=2), "has format 2"),
        (lambda r: r.pop("masks"), r"masks is missing\. Expected: the keys name, classes"),
        (
            lambda r: r["classes"].update(extra=1),
            r'no key "classes\.extra"\. Expected: one of classes\.members',
        ),
        (lambda r: r["classes"]["members"][0].update(weight=0.9), "add up to 1.5"),
        (
            lambda r: r["classes"]["members"][0].update(weight="x"),
            "weight is 'x'. Expected: a number",
        ),
        (lambda r: r["classes"].update(members=3), "members is 3. Expected: a list"),
        (lambda r: r.update(gate=4), "gate is 4. Expected: a table of keys and values or"),
        (lambda r: r["classes"]["calibration"].update(temperature=0), "temperature is 0"),
        (lambda r: r["classes"].update(default_point="none"), 'called "none"'),
        (lambda r: r["masks"].update(members=[]), "masks add up to 0"),
    ],
)
def test_a_record_that_does_not_add_up_is_refused(
    change: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match=message):
        read_release(_rewritten(tmp_path, change))


def test_a_whole_number_is_a_weight(tmp_path: Path) -> None:
    _rewritten(tmp_path, lambda r: r["masks"]["members"][0].update(weight=1))
    assert read_release(tmp_path).masks.members[0].weight == 1.0


def test_a_folder_that_is_no_release_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is no release"):
        read_release(tmp_path)
    with pytest.raises(ReleaseError, match="is missing"):
        read_release(tmp_path / "none")
