"""Fitting what tells dermoscopy from other images, and measuring how well it does.

Of the images that are not dermoscopy, photographs come with scikit-image; noise, documents and
clinical views (a body part seen from a distance, a mole on it) are drawn from a seed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.data.synthetic import draw_lesion
from dermfuse.errors import DependencyError, installing
from dermfuse.imaging.preprocess import read_image
from dermfuse.imaging.quality import appearance
from dermfuse.imaging.symmetries import Looks
from dermfuse.publishing.measured import FoldAnswers, each_image, embed
from dermfuse.release.folder import Gate
from dermfuse.release.gate import EMBEDDING_AXES, Dermoscopy, fit_cloud, write_dermoscopy
from dermfuse.release.networks import Network

Pixels = NDArray[np.uint8]

_CROPS = 4  # of each photograph, beside the whole
_NOT_PHOTOGRAPHS = frozenset({"page", "text", "logo", "phantom", "horse", "multipage"})
_DRAWN = 40
_LETTERS = "abcdefghijklmnopqrstuvwxyz      .,"

FLAGGED_DERMOSCOPY = 0.04
"""Share of held-back dermoscopy, of either class, that the threshold lets be flagged."""
MALIGNANT_SHARES = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""How much malignant images may count in where dermoscopy lies, to choose from."""
FILE_NAME = "dermoscopy.npz"

Features = NDArray[np.float32]
Distances = NDArray[np.float64]


def other_images(*, seed: int = 0) -> Mapping[str, list[Pixels]]:
    """Returns images that are not dermoscopy, by kind.

    Args:
        seed: Seed of the drawings and of the crops.

    Raises:
        DependencyError: scikit-image, whose photographs are used, is not installed.
    """
    rng = np.random.default_rng(seed)
    photographs, pages = _photographs(rng)
    return {
        "photographs": photographs,
        "documents": pages + [draw_page(rng) for _ in range(_DRAWN)],
        "noise": [draw_noise(rng) for _ in range(_DRAWN)],
        "clinical views": [draw_clinical_view(rng) for _ in range(_DRAWN)],
    }


