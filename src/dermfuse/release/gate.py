"""How far an image lies from those the networks learnt from; what lies too far is withheld.

Two things are looked at: the embeddings of the class networks, each brought to length 1 (what is
far from skin excites few of their features, so its embedding is short rather than odd), and plain
statistics of the image, ``dermfuse.imaging.quality``. Each gives a Mahalanobis distance; both
are added in squares.
"""

import hashlib
import io
import lzma
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.errors import ReleaseError
from dermfuse.records.folders import atomic_write
from dermfuse.release.cards import read_file
from dermfuse.release.folder import Gate

EMBEDDING_AXES = 64
"""Principal axes that are kept of the embeddings."""
APPEARANCE_WEIGHT = 0.5
"""Of the appearance's distance beside the embeddings', before both are squared."""

_MOST_BYTES = 256 << 20  # of a gate's arrays
_ABOVE_0 = float(np.finfo(np.float32).smallest_subnormal)
_RIDGE = 0.1  # of the unit variance of a standardised feature: keeps tiny axes from ruling

Features = NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class Cloud:
    """Where the features of dermoscopy lie: a Gaussian, flat outside its leading axes.

    Args:
        mean: Mean of each feature. (F,)
        scale: Standard deviation of each. (F,)
        axes: Leading principal axes of the standardised features, as rows. (K, F)
        variance: Along each axis. (K,)
        rest: Mean variance outside of the axes. (1,)
        typical: Distance of a typical held-back image. (1,)
    """

    mean: Features
    scale: Features
    axes: Features
    variance: Features
    rest: Features
    typical: Features

    def distance(self, features: NDArray[np.floating]) -> NDArray[np.float64]:
        """Returns the Mahalanobis distance of rows of features, 1 where it is typical.

        Args:
            features: One row per image. (N, F)

        Returns:
            (N,)

        Raises:
            ReleaseError: The cloud is one of other features.
        """
        if features.shape[1:] != self.mean.shape:
            raise ReleaseError(
                f"the gate of the release is for {len(self.mean)} features",
                expected=f"{features.shape[1]}, as many as there are",
                action="Use the files of one release together",
            )
        z = (features.astype(np.float64) - self.mean) / self.scale
        # Not @: BLAS would wake threads for it, whose waiting costs more than the product.
        along = np.einsum("nf,kf->nk", z, self.axes.astype(np.float64))
        outside = np.maximum((z**2).sum(axis=1) - (along**2).sum(axis=1), 0.0)
        squared = (along**2) @ (1.0 / (self.variance.astype(np.float64) + _RIDGE))
        squared += outside / (float(self.rest[0]) + _RIDGE)
        return np.asarray(np.sqrt(squared / z.shape[1]) / float(self.typical[0]))

    def scaled(self, distance: float) -> "Cloud":
        """Returns the cloud in whose units what lay at ``distance`` is typical: 1."""
        return replace(self, typical=self.typical * np.float32(distance))


@dataclass(frozen=True, slots=True, eq=False)
class Dermoscopy:
    """Where the images learnt from lie, for the networks and for plain statistics.

    Args:
        embedding: Where the joined embeddings lie (``join_embeddings``).
        appearance: Where ``dermfuse.imaging.quality.appearance`` lies.
    """

    embedding: Cloud
    appearance: Cloud

    def distance(
        self, embeddings: NDArray[np.floating], appearances: NDArray[np.floating]
    ) -> NDArray[np.float64]:
        """Returns how far images lie from those learnt from; about 1 is typical of them.

        Args:
            embeddings: One row per image. (N, E)
            appearances: One row per image. (N, F)

        Returns:
            (N,)
        """
        both = np.hypot(
            self.embedding.distance(embeddings),
            APPEARANCE_WEIGHT * self.appearance.distance(appearances),
        )
        return np.asarray(both / np.hypot(1.0, APPEARANCE_WEIGHT))


def join_embeddings(embeddings: Sequence[NDArray[np.floating]]) -> Features:
    """Returns the embeddings of several networks, each of length 1, side by side.

    Args:
        embeddings: Each network's, (N, E) or (E,); N is the same in all.
    """
    parts = []
    for one in embeddings:
        length = np.linalg.norm(one, axis=-1, keepdims=True)
        parts.append(one / np.maximum(length, 1e-12))
    return np.concatenate(parts, axis=-1).astype(np.float32)


