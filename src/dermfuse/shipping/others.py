"""Images that are not dermoscopy, to measure how many of them are told apart.

Photographs come with scikit-image; noise, documents and clinical views (a body part seen from a
distance, a mole on it) are drawn from a seed.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from dermfuse.data.synthetic import draw_lesion
from dermfuse.errors import DependencyError, installing
from dermfuse.preprocess import read_image
from dermfuse.scores import Label

Pixels = NDArray[np.uint8]

_CROPS = 4  # of each photograph, beside the whole
_NOT_PHOTOGRAPHS = frozenset({"page", "text", "logo", "phantom", "horse", "multipage"})
_DRAWN = 40
_LETTERS = "abcdefghijklmnopqrstuvwxyz      .,"


def other_images(*, seed: int = 0) -> Mapping[str, list[Pixels]]:
    """Returns images that are not dermoscopy, by kind.

    Args:
        seed: Of what is drawn and of the crops.

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
        if path.stem in _NOT_PHOTOGRAPHS:
            continue
        image = read_image(path)
        photographs.append(image)
        photographs += [_crop(rng, image) for _ in range(_CROPS)]
    pages = [read_image(folder / f"{name}.png") for name in ("page", "text")]
    return photographs, pages


def _crop(rng: np.random.Generator, image: Pixels) -> Pixels:
    height, width = (round(side * rng.uniform(0.4, 0.8)) for side in image.shape[:2])
    top, left = (
        int(rng.integers(0, whole - part + 1))
        for whole, part in zip(image.shape[:2], (height, width), strict=True)
    )
    return np.ascontiguousarray(image[top : top + height, left : left + width])
