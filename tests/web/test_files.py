"""The library answers every file that the app's units read (``web/tests/files.json``) as recorded.

They are PNG, JPEG and WebP files of every depth, colour type and orientation, whole and damaged:
whether a file is refused, how it lies, and (PNG, which the app decodes itself) its pixels.
DERMFUSE_WRITE_VECTORS=1 writes the answers anew.
"""

import base64
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.errors import ImageError
from dermfuse.imaging.preprocess import read_image
from dermfuse.web.build import pack_bytes
from dermfuse.web.vectors import draw_image

KEPT = Path(__file__).parents[2] / "web" / "tests" / "files.json"
TURNS = {
    1: lambda image: image,
    2: np.fliplr,
    3: lambda image: np.rot90(image, 2),
    4: np.flipud,
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image, 3),
    7: lambda image: np.rot90(image, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""What each EXIF orientation makes of a file's pixels."""


def _orientation(pixels: np.ndarray) -> int:
    """Returns which turn of the drawn image that all files with one hold is nearest."""
    turned = {way: turn(draw_image(24, 17).astype(int)) for way, turn in TURNS.items()}
    near = {way: abs(each - pixels).mean() for way, each in turned.items()
            if each.shape == pixels.shape}  # fmt: skip
    return min(near, key=near.__getitem__)


def _answered(kept: dict[str, Any]) -> dict[str, Any]:
    record = {"name": kept["name"], "file": kept["file"]}
    try:
        pixels = read_image(base64.b64decode(kept["file"]))
    except ImageError:
        return record | {"refused": True}
    record["refused"] = False
    if "orientation" in kept:
        record["orientation"] = _orientation(pixels)
    if kept["name"].startswith("PNG"):
        record["rgb"] = pack_bytes(pixels)
    return record


@pytest.fixture(scope="module")
def kept() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(KEPT.read_text())
    if os.environ.get("DERMFUSE_WRITE_VECTORS"):
        found = [_answered(each) for each in found]
        KEPT.write_text(json.dumps(found, separators=(",", ":")) + "\n")
    return found


def test_the_library_answers_every_file_as_recorded(kept: list[dict[str, Any]]) -> None:
    for each in kept:
        assert _answered(each) == each, each["name"]


def test_files_of_every_kind_are_read_and_refused(kept: list[dict[str, Any]]) -> None:
    for kind in ("PNG", "JPEG"):
        assert {each["refused"] for each in kept if each["name"].startswith(kind)} == {True, False}
    for kind in ("PNG", "JPEG", "WebP"):
        ways = {each.get("orientation") for each in kept if each["name"].startswith(kind)}
        assert ways >= set(range(1, 9))
