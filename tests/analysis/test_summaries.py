import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.tables import Pictures, draw_thumbnail, mask_file
from dermfuse.errors import StorageError
from dermfuse.imaging.preprocess import write_mask

from ..small_release import skin, write_small_release


def test_a_thumbnail_is_small_and_keeps_the_aspect() -> None:
    image = np.zeros((600, 1200, 3), np.uint8)
    thumbnail = draw_thumbnail(image, np.zeros((600, 1200), bool))
    assert thumbnail[:2] == b"\xff\xd8"
    with Image.open(io.BytesIO(thumbnail)) as small:
        assert small.size == (160, 80)


def test_a_thumbnail_of_what_is_withheld_has_no_outline() -> None:
    image, mask = np.full((60, 80, 3), 99, np.uint8), np.zeros((60, 80), bool)
    mask[20:40, 20:60] = True
    bare = draw_thumbnail(image, None)
    assert bare == draw_thumbnail(image, np.zeros((60, 80), bool))
    assert bare != draw_thumbnail(image, mask)


def test_pictures_are_of_what_is_not_withheld_and_an_earlier_ones_go(tmp_path: Path) -> None:
    release = write_small_release(tmp_path / "release", with_gate=True)
    pictures = Pictures(tmp_path, overlays=True, masks=True)
    known, page = skin(10), np.full((48, 64, 3), 255, np.uint8)
    drawn = ["masks/a.png", "overlays/a.activation.png", "overlays/a.outline.png"]
    for score_all, image, expected in (
        (False, page, []), (False, known, drawn), (False, page, []), (True, page, drawn),
    ):  # fmt: skip
        pictures.write(Analyzer(release, score_all=score_all).analyze(image, name="a"))
        found = [p.relative_to(tmp_path).as_posix() for p in tmp_path.glob("*/a.*png")]
        assert sorted(found) == expected


@pytest.mark.parametrize("letter", ["x", "é", "皮"])
def test_a_picture_of_a_long_name_can_be_written(tmp_path: Path, letter: str) -> None:
    name = letter * (240 // len(letter.encode()))
    paths = [mask_file(tmp_path, f"a folder/{name}{end}.jpg") for end in ("1", "2")]
    for path in paths:
        write_mask(path, np.ones((16, 16), np.bool_))
        assert path.parent == tmp_path / "masks/a folder"
    assert len({*paths}) == 2


def test_a_name_that_fits_is_kept(tmp_path: Path) -> None:
    assert mask_file(tmp_path, "x" * 230).name == "x" * 230 + ".png"


def test_a_deep_folder_is_left_out_of_a_pictures_path(tmp_path: Path) -> None:
    deep = "/".join(["d" * 240] * 10)
    paths = [mask_file(tmp_path, f"{deep}/{name}.jpg") for name in ("a", "b")]
    paths.append(mask_file(tmp_path, f"{deep}e/a.jpg"))
    for path in paths:
        write_mask(path, np.ones((16, 16), np.bool_))
        assert path.parent == tmp_path / "masks"
    assert len({*paths}) == 3


def test_an_image_beside_a_folder_that_is_called_like_its_mask(tmp_path: Path) -> None:
    names = ["a.jpg", "a.jpg.png/b.jpg", "a.jpg.png_/b.jpg", "a.jpg.PNG/b.jpg", "a.outline.png/b"]
    for name in (*names, f"{'x' * 251}.png/b"):
        write_mask(mask_file(tmp_path, name), np.ones((16, 16), np.bool_))
    assert len(list((tmp_path / "masks").rglob("*.png"))) == 6
    assert mask_file(tmp_path, "nevi/a.jpg").as_posix().endswith("/masks/nevi/a.jpg.png")


def test_pictures_of_images_that_are_gone_failed_or_withheld_go(tmp_path: Path) -> None:
    pictures = Pictures(tmp_path, overlays=True, masks=True)
    analyzer = Analyzer(write_small_release(tmp_path / "release"))
    for name in ("kept", "gone", "below/gone", "below/kept", "failed", "withheld"):
        pictures.write(analyzer.analyze(skin(10), name=name))
    (tmp_path / "masks" / "notes.txt").write_text("not ours")
    records = [
        {"name": "kept", "malignant_probability": 0.5},
        {"name": "below/kept", "malignant_probability": 0.5},
        {"name": "failed", "error": "damaged"},
        {"name": "withheld", "malignant_probability": None},
    ]
    assert pictures.keep(records) == 4 * 3
    left = {
        path.relative_to(tmp_path / "masks").as_posix() for path in (tmp_path / "masks").rglob("*")
    }
    assert left == {"notes.txt", "kept.png", "below", "below/kept.png"}
    assert pictures.keep(records[:1]) == 3
    assert not (tmp_path / "overlays" / "below").exists()
    assert Pictures(tmp_path).keep([]) == 0


def test_a_results_folder_that_was_removed_is_not_made_again(tmp_path: Path) -> None:
    analysis = Analyzer(write_small_release(tmp_path / "release")).analyze(skin(10), name="a/b")
    for options in ({"masks": True}, {"overlays": True}):
        with pytest.raises(StorageError, match="cannot be made"):
            Pictures(tmp_path / "gone", **options).write(analysis)
    assert not (tmp_path / "gone").exists()
