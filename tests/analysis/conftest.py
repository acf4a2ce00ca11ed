"""What tests of an analysis share: small releases, image files, and what a results folder holds."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer

from ..small_release import skin, write_small_release

PAGE = np.full((48, 64, 3), 255, np.uint8)
"""What a release with a gate withholds."""


def even(red: int, *, height: int = 40, width: int = 60) -> np.ndarray:
    """Returns an image of one colour."""
    return np.full((height, width, 3), (red, 120, 110), np.uint8)


def encode(pixels: np.ndarray, kind: str = "PNG", **options: Any) -> bytes:
    """Returns the bytes of an image file."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def save_png(path: Path, pixels: np.ndarray) -> Path:
    """Writes an image, and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(pixels))
    return path


def lines_of(out: Path) -> list[dict[str, Any]]:
    """Returns the records of a results folder."""
    return [json.loads(line) for line in (out / "results.jsonl").read_bytes().splitlines()]


def rows_of(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a table."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="package")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="package")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("gated"), with_gate=True)


@pytest.fixture(scope="package")
def analyzer(release: Path) -> Analyzer:
    return Analyzer(release, isolate=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three lesions, one of them below it, and a broken file."""
    for name, red in (("a.png", 0), ("b.png", 60), ("more/c.png", 100)):
        save_png(tmp_path / "images" / name, skin(red))
    (tmp_path / "images" / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    return tmp_path / "images"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"
