"""What of an analysis goes into a results folder: its record, a thumbnail, overlays, a mask."""

import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.journal import name_key
from dermfuse.analysis.lines import Analyze
from dermfuse.analysis.overlays import draw_outline, encode_png
from dermfuse.analysis.records import Analysis
from dermfuse.errors import StorageError
from dermfuse.preprocess import write_mask
from dermfuse.runs import NAME_BYTES, atomic_write, folders_below, remove_file, short_name

_MASKS, _OVERLAYS_FOLDER, _PICTURE = "masks", "overlays", ".png"
_OVERLAYS = ("outline", "activation")
_NAME_BYTES = 230  # a suffix takes 15; atomic_write shortens the unfinished file's name itself
_PATH_BYTES = 1500  # of 4,096 that a path may have, the results folder's own included
THUMBNAIL_PX = 160
"""Longer side of the pictures in a report."""

_THUMBNAIL_QUALITY = 75


@dataclass(frozen=True, slots=True)
class Summary:
    """An analysis as a line of results: no outline, which the overlays show, but a thumbnail.

    Attributes:
        analysis: Of one image.
        thumbnail: Whether a small picture of it is part of the record.
    """

    analysis: Analysis
    thumbnail: bool

    def to_dict(self) -> dict[str, Any]:
        """Returns the record."""
        record = self.analysis.to_dict(with_outline=False)
        if self.thumbnail:
            record["thumbnail"] = draw_thumbnail(self.analysis.image, self.analysis.mask)
        return record


@dataclass(frozen=True, slots=True)
class Pictures:
    """Which pictures of an analysis are written, beside its line of results.

    Attributes:
        results: The results folder.
        overlays: Whether outline and activation map over the image are.
        masks: Whether the lesion's mask is.
    """

    results: Path
    overlays: bool = False
    masks: bool = False

    def write(self, analysis: Analysis) -> None:
        """Writes them; of what is withheld none, and what an earlier analysis left is removed.

        Raises:
            StorageError: They cannot be written.
        """
        if self.overlays:
            for what, drawn in (
                ("outline", analysis.contour_overlay()),
                ("activation", analysis.activation_overlay()),
            ):
                path = overlay_file(self.results, analysis.name, what)
                if drawn is None:
                    remove_file(path)
                    continue
                self._make_room(path)
                with atomic_write(path) as file:
                    file.write(encode_png(drawn))
        if self.masks:
            path = mask_file(self.results, analysis.name)
            if analysis.mask is None:
                remove_file(path)
                return
            self._make_room(path)
            write_mask(path, analysis.mask)

    def keep(self, records: Iterable[Mapping[str, Any]]) -> int:
        """Removes the pictures of all but some images: of those that are no longer given, say.

        Args:
            records: The lines of results that stay; those that failed or are withheld have none.

        Returns:
            How many pictures were removed.

        Raises:
            StorageError: One cannot be removed.
        """
        if not self.overlays and not self.masks:
            return 0
        kept: set[int] = set()
        for record in records:
            if "error" in record or record.get("malignant_probability") is None:
                continue
            name = record["name"]
            paths = [overlay_file(self.results, name, what) for what in _OVERLAYS]
            kept.update(name_key(str(path)) for path in (*paths, mask_file(self.results, name)))
        return sum(_keep_of(self.results / folder, kept) for folder in (_MASKS, _OVERLAYS_FOLDER))

    def _make_room(self, path: Path) -> None:
        """Makes the folders of a picture, but never the results folder: someone removed it.

        Raises:
            StorageError: They cannot be made.
        """
        below = path.parent.relative_to(self.results)
        try:
            for parent in (*reversed(below.parents[:-1]), below):
                (self.results / parent).mkdir(exist_ok=True)
        except OSError as error:
            raise StorageError(
                f"{path.parent} cannot be made ({error.strerror or error})",
                expected="a results folder that stays, with free space",
                action="Call again to go on with what is done",
            ) from error


def overlay_file(results: Path, name: str, what: str) -> Path:
    """Returns where an overlay of an image lies in a results folder.

    Args:
        results: The folder.
        name: Of the image, as its line of results has it.
        what: ``outline`` or ``activation``.
    """
    return results / _OVERLAYS_FOLDER / f"{_short(name)}.{what}{_PICTURE}"


def mask_file(results: Path, name: str) -> Path:
    """Returns where the mask of an image lies in a results folder.

    Args:
        results: The folder.
        name: Of the image, as its line of results has it.

    Example:
        >>> mask_file(Path("results"), "ISIC_0000003.jpg").as_posix()
        'results/masks/ISIC_0000003.jpg.png'
    """
    return results / _MASKS / f"{_short(name)}{_PICTURE}"


def _keep_of(folder: Path, kept: set[int]) -> int:
    """Removes the pictures below a folder that are not kept, and folders that are empty then."""
    removed = 0
    for where in reversed(folders_below(folder)):
        paths = list(where.iterdir())
        gone = [
            path
            for path in paths
            if path.suffix == _PICTURE and name_key(str(path)) not in kept and not path.is_dir()
        ]
        for path in gone:
            remove_file(path)
        removed += len(gone)
        if len(gone) == len(paths):
            where.rmdir()
    return removed


def _short(name: str) -> str:
    """Returns a name to which a suffix can be added.

    A last part of many bytes is shortened; where the folders before it are long in all, they are
    left out, for a path has its limit as a name has. A folder called like a picture gets a stroke
    more, for the picture of an image beside it may be called so: ``a.jpg`` and ``a.jpg.png/``.
    """
    *folders, last = name.split("/")
    name = "/".join([*map(_folder_name, folders), last])
    folder, stroke, last = name.rpartition("/")
    if len(name.encode(errors="surrogatepass")) > _PATH_BYTES:
        return short_name(f"{last}/{name}", most_bytes=_NAME_BYTES).replace("/", "-")
    return f"{folder}{stroke}{short_name(last, most_bytes=_NAME_BYTES)}"


def _folder_name(name: str) -> str:
    r"""Returns a folder's name, which never ends like a picture's.

    Example:
        >>> [_folder_name(name) for name in ("nevi", "a.jpg.png", "a.jpg.png_")]
        ['nevi', 'a.jpg.png_', 'a.jpg.png__']
    """
    if not name.rstrip("_").lower().endswith(_PICTURE):
        return name
    return short_name(f"{name}_", most_bytes=NAME_BYTES)


def summarize_with(
    analyzer: Analyzer, *, thumbnail: bool, pictures: Pictures | None = None
) -> Analyze:
    """Returns a function from pixels and a name to a summary.

    Args:
        analyzer: Asked about every image.
        thumbnail: Whether the summaries have one.
        pictures: What else is written; None writes nothing.
    """

    def summarize(image: NDArray[np.uint8], name: str) -> Summary:
        analysis = analyzer.analyze(image, name=name)
        if pictures is not None:
            pictures.write(analysis)
        return Summary(analysis, thumbnail=thumbnail)

    return summarize


def draw_thumbnail(image: NDArray[np.uint8], mask: NDArray[np.bool_] | None) -> bytes:
    """Returns a small JPEG of an image with the lesion outlined.

    Args:
        image: RGB, (H, W, 3).
        mask: The lesion, (H, W); None draws no outline.
    """
    height, width = image.shape[:2]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    if mask is not None:
        grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
        small = draw_outline(small, np.asarray(grey.resize(size, Image.Resampling.BOX)) >= 128)
    buffer = io.BytesIO()
    Image.fromarray(small).save(buffer, format="JPEG", quality=_THUMBNAIL_QUALITY)
    return buffer.getvalue()
