import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dermfuse.errors import ReleaseError
from dermfuse.records.folders import NOTICE
from dermfuse.release import folder
from dermfuse.release.folder import Calibration, pack_release, read_release, write_release

from ..small_release import write_small_release


def test_what_is_written_is_read(tmp_path: Path) -> None:
    small = read_release(write_small_release(tmp_path, with_gate=True))
    full = replace(small, looks=8, facts={"data": "drawn"})
    for release in (replace(full, gate=None), full):
        path = write_release(tmp_path, release)
        assert read_release(tmp_path) == release
    record = json.loads(path.read_text())
    assert record["notice"] == NOTICE
    del record["looks"]
    path.write_text(json.dumps(record))
    assert read_release(tmp_path) == replace(full, looks=1), "of before there were looks"
    with pytest.raises(ReleaseError, match="looks is 2"):
        write_release(tmp_path, replace(full, looks=2))
    assert small.classes.point().name == "balanced"
    with pytest.raises(ReleaseError, match="one of balanced, sensitivity95"):
        small.classes.point("sensitivity99")


def test_a_folder_that_is_no_release_is_named(tmp_path: Path) -> None:
    for path, said in ((tmp_path, "is no release"), (tmp_path / "none", "is missing")):
        with pytest.raises(ReleaseError, match=said):
            read_release(path)
    for content in ('{"format": 1, "format": 1}', '{"format": ' + "9" * 5000 + "}", "[" * 9999):
        (tmp_path / "release.json").write_text(content)
        with pytest.raises(ReleaseError, match=r"release\.json"):
            read_release(tmp_path)


@given(st.floats(-700, 700), st.floats(0.001, 0.999), st.floats(0.5, 10), st.floats(-5, 5))
def test_temperature_divides_the_logit_the_bias_moves_it_and_the_order_is_kept(
    logit: float, score: float, temperature: float, bias: float
) -> None:
    low, high = Calibration(temperature, bias)([score * 0.99, score])
    assert low < high
    assert 0.0 <= folder.probability_of(logit) <= 1.0, "no overflow"
    assert np.isfinite(folder.logit_of([0.0, 1.0])).all()
    # odds 16 -> sqrt(16) = 4 -> 4 / 4 = 1
    assert Calibration(2.0, -math.log(4.0))([16 / 17])[0] == pytest.approx(0.5)


def test_the_files_that_the_release_names_travel_unchanged(tmp_path: Path) -> None:
    release, there = write_small_release(tmp_path / "release", with_gate=True), tmp_path / "there"
    (release / "notes.txt").write_text("not of the release")
    there.mkdir()
    parcel = pack_release(release)
    networks = {
        f"{name}.{end}" for name in ("reds-a", "reds-b", "greens") for end in ("json", "onnx")
    }
    assert set(parcel.files) == {"release.json", "dermoscopy.npz"} | networks
    changed = replace(parcel, files={**parcel.files, "greens.onnx": b"changed"})
    with pytest.raises(ReleaseError, match="came with SHA-256"):
        changed.unpack(there, digest=parcel.digest)
    assert not list(there.iterdir())
    parcel.unpack(there, digest=parcel.digest)
    assert pack_release(there) == parcel
    (release / "reds-b.onnx").unlink()
    with pytest.raises(ReleaseError, match=r"reds-b\.onnx is missing"):
        pack_release(release)
