import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.data.isic2016 import TEST_DUPLICATES
from dermfuse.errors import DataError, RunError
from dermfuse.imaging.preprocess import write_mask
from dermfuse.publishing.census import read_census, take_census

SKINS = {
    "ISIC_0000001": (240, 205, 185),
    "ISIC_0000002": (70, 45, 30),
    "ISIC_0000003": (150, 150, 190),
    "ISIC_0000004": (255, 255, 255),
    "ISIC_0000005": (240, 205, 185),
    TEST_DUPLICATES[0]: (70, 45, 30),
}
WITHOUT_MASK = "ISIC_0000005"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    images = folder / "ISBI2016_ISIC_Part3_Training_Data"
    masks = folder / "ISBI2016_ISIC_Part1_Training_GroundTruth"
    images.mkdir(parents=True)
    masks.mkdir()
    lesion = np.zeros((48, 64), bool)
    lesion[16:32, 20:44] = True
    for image_id, skin in SKINS.items():
        pixels = np.full((48, 64, 3), skin, np.uint8)
        pixels[lesion] = (60, 30, 25)
        Image.fromarray(pixels).save(images / f"{image_id}.png")
        if image_id != WITHOUT_MASK:
            write_mask(masks / f"{image_id}_Segmentation.png", lesion)
    labels = [
        f"{image_id},{'malignant' if image_id.endswith('2') else 'benign'}" for image_id in SKINS
    ]
    path = folder / "ISBI2016_ISIC_Part3_Training_GroundTruth.csv"
    path.write_text("\n".join([*labels, "ISIC_0000009,benign"]))
    return folder


def test_images_are_counted_without_those_of_the_test(data: Path) -> None:
    census = take_census(data)
    assert (census.images, census.benign, census.malignant, census.masks) == (5, 4, 1, 4)
    assert census.missing == ("ISIC_0000009",)
    assert census.duplicates == TEST_DUPLICATES[:1]
    assert asdict(census.short_side_px) == {"low": 48, "middle": 48, "high": 48}


def test_every_image_is_in_one_class_of_tone_or_said_to_have_none(data: Path) -> None:
    skin = take_census(data).skin
    found = {tone.name: (tone.images, tone.malignant) for tone in skin.tones if tone.images}
    assert found == {"very light": (1, 0), "dark": (1, 1)}
    assert (skin.without_mask, skin.without_angle, skin.hidden) == (1, 1, 1)
    assert skin.count("dark", "brown") == 1


def test_a_census_is_read_from_the_json_of_a_card(data: Path, tmp_path: Path) -> None:
    census = take_census(data)
    path = tmp_path / "card.json"
    path.write_text(json.dumps({"census": asdict(census)}))
    assert read_census(path) == census
    path.write_text(json.dumps({"census": {**asdict(census), "images": "5"}}))
    with pytest.raises(RunError, match=r"images is '5'\. Expected: a whole number"):
        read_census(path)
    path.write_text(json.dumps({"census": None}))
    with pytest.raises(RunError, match="holds no census"):
        read_census(path)


def test_test_images_alone_are_no_training_images(data: Path) -> None:
    for image_id in SKINS:
        if image_id not in TEST_DUPLICATES:
            (data / "ISBI2016_ISIC_Part3_Training_Data" / f"{image_id}.png").unlink()
    with pytest.raises(DataError, match="shows no lesion of the test set"):
        take_census(data)
