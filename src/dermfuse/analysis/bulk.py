"""Paths in, a results folder out: the Analyzer over many images."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.folder import FolderOptions, FolderOutcome, Step, run_folder
from dermfuse.analysis.overlays import draw_outline, encode_png
from dermfuse.analysis.records import Analysis
from dermfuse.analysis.sources import expand
from dermfuse.preprocess import write_mask
from dermfuse.runs import atomic_write

THUMBNAIL_PX = 160
"""Longer side of the pictures in a report."""

_THUMBNAIL_QUALITY = 75
_OVERLAYS = "overlays"
_MASKS = "masks"


@dataclass(frozen=True, slots=True, kw_only=True)
class BulkOptions:
    """What is written for each image, and how fast.

    Args:
        threads: Images that are analysed at the same time.
        report: Whether the HTML report, with a thumbnail of each image, is written.
        overlays: Whether the outline and the activation map are written over each image, as PNG
            files in ``overlays/``.
        masks: Whether each lesion's mask is written, 0 and 255 at the image's size, as a PNG file
            in ``masks/``.
        resume: Whether a results folder may exist and is gone on with.
    """

    threads: int = 1
    report: bool = True
    overlays: bool = False
    masks: bool = False
    resume: bool = True


def analyze_paths(
    analyzer: Analyzer,
    paths: Sequence[str | Path],
    out: Path,
    *,
    options: BulkOptions | None = None,
    progress: Callable[[Step], None] | None = None,
) -> FolderOutcome:
    """Analyses files and folders and leaves what was found in a results folder.

    Args:
        analyzer: With one thread per image, as the images are spread over threads here.
        paths: Files, folders, or ``-`` for standard input.
        out: The results folder; see ``dermfuse.analysis.folder``.
        options: What is written.
        progress: Told of every image, in order.

    Raises:
        DataError: Nothing is given, or a path does not exist or holds no image.
        RunError: As for ``run_folder``.
        StorageError: The folder cannot be written.
    """
    options = options or BulkOptions()
    items = expand(paths, skip=out)

    def analyze(image: NDArray[np.uint8], name: str) -> "_Line":
        analysis = analyzer.analyze(image, name=name)
        if options.overlays:
            _write_overlays(out / _OVERLAYS, analysis)
        if options.masks:
            path = mask_file(out, analysis.name)
            path.parent.mkdir(parents=True, exist_ok=True)
            write_mask(path, analysis.mask)
        return _Line(analysis, thumbnail=options.report)

    return run_folder(
        items,
        analyze,
        out,
        options=FolderOptions(
            identity={
                **identity(analyzer),
                "overlays": options.overlays,
                "masks": options.masks,
            },
            threads=options.threads,
            resume=options.resume,
            report=options.report,
            facts=_facts(analyzer),
        ),
        progress=progress,
    )


def identity(analyzer: Analyzer) -> dict[str, Any]:
    """Returns what a result depends on besides its image."""
    return {
        "release": analyzer.release.name,
        "networks": analyzer.digests,
        "operating_point": analyzer.operating_point.name,
        "score_all": analyzer.score_all,
    }


def mask_file(results: Path, name: str) -> Path:
    """Returns where the mask of an image lies in a results folder.

    Args:
        results: The folder.
        name: Of the image, as its line of results has it.

    Example:
        >>> mask_file(Path("results"), "ISIC_0000003.jpg").as_posix()
        'results/masks/ISIC_0000003.jpg.png'
    """
    return results / _MASKS / f"{name}.png"


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


@dataclass(frozen=True, slots=True)
class _Line:
    """An analysis as a line of results: no outline, which the overlays show, but a thumbnail."""

    analysis: Analysis
    thumbnail: bool

    def to_dict(self) -> dict[str, Any]:
        record = self.analysis.to_dict(with_outline=False)
        if self.thumbnail:
            record["thumbnail"] = draw_thumbnail(self.analysis.image, self.analysis.mask)
        return record


def _write_overlays(folder: Path, analysis: Analysis) -> None:
    for what, drawn in (
        ("outline", analysis.contour_overlay()),
        ("activation", analysis.activation_overlay()),
    ):
        path = folder / f"{analysis.name}.{what}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as file:
            file.write(encode_png(drawn))


def _facts(analyzer: Analyzer) -> dict[str, str]:
    point = analyzer.operating_point
    return {
        "Release": analyzer.release.name,
        "Operating point": (
            f"{point.name}: malignant from {point.threshold:.3f} on; sensitivity "
            f"{point.sensitivity.value:.2f} ({point.sensitivity.low:.2f} to "
            f"{point.sensitivity.high:.2f}), specificity {point.specificity.value:.2f} "
            f"({point.specificity.low:.2f} to {point.specificity.high:.2f})"
        ),
    }