def draw_page(rng: np.random.Generator) -> Pixels:
    """Returns a page of dark letters on light paper, (H, W, 3)."""
    width, height = (int(side) for side in rng.integers(240, 480, 2))
    paper = tuple(int(value) for value in rng.integers(215, 256, 3))
    page = Image.new("RGB", (width, height), paper)
    pen, step = ImageDraw.Draw(page), int(rng.integers(11, 22))
    for y in range(int(rng.integers(6, 30)), height - 8, step):
        letters = "".join(rng.choice(list(_LETTERS), int(rng.integers(20, width // 5))))
        pen.text((int(rng.integers(6, 20)), y), letters, fill=(25, 25, 35))
    return np.asarray(page)


def draw_noise(rng: np.random.Generator) -> Pixels:
    """Returns noise, fine or coarse, or one flat colour, (H, W, 3)."""
    cells = int(rng.choice([1, 8, 120]))
    size = (160, 120)
    small = rng.integers(0, 256, (max(1, cells), max(1, cells * 4 // 3), 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize(size, Image.Resampling.BICUBIC))


def draw_clinical_view(rng: np.random.Generator) -> Pixels:
    """Returns a limb before a plain background with a small mole on it, (H, W, 3)."""
    width, height = 400, 300
    cloth = Image.new("RGB", (width, height), tuple(int(v) for v in rng.integers(30, 230, 3)))
    drawn = draw_lesion(
        rng, label=Label(int(rng.integers(2))), size_px=(width, height), interferences=frozenset()
    )
    skin_colour = tuple(int(v) for v in np.median(drawn.image[~drawn.mask], axis=0))
    limb = Image.new("L", (width, height), 0)
    thickness = int(rng.integers(110, 200))
    ends = [(-40, int(rng.integers(60, 240))), (width + 40, int(rng.integers(60, 240)))]
    ImageDraw.Draw(limb).line(ends, fill=255, width=thickness)
    limb = limb.filter(ImageFilter.GaussianBlur(2))
    shade = np.asarray(limb.filter(ImageFilter.GaussianBlur(30)), dtype=np.float32)[:, :, None]
    lit = np.array(skin_colour, dtype=np.float32) * (0.45 + 0.65 * shade / 255)
    skin = Image.fromarray(np.clip(lit, 0, 255).astype(np.uint8))
    small = Image.fromarray(drawn.image).resize((width // 8, height // 8))
    spot = Image.fromarray(drawn.mask.astype(np.uint8) * np.uint8(255)).resize(small.size)
    skin.paste(small, (width // 2 - 25, (ends[0][1] + ends[1][1]) // 2 - 18), spot)
    cloth.paste(skin, (0, 0), limb)
    return np.asarray(cloth)


def fit_gate(
    folds: Sequence[FoldAnswers],
    networks: Sequence[Network],
    lesions: Sequence[Lesion],
    out: Path,
    *,
    looks: Looks,
) -> tuple[Gate, dict[str, bool]]:
    """Writes what dermoscopy looks like to the networks that ship, and returns the gate.

    The threshold comes from the folds: each fold's images are fitted to, those it held back are
    measured. Malignant lesions are the scarcer and the odder ones: a cloud of all images alike
    would withhold more of them. So they count for more, by the share at which both classes lie
    equally far. What other images do is measured with the networks that ship.

    Args:
        folds: What the class networks of each fold answered.
        networks: The class networks that ship, in the same order.
        lesions: The images they were trained on.
        out: The release folder.
        looks: Number of orientations of an image the networks look.

    Returns:
        The gate, and whether each held-back image is unlike those learnt from, by its id; share
        and threshold for a fold were chosen on the others.
    """
    in_folds = [one for fold in folds for one in (*fold.held_back, *fold.trained_on)]
    once = {lesion.image_id: lesion for lesion in (*lesions, *in_folds)}
    found = each_image(lambda lesion: appearance(read_image(lesion.image_path)), once.values())
    appearances = dict(zip(once, found, strict=True))
    measured = {
        share: [_measure_fold(fold, appearances, share) for fold in folds]
        for share in MALIGNANT_SHARES
    }
    share = _fairest(measured)
    ratios = np.mean([fold.ratios for fold in measured[share]], axis=0)
    known = _fit(embed(networks, lesions, looks=looks), lesions, appearances, share)
    dermoscopy = _scaled(known, ratios)
    threshold = float(np.mean(_limits(measured[share])))
    withheld = _withhold(measured, [fold.held_back for fold in folds])
    told = {"dermoscopy held back": _flagged(np.array(list(withheld.values())))}
    for kind, images in other_images(seed=0).items():
        embeddings = embed(networks, images, looks=looks)
        distances = dermoscopy.distance(embeddings, np.stack([appearance(i) for i in images]))
        told[kind] = _flagged(distances > threshold)
    digest = write_dermoscopy(out / FILE_NAME, dermoscopy)
    return Gate(FILE_NAME, digest, threshold, told), withheld


def _photographs(rng: np.random.Generator) -> tuple[list[Pixels], list[Pixels]]:
    """Returns scikit-image's photographs, whole and in parts, and its pages of text."""
    found = find_spec("skimage")
    if found is None or found.origin is None:
        raise DependencyError(
            "scikit-image is not installed, whose photographs are needed",
            action=installing("export"),
        )
    folder = Path(found.origin).parent / "data"
    photographs: list[Pixels] = []
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg")]):
        if path.stem not in _NOT_PHOTOGRAPHS:
            image = read_image(path)
            photographs += [image, *(_crop(rng, image) for _ in range(_CROPS))]
    return photographs, [read_image(folder / f"{name}.png") for name in ("page", "text")]


def _crop(rng: np.random.Generator, image: Pixels) -> Pixels:
    height, width = (round(side * rng.uniform(0.4, 0.8)) for side in image.shape[:2])
    top, left = (
        int(rng.integers(0, whole - part + 1))
        for whole, part in zip(image.shape[:2], (height, width), strict=True)
    )
    return np.ascontiguousarray(image[top : top + height, left : left + width])


@dataclass(frozen=True, slots=True, eq=False)
class _HeldBack:
    """Distances of one fold's images, which were neither trained on nor fitted to.

    Attributes:
        distances: (N,)
        malignant: (N,)
        ratios: How much farther they lie than the images that were fitted to, in the median:
            their embeddings and their appearance.
    """

    distances: Distances
    malignant: NDArray[np.bool_]
    ratios: Distances


def _measure_fold(
    fold: FoldAnswers, appearances: Mapping[str, Features], share: float
) -> _HeldBack:
    known = _fit(fold.seen, fold.trained_on, appearances, share)
    looks = _rows(appearances, fold.held_back)
    pairs = ((known.embedding, fold.new), (known.appearance, looks))
    ratios = np.array([np.median(cloud.distance(rows)) for cloud, rows in pairs])
    distances = _scaled(known, ratios).distance(fold.new, looks)
    return _HeldBack(distances, _malignant(fold.held_back), ratios)


def _fit(
    embeddings: Features,
    lesions: Sequence[Lesion],
    appearances: Mapping[str, Features],
    share: float,
) -> Dermoscopy:
    """Returns where images lie, of which the malignant ones make up ``share`` of the whole."""
    weights = _weigh(lesions, share)
    looks = _rows(appearances, lesions)
    return Dermoscopy(
        fit_cloud(embeddings, weights=weights, axes=EMBEDDING_AXES),
        fit_cloud(looks, weights=weights, axes=looks.shape[1]),
    )


def _rows(appearances: Mapping[str, Features], lesions: Sequence[Lesion]) -> Features:
    return np.stack([appearances[lesion.image_id] for lesion in lesions])


def _scaled(known: Dermoscopy, ratios: Distances) -> Dermoscopy:
    embedding, look = ratios.tolist()
    return Dermoscopy(known.embedding.scaled(embedding), known.appearance.scaled(look))


def _malignant(lesions: Sequence[Lesion]) -> NDArray[np.bool_]:
    return np.array([lesion.label == Label.MALIGNANT for lesion in lesions])


def _weigh(lesions: Sequence[Lesion], share: float) -> Distances:
    """Returns weights under which malignant images make up ``share`` of the whole."""
    malignant = _malignant(lesions)
    if malignant.all() or not malignant.any():
        return np.ones(len(lesions))
    each = (share / malignant.sum(), (1.0 - share) / (~malignant).sum())
    return np.asarray(np.where(malignant, *each), dtype=np.float64)


def _fairest(measured: Mapping[float, Sequence[_HeldBack]]) -> float:
    """Returns the share at which the limits of both classes lie closest together."""
    return min(measured, key=lambda share: float(np.ptp(_limits(measured[share]))))


def _limits(folds: Sequence[_HeldBack]) -> list[float]:
    """Returns the distance that few images of each class pass; their mean is the threshold."""
    distances = np.concatenate([fold.distances for fold in folds])
    malignant = np.concatenate([fold.malignant for fold in folds])
    return [
        float(np.quantile(distances[of], 1.0 - FLAGGED_DERMOSCOPY))
        for of in (malignant, ~malignant)
        if of.any()
    ]


def _withhold(
    measured: Mapping[float, Sequence[_HeldBack]], held_back: Sequence[Sequence[Lesion]]
) -> dict[str, bool]:
    """Returns which held-back images are withheld by a share and threshold of other folds.

    With one hold-out there is no other fold, and both are chosen on its own images.
    """
    withheld: dict[str, bool] = {}
    for index, lesions in enumerate(held_back):
        others = {
            share: [fold for i, fold in enumerate(folds) if i != index] or list(folds)
            for share, folds in measured.items()
        }
        share = _fairest(others)
        over = measured[share][index].distances > np.mean(_limits(others[share]))
        withheld |= {x.image_id: bool(one) for x, one in zip(lesions, over, strict=True)}
    return withheld


def _flagged(flagged: NDArray[np.bool_]) -> dict[str, float]:
    return {"images": flagged.size, "flagged": float(flagged.mean())}