def fit_cloud(
    features: NDArray[np.floating], *, axes: int, weights: NDArray[np.float64] | None = None
) -> Cloud:
    """Returns where features lie.

    Args:
        features: One row per image. (N, F)
        axes: Principal axes that are kept, at most N - 1 and F.
        weights: How much each image counts, above 0; all alike if left out. (N,)

    Returns:
        The cloud; typical is the median distance of the images themselves, which look nearer than
        new ones do: ``Cloud.scaled`` corrects that where others are known.
    """
    values = features.astype(np.float64)
    share = np.ones(len(values)) if weights is None else weights
    share = share / share.sum()
    mean = share @ values
    scale = np.sqrt(share @ (values - mean) ** 2) + 1e-6
    z = (values - mean) / scale
    spread = np.sqrt(share * len(values))[:, None]
    _, singular, rows = np.linalg.svd(spread * z, full_matrices=False)
    kept = min(axes, len(values) - 1, z.shape[1])
    variance = singular**2 / len(values)
    left = z.shape[1] - kept
    rest = float(variance[kept:].sum() / left) if left else 1.0
    parts = (mean, scale, rows[:kept], variance[:kept], np.array([rest]), np.ones(1))
    cloud = Cloud(*(part.astype(np.float32) for part in parts))
    return cloud.scaled(float(np.median(cloud.distance(features))))


def write_dermoscopy(path: Path, found: Dermoscopy) -> str:
    """Writes the arrays and returns the SHA-256 of the file.

    Raises:
        StorageError: It cannot be written.
    """
    arrays = {
        f"{part.name}.{array.name}": getattr(getattr(found, part.name), array.name)
        for part in fields(Dermoscopy)
        for array in fields(Cloud)
    }
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)
    with atomic_write(path) as file:
        file.write(buffer.getvalue())
    return hashlib.sha256(buffer.getvalue()).hexdigest()


def read_dermoscopy(folder: Path, gate: Gate) -> Dermoscopy:
    """Returns the arrays of a release's gate.

    Raises:
        ReleaseError: The file is missing, is not the one of the release, or holds other arrays.
    """
    content = read_file(folder, gate.file, sha256=gate.sha256, most_bytes=_MOST_BYTES)
    return parse_dermoscopy(content, str(folder / gate.file))


def parse_dermoscopy(content: bytes, source: str) -> Dermoscopy:
    """Returns the arrays in the content of a gate's file; nothing is unpickled.

    Args:
        content: The file.
        source: Its path, for messages.

    Raises:
        ReleaseError: It holds other arrays, or arrays of another shape, type or range.
    """
    parts, names = fields(Dermoscopy), [array.name for array in fields(Cloud)]
    expected = "the arrays that dermfuse writes"
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = {member.filename: member.file_size for member in archive.infolist()}
        if found.keys() != {f"{part.name}.{name}.npy" for part in parts for name in names}:
            raise ReleaseError(f"{source} holds other arrays", expected=expected)
        if sum(found.values()) > _MOST_BYTES:
            raise ReleaseError(
                f"{source} holds too large arrays", expected=f"{_MOST_BYTES >> 20} MiB or less"
            )
        with np.load(io.BytesIO(content), allow_pickle=False) as loaded:
            arrays = {name: loaded[name] for name in loaded.files}
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, MemoryError),
        *(ValueError, NotImplementedError, RuntimeError),  # RuntimeError: with a password
    ) as error:
        raise ReleaseError(f"{source} cannot be read ({error})", expected=expected) from error
    clouds = {}
    for part in parts:
        of = {name: arrays[f"{part.name}.{name}"] for name in names}
        _check_cloud(of, f"{source}: {part.name}")
        clouds[part.name] = Cloud(**of)
    return Dermoscopy(**clouds)


def _check_cloud(arrays: Mapping[str, Features], source: str) -> None:
    """Refuses arrays that are no cloud: their shapes, as ``Cloud`` says them, and their ranges."""
    axes = arrays["axes"].shape
    count, features = axes if len(axes) == 2 else (0, 0)
    wanted = {"mean": (features,), "scale": (features,), "axes": (count, features)}
    wanted |= {"variance": (count,), "rest": (1,), "typical": (1,)}
    lowest = {"scale": _ABOVE_0, "typical": _ABOVE_0, "variance": 0.0, "rest": 0.0}
    for name, array in arrays.items():
        if array.dtype != np.float32 or array.shape != wanted[name] or not features:
            raise ReleaseError(
                f"{source}.{name} is {array.dtype} of shape {array.shape}",
                expected="float32: mean and scale (F,), axes (K, F), variance (K,), "
                "rest and typical (1,)",
            )
        low = float(array.min(initial=np.inf))
        if not np.isfinite(array).all() or low < lowest.get(name, low):
            raise ReleaseError(
                f"{source}.{name} holds {low:g} at its lowest",
                expected="finite numbers, scale and typical above 0, variance and rest 0 or more",
            )
