import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dermfuse.errors import ReleaseError
from dermfuse.release import gate as gate_module
from dermfuse.release.folder import Gate
from dermfuse.release.gate import (
    Dermoscopy,
    fit_cloud,
    join_embeddings,
    parse_dermoscopy,
    read_dermoscopy,
    write_dermoscopy,
)


def _flat(rng: np.random.Generator, n: int) -> np.ndarray:
    """Rows of twelve features that vary in three directions, and a little in the others."""
    directions = np.eye(3, 12) * [[3.0], [2.0], [1.0]]
    return rng.normal(size=(n, 3)) @ directions + 0.05 * rng.normal(size=(n, 12)) + 5.0


def test_a_typical_image_is_at_distance_one() -> None:
    rng = np.random.default_rng(0)
    train, held_back = _flat(rng, 200), _flat(rng, 200)
    cloud = fit_cloud(train, axes=3)
    assert np.median(cloud.distance(train)) == pytest.approx(1.0, abs=1e-5)
    cloud = cloud.scaled(float(np.median(cloud.distance(held_back))))
    assert np.median(cloud.distance(held_back)) == pytest.approx(1.0, abs=1e-5)
    assert np.quantile(cloud.distance(_flat(rng, 500)), 0.95) < 2.0


def test_what_lies_off_the_axes_and_what_lies_far_along_them_are_both_far() -> None:
    rng = np.random.default_rng(0)
    cloud = fit_cloud(_flat(rng, 200), axes=3)
    centre = np.full(12, 5.0)
    off, along = centre.copy(), centre.copy()
    off[7] += 1.0  # 20 of its deviations
    along[0] += 60.0  # as much
    distances = cloud.distance(np.stack([centre, off, along]))
    assert distances[0] < 0.5
    assert min(distances[1:]) > 3.0


def test_one_feature_is_measured_in_its_deviations() -> None:
    # mean 0, deviation 1, one axis of variance 1 and no rest: |x| / sqrt(1.1) over its median
    features = np.array([[-1.0], [1.0], [-1.0], [1.0]])
    cloud = fit_cloud(features, axes=1)
    assert cloud.distance(np.array([[3.0], [0.0]])).tolist() == pytest.approx([3.0, 0.0], abs=1e-5)


def test_embeddings_are_joined_at_length_one_and_both_distances_added_in_squares() -> None:
    joined = join_embeddings([np.array([[3.0, 4.0]]), np.array([[0.0, 7.0]])])
    assert joined[0].tolist() == pytest.approx([0.6, 0.8, 0.0, 1.0])
    assert np.isfinite(join_embeddings([np.zeros((1, 2))])).all()
    rng = np.random.default_rng(1)
    a, b = fit_cloud(_flat(rng, 100), axes=3), fit_cloud(_flat(rng, 100), axes=2)
    x, y = _flat(rng, 5), _flat(rng, 5) + 1
    both = Dermoscopy(a, b).distance(x, y)
    expected = np.sqrt((a.distance(x) ** 2 + 0.25 * b.distance(y) ** 2) / 1.25)
    assert both == pytest.approx(expected)


def test_the_arrays_are_read_as_they_were_written_and_no_others(tmp_path: Path) -> None:
    rng = np.random.default_rng(2)
    found = Dermoscopy(fit_cloud(_flat(rng, 50), axes=3), fit_cloud(_flat(rng, 50), axes=2))
    path = tmp_path / "dermoscopy.npz"
    gate = Gate(path.name, write_dermoscopy(path, found), 1.5)
    x = _flat(rng, 4)
    assert read_dermoscopy(tmp_path, gate).distance(x, x).tolist() == found.distance(x, x).tolist()
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(ReleaseError, match=r"has SHA-256 .* Do not use it"):
        read_dermoscopy(tmp_path, gate)
    path.unlink()
    with pytest.raises(ReleaseError, match="is missing"):
        read_dermoscopy(tmp_path, gate)


def test_an_image_of_double_weight_is_as_two_of_them() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 3))
    twice = fit_cloud(np.concatenate([rows, rows[:4]]), axes=2)
    weighted = fit_cloud(rows, axes=2, weights=np.where(np.arange(12) < 4, 2.0, 1.0))
    assert weighted.mean == pytest.approx(twice.mean, rel=1e-5)
    assert weighted.scale == pytest.approx(twice.scale, rel=1e-5)
    assert weighted.variance == pytest.approx(twice.variance, rel=1e-4)


def _arrays() -> dict[str, np.ndarray]:
    """A gate of one feature and one axis in both clouds, as its file holds it."""
    one = np.ones(1, np.float32)
    cloud = {"mean": one, "scale": one, "axes": one[None], "variance": one, "rest": one}
    cloud["typical"] = one
    return {f"{c}.{k}": v for c in ("embedding", "appearance") for k, v in cloud.items()}


def _zipped(arrays: dict[str, np.ndarray]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("embedding.mean", np.ones(2, np.float32), r"embedding\.mean is float32 of shape \(2,\)"),
        ("embedding.axes", np.ones((2, 2, 2), np.float32), "shape"),
        ("embedding.axes", np.ones((1, 0), np.float32), "shape"),
        ("appearance.scale", np.zeros(1, np.float32), r"appearance\.scale holds 0 at its lowest"),
        ("appearance.scale", np.full(1, np.nan, np.float32), r"scale holds nan"),
        ("embedding.variance", np.full(1, -1, np.float32), r"variance holds -1 at its lowest"),
        ("embedding.rest", np.full(1, np.inf, np.float32), r"rest holds inf"),
        ("embedding.typical", np.zeros(1, np.float32), r"typical holds 0 at its lowest"),
        ("embedding.typical", np.ones(1), "typical is float64"),
        ("embedding.typical", np.array([{"code": 1}], object), "Object arrays cannot be loaded"),
        ("embedding.other", np.ones(1, np.float32), "holds other arrays"),
    ],
)
def test_arrays_that_are_no_gate_are_refused(name: str, array: np.ndarray, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        parse_dermoscopy(_zipped({**_arrays(), name: array}), "gate.npz")


@pytest.mark.parametrize("length", [1 << 32, 1 << 50])
def test_an_array_that_says_it_is_huge_takes_no_memory(length: int) -> None:
    header = io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(header, shape)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name in _arrays():
            archive.writestr(f"{name}.npy", header.getvalue())
    with pytest.raises(ReleaseError, match="cannot be read"):
        parse_dermoscopy(buffer.getvalue(), "gate.npz")


def test_what_is_no_archive_or_unpacks_to_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = _zipped(_arrays())
    for content in (b"", b"no zip", whole[:-30], whole[:40] + b"xxxx" + whole[44:]):
        with pytest.raises(ReleaseError, match=r"gate\.npz"):
            parse_dermoscopy(content, "gate.npz")
    monkeypatch.setattr(gate_module, "_MOST_BYTES", 100_000)
    packed = _zipped({**_arrays(), "embedding.mean": np.zeros(1_000_000, np.float32)})
    assert len(packed) < 10_000
    with pytest.raises(ReleaseError, match="holds too large arrays"):
        parse_dermoscopy(packed, "gate.npz")


def test_a_cloud_of_other_features_is_refused() -> None:
    cloud = parse_dermoscopy(_zipped(_arrays()), "gate.npz").embedding
    assert cloud.mean.tolist() == [1.0]
    with pytest.raises(ReleaseError, match=r"for 1 features\. Expected: 2"):
        cloud.distance(np.ones((3, 2)))
