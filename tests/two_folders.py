"""Two small dataset folders that share an image, for tests that join them."""

import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

IMAGES = "ISBI2016_ISIC_Part3_Training_Data"
TESTED = "ISBI2016_ISIC_Part3_Test_Data"
MASKS = "ISBI2016_ISIC_Part1_Training_GroundTruth"
LABELS = "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"


def write_folder(
    folder: Path,
    *,
    images: str = "",
    masks: str = "",
    labels: Mapping[str, str] | None = None,
    tested: str = "",
    groups: Mapping[str, str] | None = None,
    size_px: tuple[int, int] = (48, 36),
) -> Path:
    """Writes a folder whose images are named by single letters: the same letter, the same scene."""
    for part, letters in ((IMAGES, images), (TESTED, tested)):
        for letter in letters:
            write_scene(folder / part / f"{name(letter)}.jpg", letter, size_px)
    for letter in masks:
        path = folder / MASKS / f"{name(letter)}_Segmentation.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask = np.zeros(size_px[::-1], np.uint8)
        mask[8:20, 8:24] = 255
        Image.fromarray(mask).save(path)
    if labels:
        lines = [f"{name(letter)},{label}" for letter, label in labels.items()]
        (folder / LABELS).write_text("\n".join(lines) + "\n")
    if groups:
        lines = [f"{name(letter)},{group}" for letter, group in groups.items()]
        (folder / "groups.csv").write_text("\n".join(["image_id,lesion_group", *lines]) + "\n")
    return folder


def name(letter: str) -> str:
    """Returns the image id of a letter, from ISIC_9900000 for A on."""
    return f"ISIC_99{ord(letter) - ord('A'):05d}"


def write_scene(path: Path, letter: str, size_px: tuple[int, int], quality: int = 90) -> None:
    """Writes the photograph of a letter: eight by six coloured fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fields = np.random.default_rng(ord(letter)).integers(0, 256, (6, 8, 3)).astype(np.uint8)
    scene = Image.fromarray(fields).resize((240, 180), Image.Resampling.BICUBIC)
    scene.resize(size_px, Image.Resampling.LANCZOS).save(path, quality=quality)


def write_halves(drawn: Path, folder: Path) -> tuple[Path, Path]:
    """Writes a drawn dataset as two folders that have a third of its images in common.

    The first holds its test images, the second those it shares at three quarters of the size;
    together they hold what ``drawn`` does.
    """
    ids = sorted(path.stem for path in (drawn / IMAGES).iterdir())
    third = len(ids) // 3
    a, b = folder / "a", folder / "b"
    for half, chosen in ((a, ids[: 2 * third]), (b, ids[third:])):
        for part, suffix in ((IMAGES, ".jpg"), (MASKS, "_Segmentation.png")):
            (half / part).mkdir(parents=True)
            for image_id in chosen:
                shutil.copy(drawn / part / f"{image_id}{suffix}", half / part)
        lines = (drawn / LABELS).read_text().splitlines()
        kept = [line for line in lines if line.split(",")[0] in chosen]
        (half / LABELS).write_text("\n".join(kept) + "\n")
    shutil.copytree(drawn / TESTED, a / TESTED)
    for image_id in ids[third : 2 * third]:
        for path in (b / IMAGES / f"{image_id}.jpg", b / MASKS / f"{image_id}_Segmentation.png"):
            with Image.open(path) as image:
                smaller = image.resize((image.width * 3 // 4, image.height * 3 // 4))
            smaller.save(path, quality=92)
    return a, b
