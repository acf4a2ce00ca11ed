"""Files to pixels and back: the only image path of the product (NumPy and Pillow).

Training, prediction, the export check and the server all read images here, so a pixel means
the same everywhere: RGB, 8 bit, upright, opaque. Embedded colour profiles are not applied.
What Pillow reads wrongly or not at all is the business of ``formats``, ``jpeg`` and ``tiff``.
"""

import io
import stat
import struct
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from dermfuse.errors import DermfuseError, ImageError
from dermfuse.imaging import formats, tiff
from dermfuse.imaging.formats import Samples, is_jpeg, is_png, strips_of
from dermfuse.imaging.jpeg import find_damage, read_frame, without_remarks
from dermfuse.imaging.limits import AS_PNG, MAX_PIXELS, MIN_SIDE_PX, RefusalError, check_size
from dermfuse.records.folders import atomic_write

FORMATS = ("JPEG", "PNG", "TIFF", "BMP", "GIF", "WEBP")
"""Pillow's decoders that may see a file; others (EPS, say) may start foreign programs."""

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".tif", ".tiff", ".bmp", ".gif", ".webp")
)
"""What the names of such files end in, in either case."""

WHOLE_VALUES = 30_000_000
"""Arrays of more become Pillow images by the channel, not at once."""

_Pixel = TypeVar("_Pixel", bound=np.generic)
_ORIENTATION_TAG = 0x0112
_ROTATIONS = (Image.Transpose.ROTATE_90, Image.Transpose.ROTATE_180, Image.Transpose.ROTATE_270)
_OTHER_ORIENTATIONS = ("xmp", "XML:com.adobe.xmp", "Raw profile type exif")
_QUIET_LOCK = threading.Lock()  # warnings.catch_warnings is not safe between threads


