from pathlib import Path

import numpy as np
import pytest

from dermfuse.analysis.gate import (
    Dermoscopy,
    fit_cloud,
    join_embeddings,
    read_dermoscopy,
    write_dermoscopy,
)
from dermfuse.errors import ReleaseError
from dermfuse.release.folder import Gate


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


def test_embeddings_are_joined_at_length_one() -> None:
    joined = join_embeddings([np.array([[3.0, 4.0]]), np.array([[0.0, 7.0]])])
    assert joined[0].tolist() == pytest.approx([0.6, 0.8, 0.0, 1.0])
    assert np.isfinite(join_embeddings([np.zeros((1, 2))])).all()


def test_both_distances_are_added_in_squares() -> None:
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
    with pytest.raises(ReleaseError, match="SHA-256 differs"):
        read_dermoscopy(tmp_path, gate)
    path.unlink()
    with pytest.raises(ReleaseError, match="cannot be read"):
        read_dermoscopy(tmp_path, gate)


def test_an_image_of_double_weight_is_as_two_of_them() -> None:
    rows = np.random.default_rng(0).normal(size=(12, 3))
    twice = fit_cloud(np.concatenate([rows, rows[:4]]), axes=2)
    weighted = fit_cloud(rows, axes=2, weights=np.where(np.arange(12) < 4, 2.0, 1.0))
    assert weighted.mean == pytest.approx(twice.mean, rel=1e-5)
    assert weighted.scale == pytest.approx(twice.scale, rel=1e-5)
    assert weighted.variance == pytest.approx(twice.variance, rel=1e-4)
