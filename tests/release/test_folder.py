import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    logit_of,
    pack_release,
    probability_of,
    read_release,
    write_release,
)

from ..small_release import write_small_release

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
    _rewritten(tmp_path, lambda r: r["masks"]["members"][0].update(weight=1))  # a whole number
    assert read_release(tmp_path).masks.members[0].weight == 1.0
    assert json.loads(path.read_text())["notice"] == NOTICE


def test_looks_are_1_4_or_8_and_1_in_a_record_from_before_them(tmp_path: Path) -> None:
    write_release(tmp_path, replace(RELEASE, looks=8))
    assert read_release(tmp_path).looks == 8
    assert read_release(_rewritten(tmp_path, lambda record: record.pop("looks"))).looks == 1
    with pytest.raises(ReleaseError, match=r"release\.json: looks is 3"):
        read_release(_rewritten(tmp_path, lambda record: record.update(looks=3)))
    odd: Any = 2
    with pytest.raises(ReleaseError, match="looks is 2"):
        write_release(tmp_path, replace(RELEASE, looks=odd))


def test_a_point_is_chosen_by_its_name() -> None:
    assert RELEASE.classes.point().name == "balanced"
    assert RELEASE.classes.point("sensitivity95").threshold == 0.1
    with pytest.raises(ReleaseError, match="one of balanced, sensitivity95"):
        RELEASE.classes.point("sensitivity99")


def _point(key: str, value: object) -> Any:
    return lambda r: r["classes"]["operating_points"][1].update({key: value})


def _member(key: str, value: object) -> Any:
    return lambda r: r["classes"]["members"][0].update({key: value})


def _withheld(value: object) -> Any:
    return lambda r: r["classes"].update(measured={"withheld": value})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(format=2), "has format 2"),
        (lambda r: r.pop("masks"), r"masks is missing\. Expected: the keys name, classes"),
        (lambda r: r.pop("gate"), r"gate is missing\. Expected: the keys name, classes"),
        (lambda r: r["classes"].update(extra=1), r"no key .classes\.extra.* of classes\.members"),
        (lambda r: r.update({f"\x1b{n}": 1 for n in range(99)}), r"no key .'\\x1b0'."),
        (lambda r: r["classes"].update(members=3), "members is 3. Expected: a list"),
        (lambda r: r["masks"].update(members=[]), "masks add up to 0"),
        (lambda r: r.update(gate=4), "gate is 4. Expected: a table of keys and values or"),
        (_member("weight", 0.9), r"the weights of classes add up to 1\.5"),
        (_member("weight", "x"), "weight is 'x'. Expected: a number"),
        (_member("weight", math.nan), r"members\.0\.weight is nan\. Expected: a finite number"),
        (_member("weight", 3.0), r"members\.0\.weight is 3\.0\. Expected: a number from 0 to 1"),
        (_member("weight", -2.0), r"weight is -2\.0\. Expected: a number from 0 to 1"),
        (_member("weight", 10**400), "weight is 1000.*Expected: a number from 0 to 1"),
        (_member("name", "b"), "members holds 2, 1 of different names"),
        (_member("name", "Release"), "Expected: a name other than"),
        (lambda r: r["masks"].update(threshold=math.inf), "threshold is inf. Expected: a finite"),
        (lambda r: r["masks"].update(threshold=2), r"masks\.threshold is 2\. Expected: .* 0 to 1"),
        (lambda r: r["classes"]["calibration"].update(temperature=0), "temperature is 0"),
        (lambda r: r["classes"]["calibration"].update(temperature=1e-300), "temperature is 1e-300"),
        (lambda r: r["classes"]["calibration"].update(bias=1e300), r"bias is 1e\+300"),
        (lambda r: r["classes"].update(default_point="none"), 'called "none"'),
        (_point("threshold", -0.5), r"operating_points\.1\.threshold is -0\.5"),
        (_point("name", "balanced"), "holds 2, 1 of different names"),
        (_point("name", "a\x1b[2J"), r"'a\\x1b\[2J'"),
        (_point("sensitivity", {"value": 0, "low": 0, "high": 1.5}), r"sensitivity\.high is 1\.5"),
        (lambda r: r["gate"].update(threshold=-1), r"gate\.threshold is -1"),
        (lambda r: r["gate"].update(sha256="0"), r"gate\.sha256 is '0'\. Expected: a SHA-256"),
        (lambda r: r["gate"].update(sha256="0" * 64 + "\n"), "a SHA-256: 64 hexadecimal"),
        (lambda r: r.update(looks=10**9), "looks is 1000000000. Expected: one of 1, 4, 8"),
        (lambda r: r.update(name="a\nb"), r"name is 'a\\nb'"),
        (_withheld(3), r"json: classes\.measured\.withheld is 3"),
        (
            _withheld({"operating_points": {"balanced": {"sensitivity": {}}}}),
            r"json: classes.measured.*\.balanced\.sensitivity\.value is missing",
        ),
    ],
)
def test_a_record_that_does_not_add_up_is_refused_by_its_key(
    change: Any, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ReleaseError, match=message) as caught:
        read_release(_rewritten(tmp_path, change))
    assert len(str(caught.value)) < 600
    assert "\x1b" not in str(caught.value)


