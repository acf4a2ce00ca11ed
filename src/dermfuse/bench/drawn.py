"""The image files that an analysis is timed on."""

import io
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.inputs import expand
from dermfuse.data.labels import Label
from dermfuse.data.synthetic import draw_lesion
from dermfuse.errors import DataError

SIZE_PX = (1022, 767)
"""Width and height of a drawn image: the most frequent size of ISIC 2016."""
QUALITY = 90
"""Of its JPEG."""


def draw_files(count: int) -> list[bytes]:
    """Returns drawn images as JPEG files, benign and malignant in turn."""
    rng = np.random.default_rng(0)
    labels = islice(cycle((Label.BENIGN, Label.MALIGNANT)), count)
    return [_jpeg(draw_lesion(rng, label=label, size_px=SIZE_PX).image) for label in labels]


def describe_drawn(count: int) -> str:
    """Returns in words what ``draw_files`` draws."""
    width, height = SIZE_PX
    return f"{count} synthetic images of {width} x {height} px, JPEG quality {QUALITY}"


def read_files(data: Path, count: int) -> list[bytes]:
    """Returns the bytes of the first images of a folder, or of the one that is named.

    Raises:
        DataError: There is none, or one cannot be opened.
    """
    items = list(islice(expand([data]), count))
    if faults := [item.fault for item in items if item.fault]:
        raise DataError(faults[0])
    sources = [item.source for item in items]
    try:
        return [each if isinstance(each, bytes) else each.read_bytes() for each in sources]
    except OSError as error:
        raise DataError(
            f"{data}: an image cannot be read ({error.strerror})", expected="readable files"
        ) from error


def write_files(folder: Path, files: Sequence[bytes], count: int) -> Path:
    """Writes so many image files into a new folder, the same again where there are fewer."""
    folder.mkdir(parents=True)
    for number, file in enumerate(islice(cycle(files), count)):
        (folder / f"{number:05}.jpg").write_bytes(file)
    return folder


def _jpeg(pixels: NDArray[np.uint8]) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="JPEG", quality=QUALITY)
    return buffer.getvalue()