def read_image(
    source: str | Path | bytes, *, name: str = "", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Returns an image file as upright, opaque 8-bit RGB.

    Palette, grey, CMYK and other depths are converted, transparency is laid on white, the EXIF
    orientation is applied (that of XMP is not).

    Args:
        source: A path, or the bytes of a file.
        name: The name of the image in messages; by default the path.
        max_pixels: Images with more are refused before any is decoded; those whose decoder takes
            much memory for each (``dermfuse.imaging.limits``) may have fewer.

    Returns:
        The pixels, (H, W, 3).

    Raises:
        ImageError: The file is missing, empty, cut off, damaged inside, no image, animated, of a
            kind that is not read, has a side below ``MIN_SIDE_PX`` or too many pixels.
    """
    name = name or ("the image" if isinstance(source, bytes) else str(source))
    with one_refusal(name):
        data = source if isinstance(source, bytes) else read_file(Path(source), name)
        return _rgb(_decoded(data, max_pixels).upright())


def image_pixels(
    image: Image.Image, *, name: str = "the image", max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """Returns a Pillow image as ``read_image`` would return its file; the image stays open.

    Args:
        image: An image of any mode; pixels that are still in a file are decoded.
        name: The name of the image in messages.
        max_pixels: The number of pixels allowed.

    Raises:
        ImageError: As ``read_image``; or the image is closed.
    """
    with one_refusal(name):
        data = _undecoded(image)
        picture = _decoded(data, max_pixels) if data else _loaded(image, max_pixels)
        return _rgb(picture.upright())


def read_file(path: Path, name: str, *, max_bytes: int | None = None) -> bytes:
    """Returns the bytes of a plain file; a pipe is not waited for.

    Args:
        path: The file.
        name: The name of the image in messages.
        max_bytes: Larger files are refused.

    Raises:
        ImageError: It is missing, cannot be read, is no plain file or too large.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            found = "a folder" if stat.S_ISDIR(state.st_mode) else "not a plain file"
            raise RefusalError(found, action="Name one file").named(name)
        with path.open("rb") as file:  # whatever the system takes its size to be
            data = file.read(-1 if max_bytes is None else max_bytes + 1)
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        missing = isinstance(error, FileNotFoundError | ValueError)
        found = "no such file" if missing else str(getattr(error, "strerror", error))
        raise RefusalError(found, action="Check the path").named(name) from error
    if max_bytes is not None and len(data) > max_bytes:
        raise too_long(name, max_bytes)
    return data


def too_long(name: str, max_bytes: int) -> ImageError:
    """Returns the refusal of an image of too many bytes."""
    found = f"more than {max_bytes:,} bytes"
    return RefusalError(found, "one image", "Shrink the image").named(name)


def is_plain_file(path: Path) -> bool:
    """Returns whether a path leads to a plain file; one that cannot be looked at does not."""
    try:
        return path.is_file()
    except OSError:
        return False


def image_files(folder: Path) -> list[Path]:
    """Returns what is named like an image in a folder, in either case and sorted by name.

    Hidden files are left out: file managers and interrupted writes leave them.

    Raises:
        ImageError: The folder cannot be read.
    """
    try:
        paths = sorted(folder.iterdir())
    except OSError as error:
        raise ImageError(
            f"{folder}: the folder cannot be read ({error.strerror or error})",
            expected="a folder that may be read",
            action="Correct its permissions",
        ) from error
    return [p for p in paths if p.suffix.lower() in SUFFIXES and not p.name.startswith(".")]


@contextmanager
def one_refusal(name: str) -> Iterator[None]:
    """Turns whatever is refused, or a decoder raises on damaged bytes, into one ImageError.

    Args:
        name: The name of the image in the message.

    Example:
        >>> with one_refusal("a.png"):
        ...     raise RecursionError("too deep")
        Traceback (most recent call last):
            ...
        dermfuse.errors.ImageError: a.png: the image is cut off or damaged (too deep). ...
    """
    try:
        yield
    except DermfuseError:
        raise
    except RefusalError as refused:
        raise refused.named(name) from refused.__cause__
    except MemoryError as error:
        found = "decoding it needs more memory than there is"
        raise RefusalError(found, action="Shrink the image").named(name) from error
    except Exception as error:  # struct.error, RecursionError, AssertionError: anything
        said = str(error) or type(error).__name__
        raise RefusalError(f"the image is cut off or damaged ({said})").named(name) from error


@contextmanager
def silent_decoders() -> Iterator[None]:
    """Ignores warnings within; one thread at a time, for Python's list of filters is shared.

    Decoders warn of what is refused or repaired here anyway. What is slow and does not warn
    belongs outside.
    """
    with _QUIET_LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def read_samples(path: str | Path) -> Samples:
    """Returns a file's pixels upright and at its own depth, for what is not a photograph.

    Raises:
        ImageError: As ``read_image``.
    """
    name = str(path)
    with one_refusal(name):
        return _decoded(read_file(Path(path), name)).samples()


def to_rgb(image: Image.Image) -> Image.Image:
    """Returns a decoded image as opaque 8-bit RGB, on white where it is transparent."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I"):
        wide = np.asarray(image).astype(np.uint16)  # Pillow alone would clip at 255
        return Image.fromarray(formats.scaled(wide, 65_535)).convert("RGB")
    if image.has_transparency_data:
        opaque = image.convert("LA" if image.mode == "La" else "RGBA").convert("RGBA")
        white = Image.new("RGBA", opaque.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, opaque).convert("RGB")
    return image.convert("RGB")


def squeeze(image: NDArray[np.uint8] | Image.Image, size: int) -> NDArray[np.uint8]:
    """Returns the whole frame squeezed to a square (bilinear, antialiased when shrinking).

    Args:
        image: RGB, (H, W, 3), or a Pillow image of it, which spares a copy where there is one.
        size: The square's side in pixels.

    Paper:
        Section 1: inputs are 224 x 224 whatever the frame's aspect.

    Example:
        >>> squeeze(np.full((30, 40, 3), 7, np.uint8), 16).shape
        (16, 16, 3)
    """
    return resize_image(image, (size, size))


def resize_image(
    image: NDArray[np.uint8] | Image.Image,
    size: tuple[int, int],
    *,
    reducing_gap: float | None = None,
) -> NDArray[np.uint8]:
    """Returns an image of another size (bilinear, antialiased when shrinking).

    Of a large array one channel at a time becomes a Pillow image, which takes a quarter of the
    memory; the result is the same.

    Args:
        image: RGB, (H, W, 3), or a Pillow image of it.
        size: ``(width, height)``.
        reducing_gap: The option of Pillow's ``resize``.
    """
    bilinear = Image.Resampling.BILINEAR
    if isinstance(image, Image.Image) or image.size <= WHOLE_VALUES:
        picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
        return np.array(picture.resize(size, bilinear, reducing_gap=reducing_gap), dtype=np.uint8)
    channels = (Image.fromarray(image[..., i]) for i in range(image.shape[2]))
    resized = [
        np.asarray(one.resize(size, bilinear, reducing_gap=reducing_gap)) for one in channels
    ]
    return np.stack(resized, axis=2)


def squeeze_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Returns a mask squeezed to a square: a cell is lesion if half of its area or more is.

    The areas are counted in integers, so that a cell covered to exactly one half does not
    depend on rounding.

    Args:
        mask: (H, W).
        size: The square's side in pixels.

    Example:
        >>> squeeze_mask(np.array([[True, False], [False, False]]), 1)
        array([[False]])
        >>> squeeze_mask(np.array([[True, False], [True, False]]), 1)
        array([[ True]])
    """
    height, width = mask.shape
    rows = _cell_sums(mask.view(np.uint8), size)  # (size, W), in 1 / size pixels
    covered = _cell_sums(rows.T, size).T  # (size, size), in 1 / size² pixels
    # each cell is (height / size) * (width / size) pixels = height * width of those units
    squeezed: NDArray[np.bool_] = 2 * covered >= height * width
    return squeezed


def letterbox(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Returns the frame in its own aspect in a square, which its reflection fills.

    Args:
        image: RGB, (H, W, 3).
        size: The square's side in pixels.

    Example:
        >>> letterbox(np.full((30, 40, 3), 7, np.uint8), 16).shape
        (16, 16, 3)
    """
    return squeeze(_reflected(image), size)


def letterbox_mask(mask: NDArray[np.bool_], size: int) -> NDArray[np.bool_]:
    """Returns a mask (H, W) as ``letterbox`` shows its image."""
    return squeeze_mask(_reflected(mask), size)


def letterbox_probability(probability: NDArray[np.float32], size: int) -> NDArray[np.float32]:
    """Returns a probability map (H, W) as ``letterbox`` shows its image, (S, S)."""
    return resize_probability(_reflected(probability), size, size)


def resize_letterboxed(
    probability: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """Returns the frame's part of a probability map (S, S) of a letterboxed image, (H, W)."""
    side = max(height, width)
    whole = resize_probability(probability, side, side)
    top, left = (side - height) // 2, (side - width) // 2
    return whole[top : top + height, left : left + width]


def resize_probability(
    probability: NDArray[np.float32], height: int, width: int
) -> NDArray[np.float32]:
    """Returns a probability map resized (bilinear, antialiased when shrinking).

    Args:
        probability: (h, w), in [0, 1].
        height: The result's height, in pixels.
        width: The result's width, in pixels.

    Example:
        >>> resize_probability(np.full((4, 4), 0.25, np.float32), 6, 8).shape
        (6, 8)
    """
    clipped: NDArray[np.float32] = np.clip(resize_map(probability, height, width), 0.0, 1.0)
    return clipped


def resize_map(values: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Returns a map of any values resized (bilinear, antialiased when shrinking).

    Args:
        values: (h, w)
        height: The result's height, in pixels.
        width: The result's width, in pixels.

    Example:
        >>> resize_map(np.array([[-3.0, 1.0]], np.float32), 2, 4).round(2).tolist()[0]
        [-3.0, -2.0, 0.0, 1.0]
    """
    source = Image.fromarray(np.ascontiguousarray(values, dtype=np.float32))  # mode F
    return np.asarray(source.resize((width, height), Image.Resampling.BILINEAR))


def write_mask(path: str | Path, mask: NDArray[np.bool_]) -> None:
    """Writes a mask as the challenge has it: an 8-bit PNG of 0 and 255.

    Raises:
        StorageError: The file cannot be written.
    """
    _write_png(Path(path), np.where(mask, np.uint8(255), np.uint8(0)))


def write_probability(path: str | Path, probability: NDArray[np.float32]) -> None:
    """Writes a probability map as an 8-bit PNG, ``round(255 p)``.

    Args:
        path: The PNG to write.
        probability: (H, W), in [0, 1].

    Raises:
        StorageError: The file cannot be written.
    """
    _write_png(Path(path), np.rint(np.clip(probability, 0.0, 1.0) * 255.0).astype(np.uint8))


def read_probability(path: str | Path) -> NDArray[np.float32]:
    """Returns a probability map that ``write_probability`` wrote, in [0, 1].

    Raises:
        ImageError: As ``read_image``.
    """
    path = Path(path)
    with one_refusal(str(path)):
        grey = np.asarray(to_rgb(_decoded(read_file(path, str(path))).upright()).convert("L"))
        return grey.astype(np.float32) / np.float32(255.0)


def _reflected(pixels: NDArray[_Pixel]) -> NDArray[_Pixel]:
    """Returns (H, W, ...) in the middle of a square of side max(H, W), reflected at its edges."""
    height, width = pixels.shape[:2]
    side = max(height, width)
    before = ((side - height) // 2, (side - width) // 2)
    padding = [(b, side - n - b) for b, n in zip(before, (height, width), strict=True)]
    padding += [(0, 0)] * (pixels.ndim - 2)
    return np.ascontiguousarray(np.pad(pixels, padding, mode="symmetric"))


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    with atomic_write(path) as file:
        Image.fromarray(pixels).save(file, format="PNG", optimize=False)


def _cell_sums(values: NDArray[np.integer[Any]], size: int) -> NDArray[np.int64]:
    """Sums columns of ``values`` over ``size`` equal cells of axis 0, times ``size``.

    Cell edges lie between rows at ``i * length / size``; times ``size`` they are integers.
    """
    length = len(values)
    edges = np.arange(size + 1, dtype=np.int64) * length
    row, fraction = edges // size, edges % size
    whole_rows = np.add.reduceat(values, row[:-1], axis=0, dtype=np.int64)
    whole_rows[np.diff(row) == 0] = 0  # reduceat gives an empty span its first row
    before = np.zeros((size + 1, values.shape[1]), dtype=np.int64)
    np.cumsum(whole_rows, axis=0, out=before[1:])
    edge_rows = values[np.minimum(row, length - 1)]  # the last edge has no fraction
    at_edges: NDArray[np.int64] = before * size + fraction[:, None] * edge_rows
    return at_edges[1:] - at_edges[:-1]


@dataclass(frozen=True, slots=True, eq=False)
class _Picture:
    """What was checked and decoded, as it is stored.

    Args:
        held: The whole, as Pillow decoded it, or strips where Pillow does not read it right.
        size: ``(width, height)``.
        orientation: How it lies, 1 to 8.
        lossy: Whether the coding may have changed the values.
    """

    held: Image.Image | Iterator[Samples]
    size: tuple[int, int]
    orientation: int
    lossy: bool = False

    def upright(self) -> Image.Image:
        """Returns it in 8 bits, or as Pillow has it."""
        held = self.held
        image = held if isinstance(held, Image.Image) else formats.strips_image(held, self.size)
        mirrored, turns = formats.TURNS.get(self.orientation, (False, 0))
        flipped = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if mirrored else image
        return flipped.transpose(_ROTATIONS[turns - 1]) if turns else flipped

    def samples(self) -> Samples:
        """Returns it upright, at its own depth."""
        held = self.held
        strips = [formats.image_samples(held)] if isinstance(held, Image.Image) else held
        return replace(formats.joined(strips, self.orientation), lossy=self.lossy)


def _decoded(data: bytes, max_pixels: int = MAX_PIXELS) -> _Picture:
    """Returns the picture in a file; every fault is found, those of strips when they are taken."""
    if tiff.is_tiff(data):
        page = _checked_page(data, max_pixels)
        if page.is_ours:
            return _of_page(data, page)
    plain, exif = _within_limits(data, max_pixels)
    image = _identified(plain, max_pixels)
    if exif is not None:
        image.info["exif"] = exif
    if is_jpeg(data):
        _refuse_damage("JPEG", find_damage(plain))
    if is_png(data):
        _refuse_damage("PNG", formats.find_png_damage(data))
    picture = _loaded(image, max_pixels)
    own = formats.png_strips(image, data) if is_png(data) else None
    if own is not None:
        return replace(picture, held=own)
    lossy = is_jpeg(data) or tiff.is_tiff(data) or data.startswith(b"RIFF")  # WebP, JPEG in TIFF
    return replace(picture, lossy=lossy)


def _of_page(data: bytes, page: tiff.Page) -> _Picture:
    strips, size = tiff.read_strips(data, page), (page.width, page.height)
    inked = page.photometric == tiff.CMYK  # its samples are those of RGB
    held = formats.strips_image(strips, size) if inked else strips
    return _Picture(held, size, page.orientation)


def _within_limits(data: bytes, max_pixels: int) -> tuple[bytes, bytes | None]:
    """Returns a file as Pillow may see it, and its EXIF block where that was taken out.

    Raises:
        RefusalError: It claims more pixels, or has more parts, than are read.
    """
    try:
        claim = formats.read_claim(data)
        if claim is None:
            return data, None
        if claim.unread:
            raise RefusalError(claim.unread, action="Save it as PNG")
        if claim.several:
            raise _several_pages()
        if claim.width:
            size, pixel_bytes = (claim.width, claim.height), claim.pixel_bytes
            check_size(*size, max_pixels=max_pixels, pixel_bytes=pixel_bytes)
        return without_remarks(data) if is_jpeg(data) else (claim.plain, None)
    except (ValueError, IndexError, struct.error) as error:
        raise _damaged_header(error) from error


def _refuse_damage(kind: str, damage: str) -> None:
    if damage:
        raise RefusalError(f"the {kind} image is damaged inside: {damage}")


def _checked_page(data: bytes, max_pixels: int) -> tiff.Page:
    """Returns the page of a TIFF file that may be decoded, by this package or by Pillow."""
    page = tiff.read_page(data)
    tiff.check_page(page)
    check_size(page.width, page.height, max_pixels=max_pixels, pixel_bytes=page.pixel_bytes)
    if page.more_pages:
        raise _several_pages()
    tiff.check_coding(data, page)
    for jpeg in tiff.embedded_jpegs(data, page):
        frame = read_frame(jpeg)
        sides = (max(each, MIN_SIDE_PX) for each in (frame.width, frame.height))
        check_size(*sides, max_pixels=max_pixels, pixel_bytes=frame.pixel_bytes)
        _refuse_damage("JPEG", find_damage(jpeg))
    return page


def _undecoded(image: Image.Image) -> bytes:
    """Returns the TIFF or PNG file behind an image that is not decoded yet, else nothing.

    Of these Pillow does not always decode what the file holds.
    """
    file = getattr(image, "fp", None)
    if image.format not in ("TIFF", "PNG") or not getattr(image, "tile", None) or file is None:
        return b""
    try:
        place = file.tell()
        file.seek(0)
        data = file.read()
        file.seek(place)
    except (OSError, ValueError):
        return b""
    return data if isinstance(data, bytes) else b""


def _loaded(image: Image.Image, max_pixels: int) -> _Picture:
    """Returns an image, whose pixels may still be in a file, checked and fully decoded."""
    check_size(*image.size, max_pixels=max_pixels)
    # An MPO that was opened elsewhere is a photograph with previews behind it, no animation.
    with silent_decoders():  # a GIF's second frame is looked for, and may claim any size
        if image.format != "MPO" and getattr(image, "is_animated", False):
            raise _several_pages()
    if image.mode == "F" or image.mode.startswith("F;"):
        raise RefusalError("floating-point pixels", "8 or 16 bits per channel", AS_PNG)
    image.load()
    if image.mode == "I":  # Pillow opens 16-bit and 32-bit grey alike as mode I
        formats.check_16_bits(np.asarray(image))
    shown = image
    if image.format == "BMP" and image.mode == "RGBA" and not image.getbbox(alpha_only=True):
        shown = image.convert("RGB")  # a fourth byte that is zero throughout is no alpha
    return _Picture(shown, image.size, _orientation(image))


def _damaged_header(error: Exception) -> RefusalError:
    return RefusalError(f"the header is damaged ({error})")


def _several_pages() -> RefusalError:
    found = "the image is animated or has several pages"
    return RefusalError(found, "a single frame", "Save one frame as PNG")


def _identified(data: bytes, max_pixels: int) -> Image.Image:
    """Returns the image in a file with its header read and no pixel decoded."""
    try:
        # Pillow's own limit is a warning below ours and an error above it: ours rules.
        with silent_decoders():
            image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        found, most = f"more than {max_pixels:,} pixels", f"{max_pixels:,} pixels or fewer"
        raise RefusalError(found, most, "Shrink the image") from error
    except UnidentifiedImageError as error:
        raise _unknown(data) from error
    except Exception as error:  # decoders raise anything on damaged bytes, even SyntaxError
        raise _damaged_header(error) from error
    for key in _OTHER_ORIENTATIONS:  # Pillow turns a TIFF image by them
        image.info.pop(key, None)
    return image


def _unknown(data: bytes) -> RefusalError:
    """Returns what a file that Pillow does not know is, as far as its first bytes tell."""
    found, action = formats.name_kind(data[:64])
    if tiff.is_tiff(data):
        found, action = tiff.layout_of(tiff.read_page(data)), AS_PNG
    if not found:
        found = "not an image, or cut off in its header" if data else "the file is empty"
    return RefusalError(found, action=action or "Fetch the file again")


def _orientation(image: Image.Image) -> int:
    """Returns how an image lies by its EXIF block, 1 to 8; XMP and other texts do not count."""
    exif = Image.Exif()
    try:
        with silent_decoders():
            exif.load(image.info.get("exif") or b"")
            orientation = exif.get(_ORIENTATION_TAG, 1)
    except Exception:  # damaged EXIF is worth no more than none
        return 1
    return orientation if isinstance(orientation, int) else 1


def _rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Returns the pixels of an image, (H, W, 3)."""
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for rows in strips_of(image.height):
        box = (0, rows.start, image.width, rows.stop)
        pixels[rows] = np.asarray(to_rgb(image.crop(box)))
    return pixels