def test_a_folder_that_is_no_release_is_named(tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="is no release"):
        read_release(tmp_path)
    with pytest.raises(ReleaseError, match="is missing"):
        read_release(tmp_path / "none")


def test_temperature_divides_the_logit_and_the_bias_moves_it() -> None:
    calibrated = Calibration(temperature=2.0, bias=-math.log(4.0))
    # odds 16 -> sqrt(16) = 4 -> 4 / 4 = 1
    assert calibrated([16 / 17])[0] == pytest.approx(0.5)
    assert Calibration(1.0, 0.0)([0.25]).tolist() == pytest.approx([0.25])


@given(st.floats(-700, 700), st.floats(0.001, 0.999), st.floats(0.5, 10), st.floats(-5, 5))
def test_no_logit_overflows_and_the_order_of_scores_is_kept(
    logit: float, score: float, temperature: float, bias: float
) -> None:
    assert 0.0 <= probability_of(logit) <= 1.0
    low, high = Calibration(temperature, bias)([score * 0.99, score])
    assert low < high


def test_certain_scores_have_finite_logits() -> None:
    assert np.isfinite(logit_of([0.0, 1.0])).all()
    assert logit_of(0.5) == pytest.approx(0.0)


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_small_release(tmp_path / "release", with_gate=True)


def test_the_files_that_the_release_names_travel(release: Path, tmp_path: Path) -> None:
    (release / "notes.txt").write_text("not of the release")
    parcel = pack_release(release)
    networks = {
        f"{name}.{end}" for name in ("reds-a", "reds-b", "greens") for end in ("json", "onnx")
    }
    assert set(parcel.files) == {"release.json", "dermoscopy.npz"} | networks
    (tmp_path / "there").mkdir()
    parcel.unpack(tmp_path / "there", digest=parcel.digest)
    assert pack_release(tmp_path / "there") == parcel


def test_a_changed_byte_is_another_digest_and_is_not_unpacked(
    release: Path, tmp_path: Path
) -> None:
    parcel = pack_release(release)
    changed = replace(parcel, files={**parcel.files, "greens.onnx": b"changed"})
    with pytest.raises(ReleaseError, match="came with SHA-256"):
        changed.unpack(tmp_path, digest=parcel.digest)
    assert not (tmp_path / "greens.onnx").exists()


def test_a_file_that_is_gone_is_named(release: Path) -> None:
    (release / "reds-b.onnx").unlink()
    with pytest.raises(ReleaseError, match=r"reds-b\.onnx is missing"):
        pack_release(release)
