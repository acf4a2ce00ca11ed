"""What of an analysis goes into a results folder: its record, a thumbnail, overlays, a mask."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.lines import Analyze
from dermfuse.analysis.overlays import draw_outline, encode_png
from dermfuse.analysis.records import Analysis
from dermfuse.preprocess import write_mask
from dermfuse.runs import atomic_write, short_name

_NAME_BYTES = 230  # a suffix and the name of the unfinished file take 25
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
                path = self.results / "overlays" / f"{_short(analysis.name)}.{what}.png"
                if drawn is None:
                    path.unlink(missing_ok=True)
                    continue
                path.parent.mkdir(parents=True, exist_ok=True)
                with atomic_write(path) as file:
                    file.write(encode_png(drawn))
        if self.masks:
            path = mask_file(self.results, analysis.name)
            if analysis.mask is None:
                path.unlink(missing_ok=True)
                return
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(path, analysis.mask)


def mask_file(results: Path, name: str) -> Path:
    """Returns where the mask of an image lies in a results folder.

    Args:
        results: The folder.
        name: Of the image, as its line of results has it.

    Example:
        >>> mask_file(Path("results"), "ISIC_0000003.jpg").as_posix()
        'results/masks/ISIC_0000003.jpg.png'
    """
    return results / "masks" / f"{_short(name)}.png"


def _short(name: str) -> str:
    """Returns a name to which a suffix can be added.

    A last part of many bytes is shortened; where the folders before it are long in all, they are
    left out, for a path has its limit as a name has.
    """
    folder, stroke, last = name.rpartition("/")
    if len(name.encode(errors="surrogatepass")) > _PATH_BYTES:
        return short_name(f"{last}/{name}", most_bytes=_NAME_BYTES).replace("/", "-")
    return f"{folder}{stroke}{short_name(last, most_bytes=_NAME_BYTES)}"


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
