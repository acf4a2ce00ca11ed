import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.data.isic2016 import TEST_DUPLICATES
from dermfuse.errors import DataError, RunError
from dermfuse.publishing.census import read_census, take_census

from ..two_folders import IMAGES, LABELS, MASKS

SKINS = {
    "ISIC_0000001": (240, 205, 185),
    "ISIC_0000002": (70, 45, 30),
    "ISIC_0000003": (150, 150, 190),
    "ISIC_0000004": (255, 255, 255),
    "ISIC_0000005": (240, 205, 185),
    TEST_DUPLICATES[0]: (70, 45, 30),
}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A malignant image, one without a mask, one without a file, one of the test."""
    for part in (IMAGES, MASKS):
        (tmp_path / part).mkdir()
    lesion = np.zeros((48, 64), bool)
    lesion[16:32, 20:44] = True
    for image_id, skin in SKINS.items():
        pixels = np.where(lesion[:, :, None], (60, 30, 25), skin).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / IMAGES / f"{image_id}.png")
        if image_id != "ISIC_0000005":
            mask = Image.fromarray(lesion.astype(np.uint8) * np.uint8(255))
            mask.save(tmp_path / MASKS / f"{image_id}_Segmentation.png")
    labels = [f"{name},{'malignant' if name.endswith('2') else 'benign'}" for name in SKINS]
    (tmp_path / LABELS).write_text("\n".join([*labels, "ISIC_0000009,benign"]))
    return tmp_path


def test_images_are_counted_without_those_of_the_test_and_by_tone_of_skin(data: Path) -> None:
    census = take_census(data)
    assert (census.images, census.benign, census.malignant, census.masks) == (5, 4, 1, 4)
    assert census.missing == ("ISIC_0000009",)
    assert census.duplicates == TEST_DUPLICATES[:1]
    assert asdict(census.short_side_px) == {"low": 48, "middle": 48, "high": 48}
    skin = census.skin
    found = {tone.name: (tone.images, tone.malignant) for tone in skin.tones if tone.images}
    assert found == {"very light": (1, 0), "dark": (1, 1)}
    assert (skin.without_mask, skin.without_angle, skin.hidden) == (1, 1, 1)
    path = data / "card.json"
    path.write_text(json.dumps({"census": asdict(census)}))
    assert read_census(path) == census
    for stored, message in (
        ({**asdict(census), "images": "5"}, r"images is '5'\. Expected: a whole number"),
        (None, "holds no census"),
    ):
        path.write_text(json.dumps({"census": stored}))
        with pytest.raises(RunError, match=message):
            read_census(path)


def test_test_images_alone_are_no_training_images(data: Path) -> None:
    for image_id in SKINS.keys() - set(TEST_DUPLICATES):
        (data / IMAGES / f"{image_id}.png").unlink()
    with pytest.raises(DataError, match="shows no lesion of the test set"):
        take_census(data)
