"""A synthetic data set in the official folders and files of ISIC 2016."""

import csv
import io
import math
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dermfuse.data.synthetic.drawing import (
    SyntheticLesion,
    check_between,
    check_size,
    draw_lesion,
)
from dermfuse.errors import StorageError
from dermfuse.runs import new_folder
from dermfuse.scores import Label

FIRST_TRAIN_ID = 9_900_000
"""Synthetic training images are ISIC_9900000 and up: the archive has no such ids."""
FIRST_TEST_ID = 9_950_000
"""Synthetic test images are ISIC_9950000 and up."""

_MOST_IMAGES = FIRST_TEST_ID - FIRST_TRAIN_ID
_JPEG_QUALITY = 92
_README = """\
These images are SYNTHETIC: drawn by dermfuse from a seed, not photographs of anyone's skin.

They have the file names and folders of ISIC 2016 so that every command runs on them; their ids
(ISIC_99xxxxx) do not exist in the ISIC archive. A network trained on them knows nothing about
skin cancer.

seed: {seed}
training images: {train_count}, of which malignant: {train_malignant}
test images: {test_count}, of which malignant: {test_malignant}
size: {width} x {height} px
difficulty: {difficulty}
"""


@dataclass(frozen=True, slots=True)
class SynthesisReport:
    """What ``synthesize_isic2016`` wrote.

    Args:
        folder: The dataset folder.
        train_count: Training images.
        train_malignant: Malignant ones among them.
        test_count: Test images.
        test_malignant: Malignant ones among them.
        seed: What they were drawn from.
        width: Of every image, in pixels.
        height: Of every image, in pixels.
        difficulty: How far the classes overlap, from 0 to 1.
    """

    folder: Path
    train_count: int
    train_malignant: int
    test_count: int
    test_malignant: int
    seed: int
    width: int
    height: int
    difficulty: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as plain JSON values."""
        return {**asdict(self), "folder": str(self.folder)}


@dataclass(frozen=True, slots=True)
class _Part:
    """The training or the test part of the set, while it is written."""

    title: str  # as the official names spell it
    first_id: int
    labels: tuple[Label, ...]
    with_truth: bool
    words: tuple[str, str]  # what the official table calls benign and malignant


def synthesize_isic2016(  # noqa: PLR0913 — each is a choice of the command
    folder: str | Path,
    *,
    train_count: int,
    test_count: int,
    seed: int = 0,
    size_px: tuple[int, int] = (320, 240),
    malignant_fraction: float = 0.2,
    difficulty: float = 0.4,
    with_test_truth: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> SynthesisReport:
    """Draws a data set in the official layout of ISIC 2016; the folder appears when it is whole.

    Image number i of a part depends on the seed, the size, the fraction and the difficulty
    alone, not on how many there are.

    Args:
        folder: A new or an empty folder.
        train_count: Training images.
        test_count: Test images.
        seed: What they are drawn from.
        size_px: Width and height of every image.
        malignant_fraction: Share of malignant images, met to within one image.
        difficulty: 0 keeps the classes apart, 1 all but mixes them.
        with_test_truth: Also writes the masks and labels of the test images.
        progress: Called with the number of images done and of all, after each.

    Raises:
        ConfigError: If a count, the size or a fraction is out of range.
        RunError: If the folder exists and is not empty.
        StorageError: If it cannot be written.
    """
    folder = Path(folder)
    check_between("train_count", train_count, 1, _MOST_IMAGES)
    check_between("test_count", test_count, 0, _MOST_IMAGES)
    check_between("seed", seed, 0, 2**63 - 1)
    check_between("malignant_fraction", malignant_fraction, 0.0, 1.0)
    check_between("difficulty", difficulty, 0.0, 1.0)
    check_size(size_px)
    parts = (
        _Part(
            "Training",
            FIRST_TRAIN_ID,
            _labels(train_count, malignant_fraction),
            with_truth=True,
            words=("benign", "malignant"),
        ),
        _Part(
            "Test",
            FIRST_TEST_ID,
            _labels(test_count, malignant_fraction),
            with_truth=with_test_truth,
            words=("0.0", "1.0"),
        ),
    )
    report = SynthesisReport(
        folder,
        train_count=train_count,
        train_malignant=sum(parts[0].labels),
        test_count=test_count,
        test_malignant=sum(parts[1].labels),
        seed=seed,
        width=size_px[0],
        height=size_px[1],
        difficulty=difficulty,
    )
    done = 0
    with _whole_or_not_at_all(folder) as staging:
        for part in parts:
            for _ in _write_part(staging, part, report):
                done += 1
                if progress is not None:
                    progress(done, train_count + test_count)
        (staging / "README.txt").write_text(_README.format(**asdict(report)), encoding="utf-8")
    return report


def _labels(count: int, malignant_fraction: float) -> tuple[Label, ...]:
    """Returns labels with the malignant ones spread evenly, whatever the count."""

    def malignant_before(index: int) -> int:
        return math.floor(index * malignant_fraction + 0.5)

    return tuple(Label(malignant_before(i + 1) - malignant_before(i)) for i in range(count))


def _write_part(folder: Path, part: _Part, report: SynthesisReport) -> Iterator[None]:
    """Draws and writes one part, yielding after each image."""
    if not part.labels:
        return
    images = folder / f"ISBI2016_ISIC_Part3_{part.title}_Data"
    masks = folder / f"ISBI2016_ISIC_Part1_{part.title}_GroundTruth"
    images.mkdir()
    if part.with_truth:
        masks.mkdir()
    table = io.StringIO(newline="")
    writer = csv.writer(table, lineterminator="\n")
    for index, label in enumerate(part.labels):
        image_id = f"ISIC_{part.first_id + index:07d}"
        rng = np.random.default_rng((report.seed, part.first_id, index))
        drawn = draw_lesion(
            rng, label=label, size_px=(report.width, report.height), difficulty=report.difficulty
        )
        _write_image(images / f"{image_id}.jpg", drawn)
        if part.with_truth:
            mask = Image.fromarray(drawn.mask.astype(np.uint8) * np.uint8(255))
            mask.save(masks / f"{image_id}_Segmentation.png")
            writer.writerow((image_id, part.words[label]))
        yield
    if part.with_truth:
        labels_path = folder / f"ISBI2016_ISIC_Part3_{part.title}_GroundTruth.csv"
        labels_path.write_text(table.getvalue(), encoding="utf-8")


def _write_image(path: Path, drawn: SyntheticLesion) -> None:
    names = ", ".join(sorted(drawn.interferences)) or "none"
    Image.fromarray(drawn.image).save(
        path,
        quality=_JPEG_QUALITY,
        comment=f"synthetic, drawn by dermfuse; interferences: {names}",
    )


@contextmanager
def _whole_or_not_at_all(folder: Path) -> Iterator[Path]:
    """Yields a folder beside ``folder`` that takes its place at the end, or is removed."""
    new_folder(folder, what="synthetic data")
    staging: Path | None = None
    try:
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.resolve().parent))
        yield staging
        staging.chmod(folder.stat().st_mode)  # mkdtemp makes private folders
        folder.rmdir()  # empty: Windows renames to no existing folder
        staging.rename(folder)
        staging = None
    except OSError as error:
        raise StorageError(
            f"{folder} cannot be written ({error.strerror or error})",
            expected="a writable folder with free space",
            action="Choose another folder or free some space",
        ) from error
    finally:
        if staging is not None:
            shutil.rmtree(staging, ignore_errors=True)
