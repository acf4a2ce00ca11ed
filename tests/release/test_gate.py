import io
import zipfile
from pathlib import Path

import numpy as np
import pytest

from dermfuse.errors import ReleaseError
from dermfuse.release import gate
from dermfuse.release.folder import Gate
from dermfuse.release.gate import Dermoscopy, fit_cloud, join_embeddings, parse_dermoscopy


def _rows(seed: int, count: int, features: int = 12) -> np.ndarray:
    return np.random.default_rng(seed).normal(5.0, np.arange(1, features + 1), (count, features))


def test_what_lies_along_the_axes_is_nearer_than_what_lies_off_them() -> None:
    # Deviations of 1; one axis of variance 2, no rest, ridge 0.1: (1, 1) is at sqrt(2 / 2.1 / 2),
    # which is typical, (1, -1) at sqrt(2 / 0.1 / 2).
    cloud = fit_cloud(np.array([[1.0, 1.0], [-1.0, -1.0]] * 2), axes=1)
    asked = np.array([[1.0, 1.0], [3.0, 3.0], [1.0, -1.0], [0.0, 0.0]])
    assert cloud.distance(asked) == pytest.approx([1.0, 3.0, np.sqrt(21.0), 0.0], rel=1e-4)
    assert cloud.scaled(2.0).distance(asked) == pytest.approx(cloud.distance(asked) / 2)
    with pytest.raises(ReleaseError, match=r"for 2 features\. Expected: 3"):
        cloud.distance(np.ones((3, 3)))


def test_an_image_of_double_weight_is_as_two_of_them() -> None:
    rows = _rows(0, 12)
    twice = fit_cloud(np.concatenate([rows, rows[:4]]), axes=2)
    weighted = fit_cloud(rows, axes=2, weights=np.where(np.arange(12) < 4, 2.0, 1.0))
    for name in ("mean", "scale", "variance"):
        assert getattr(weighted, name) == pytest.approx(getattr(twice, name), rel=1e-4)


def test_embeddings_are_joined_at_length_one_and_both_distances_added_in_squares(
    tmp_path: Path,
) -> None:
    joined = join_embeddings([np.array([[3.0, 4.0]]), np.array([[0.0, 7.0]])])
    assert joined[0].tolist() == pytest.approx([0.6, 0.8, 0.0, 1.0])
    assert np.isfinite(join_embeddings([np.zeros((1, 2))])).all()
    a, b = fit_cloud(_rows(0, 100), axes=3), fit_cloud(_rows(1, 100), axes=2)
    x, y, path = _rows(2, 5), _rows(3, 5) + 1, tmp_path / "dermoscopy.npz"
    found = np.sqrt((a.distance(x) ** 2 + 0.25 * b.distance(y) ** 2) / 1.25)
    record = Gate(path.name, gate.write_dermoscopy(path, Dermoscopy(a, b)), 1.5)
    assert gate.read_dermoscopy(tmp_path, record).distance(x, y) == pytest.approx(found)


ONE = np.ones(1, np.float32)
CLOUD = {"mean": ONE, "scale": ONE, "axes": ONE[None], "variance": ONE, "rest": ONE, "typical": ONE}
ARRAYS = {
    f"{of}.{name}": each for of in ("embedding", "appearance") for name, each in CLOUD.items()
}
"""A gate of one feature and one axis in both clouds, as its file holds it."""


def _zipped(**changed: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **{**ARRAYS, **changed})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        ("embedding.mean", np.ones(2, np.float32), r"embedding\.mean is float32 of shape \(2,\)"),
        ("appearance.scale", 0 * ONE, r"appearance\.scale holds 0 at its lowest"),
        ("embedding.variance", -ONE, r"variance holds -1 at its lowest"),
        ("embedding.typical", 0 * ONE, r"typical holds 0 at its lowest"),
        ("embedding.typical", np.ones(1), "typical is float64"),
        ("embedding.typical", np.array([{"code": 1}], object), "Object arrays cannot be loaded"),
        ("embedding.other", ONE, "holds other arrays"),
    ],
)
def test_arrays_that_are_no_gate_are_refused(name: str, array: np.ndarray, message: str) -> None:
    with pytest.raises(ReleaseError, match=message):
        parse_dermoscopy(_zipped(**{name: array}), "gate.npz")


def test_what_is_no_archive_or_unpacks_to_too_much_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole, header, stating = _zipped(), io.BytesIO(), io.BytesIO()
    shape = {"descr": "<f4", "fortran_order": False, "shape": (1 << 50,)}
    np.lib.format.write_array_header_1_0(header, shape)
    with zipfile.ZipFile(stating, "w") as archive:
        for name in ARRAYS:
            archive.writestr(f"{name}.npy", header.getvalue())
    damaged = (b"", b"no zip", whole[:-30], whole[:40] + b"xxxx" + whole[44:])
    for content in (*damaged, stating.getvalue()):
        with pytest.raises(ReleaseError, match=r"gate\.npz cannot be read"):
            parse_dermoscopy(content, "gate.npz")
    monkeypatch.setattr(gate, "_MOST_BYTES", 100_000)
    packed = _zipped(**{"embedding.mean": np.zeros(1_000_000, np.float32)})
    assert len(packed) < 10_000
    with pytest.raises(ReleaseError, match="holds too large arrays"):
        parse_dermoscopy(packed, "gate.npz")
