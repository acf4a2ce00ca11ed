"""What of an analysis goes into a results folder: its record, a thumbnail, overlays."""

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
from dermfuse.runs import atomic_write

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


def summarize_with(analyzer: Analyzer, *, thumbnail: bool, overlays: Path | None = None) -> Analyze:
    """Returns a function from pixels and a name to a summary.

    Args:
        analyzer: Asked about every image.
        thumbnail: Whether the summaries have one.
        overlays: A folder for outline and activation map over each image; None writes none.
    """

    def summarize(image: NDArray[np.uint8], name: str) -> Summary:
        analysis = analyzer.analyze(image, name=name)
        if overlays is not None:
            _write_overlays(overlays, analysis)
        return Summary(analysis, thumbnail=thumbnail)

    return summarize


def draw_thumbnail(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> bytes:
    """Returns a small JPEG of an image with the lesion outlined.

    Args:
        image: RGB, (H, W, 3).
        mask: The lesion, (H, W).
    """
    scale = min(1.0, THUMBNAIL_PX / max(mask.shape))
    size = max(1, round(mask.shape[1] * scale)), max(1, round(mask.shape[0] * scale))
    small = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
    grey = Image.fromarray(mask.astype(np.uint8) * np.uint8(255))
    small_mask = np.asarray(grey.resize(size, Image.Resampling.BOX)) >= 128
    buffer = io.BytesIO()
    drawn = Image.fromarray(draw_outline(small, small_mask))
    drawn.save(buffer, format="JPEG", quality=_THUMBNAIL_QUALITY)
    return buffer.getvalue()


def _write_overlays(folder: Path, analysis: Analysis) -> None:
    for what, drawn in (
        ("outline", analysis.contour_overlay()),
        ("activation", analysis.activation_overlay()),
    ):
        path = folder / f"{analysis.name}.{what}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(encode_png(drawn))
