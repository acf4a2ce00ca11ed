"""Ten files of one lesion each: the kinds of image that browsers and Pillow may read apart."""

from collections.abc import Callable
from pathlib import Path

from PIL import Image

from dermfuse.demo import example_images

_ORIENTATION = 0x0112


def write_pictures(folder: Path) -> list[Path]:
    """Writes the files and returns them by name."""
    folder.mkdir(parents=True)
    for name, save in _SAVES.items():
        save(folder / name)
    return sorted(folder.iterdir())


def _drawn(width: int, height: int) -> Image.Image:
    """Returns a drawn image that networks which learnt from dermoscopy take for it."""
    images = example_images()
    with Image.open(images[width % len(images)]) as image:
        return image.resize((width, height), Image.Resampling.BICUBIC)


def _turned(path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    _drawn(480, 320).save(path, quality=90, exif=exif)


def _transparent(path: Path) -> None:
    image = _drawn(400, 300)
    alpha = Image.new("L", image.size, 255)
    alpha.paste(128, (0, 0, 60, 60))
    alpha.paste(0, (340, 240, 400, 300))
    image.putalpha(alpha)
    image.save(path)


_SAVES: dict[str, Callable[[Path], None]] = {
    "camera.jpg": lambda path: _drawn(1022, 767).save(path, quality=85),
    "cmyk.jpg": lambda path: _drawn(500, 375).convert("CMYK").save(path, quality=92),
    "grey.jpg": lambda path: _drawn(420, 300).convert("L").save(path, quality=90),
    "mirrored.jpg": lambda path: _turned(path, 5),
    "odd.jpg": lambda path: _drawn(333, 251).save(path, quality=75),
    "palette.png": lambda path: _drawn(300, 240).quantize(64).save(path),
    "plain.png": lambda path: _drawn(640, 480).save(path),
    "progressive.jpg": lambda path: _drawn(211, 640).save(path, progressive=True, subsampling=0),
    "rotated.jpg": lambda path: _turned(path, 6),
    "transparent.png": _transparent,
}
