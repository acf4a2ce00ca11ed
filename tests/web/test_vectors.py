"""The vectors that the app's own tests read; DERMFUSE_WRITE_VECTORS=1 writes them anew."""

import base64
import json
import os
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.imaging.preprocess import squeeze
from dermfuse.release.folder import read_release
from dermfuse.web.vectors import make_vectors, write_vectors

from ..small_release import SIZE
from .releases import write_release_for_drawings

KEPT = Path(__file__).parents[2] / "web" / "tests" / "vectors.json"
FAR = 50_000.0
"""All but one of the drawn images lie nearer to the small release's dermoscopy."""


@pytest.fixture(scope="module")
def vectors(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("vectors")
    release = write_release_for_drawings(folder / "small", threshold=FAR)
    path, images = write_vectors(folder / "out", release=release)
    found: dict[str, Any] = json.loads(path.read_text())
    assert images == len(found["images"])
    return found


def test_the_kept_vectors_are_those_of_today(vectors: dict[str, Any]) -> None:
    if os.environ.get("DERMFUSE_WRITE_VECTORS"):
        KEPT.write_text(json.dumps(vectors, separators=(",", ":")) + "\n")
    kept = json.loads(KEPT.read_text())
    assert [image["name"] for image in kept["images"]] == [i["name"] for i in vectors["images"]]
    assert kept["looks"] == vectors["looks"] == 1
    for old, new in zip(kept["images"], vectors["images"], strict=True):
        assert old.keys() == new.keys()
        assert old["analysis"].keys() == new["analysis"].keys()
        for key in ("rgb", "mask"):
            np.testing.assert_array_equal(_bytes(old[key]), _bytes(new[key]))
        assert old["reduced_sha256"] == new["reduced_sha256"]
        assert old["appearance"] == pytest.approx(new["appearance"], abs=1e-5)
        measures = [_numbers(each["analysis"]["measures"]) for each in (old, new)]
        assert measures[0] == pytest.approx(measures[1], abs=1e-4)


def test_every_stage_follows_from_the_pixels(vectors: dict[str, Any]) -> None:
    for image in vectors["images"]:
        pixels = _bytes(image["rgb"])
        square = _bytes(image["squeezed"][str(SIZE)])
        np.testing.assert_array_equal(square, squeeze(pixels, SIZE))
        assert _bytes(image["mask"]).shape == pixels.shape[:2]
        assert image["answers"].keys() == {"reds-a", "reds-b", "greens"}
    kinds = {image["analysis"]["dermoscopy"] for image in vectors["images"]}
    assert kinds == {True, False}


def test_answers_are_means_over_looks_from_which_the_record_follows(tmp_path: Path) -> None:
    release = write_release_for_drawings(tmp_path / "small", threshold=1e9, looks=8)
    vectors = make_vectors(release)
    assert vectors["looks"] == vectors["release"]["looks"] == 8
    members = vectors["release"]["classes"]["members"]
    weights = np.array([member["weight"] for member in members])
    calibration = read_release(release).classes.calibration
    for image in vectors["images"]:
        names = [member["name"] for member in members]
        apart = np.stack([_floats(image["malignant_by_look"][name]) for name in names])
        assert apart.shape == (2, 8)
        assert image["malignant_by_look"].keys() == set(names)
        means = [float(_floats(image["answers"][name]["malignant"])) for name in names]
        assert apart.mean(axis=1) == pytest.approx(means, abs=1e-6)
        record = image["analysis"]
        assert list(record["scores"].values()) == pytest.approx(means, abs=2e-6)
        each = calibration(apart)
        variance = weights @ ((each - weights @ each.mean(axis=1)) ** 2).mean(axis=1)
        assert record["looks"] == 8
        assert record["uncertainty"] == pytest.approx(variance**0.5, abs=1e-5)
        lesion = _floats(image["answers"]["greens"]["lesion"])
        assert set(np.unique(lesion)) <= {0.0, 0.5}, "two of four quarter turns see it"
    assert any(image["analysis"]["uncertainty"] > 1e-3 for image in vectors["images"])


def _bytes(packed: dict[str, Any]) -> np.ndarray:
    content = zlib.decompress(base64.b64decode(packed["zlib"]))
    return np.frombuffer(content, np.uint8).reshape(packed["shape"])


def _floats(packed: dict[str, Any]) -> np.ndarray:
    content = base64.b64decode(packed["float32"])
    return np.frombuffer(content, "<f4").reshape(packed["shape"])


def _numbers(value: Any, path: str = "") -> dict[str, float | None]:
    """Returns the numbers of nested JSON by where they stand."""
    if not isinstance(value, dict | list | tuple):
        return {path: value}
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return {k: v for key, each in items for k, v in _numbers(each, f"{path}.{key}").items()}
