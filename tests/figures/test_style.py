import io
import re
from pathlib import Path

import numpy as np
from matplotlib.colors import to_rgb
from PIL import Image

import dermfuse.report
from dermfuse.figures.style import (
    DPI,
    INK,
    PALETTE,
    PREDICTED,
    TRUTH,
    WIDTH_IN,
    Basis,
    encode,
    house_style,
    line_style,
    new_figure,
)
from dermfuse.records.folders import NOTICE

PAGE_STYLE = Path(dermfuse.report.__file__).parent / "templates" / "base.css"
BASIS = Basis("test", 379, ("dc-mobilenetv1, seed 0",), malignant=75)


def test_a_picture_decodes_to_the_stated_size_and_says_what_it_stands_on() -> None:
    picture, again = (encode(new_figure(2.5), BASIS, "worst_masks", images=8) for _ in range(2))
    assert picture.png == again.png
    image = Image.open(io.BytesIO(picture.png))
    assert image.size == (round(WIDTH_IN * DPI), round(2.5 * DPI))
    assert picture.name == "fig-14-worst-masks"
    assert image.info["Title"] == picture.title == "Failures of segmentation"
    assert image.info["Description"] == f"{picture.caption} {NOTICE}"
    assert Basis("", 3, ("a",)).sentence() == "split not stated: n = 3 images; a."
    assert picture.caption == (
        "The 8 images with the lowest Jaccard, the lowest first. "
        "test: n = 379 images (75 malignant); dc-mobilenetv1, seed 0."
    )


def test_a_figure_has_no_ground_and_its_ink_reads_on_white_and_on_the_dark_page() -> None:
    picture = house_style(lambda: encode(new_figure(1.0), BASIS, "activation_maps"))()
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGBA"))
    assert (pixels[0, :, 3] == 0).all()
    drawn = pixels[pixels[..., 3] == 255]
    assert len(drawn), "the notice"
    dark = re.findall(r"--ground: (#[0-9a-f]{6})", PAGE_STYLE.read_text())
    assert len(dark) == 2, "of the light page and of the dark one"
    for ground in (*dark, "#0d1117"):
        assert _contrast(INK, ground) > 4.2
        assert min(_contrast(colour, ground) for colour in (*PALETTE, TRUTH, PREDICTED)) > 2.1
    assert {tuple(pixel) for pixel in drawn[:, :3]} == {(0x7B, 0x7B, 0x7B)}


def _contrast(*colours: str) -> float:
    linear = [
        [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        for colour in colours
    ]
    low, high = sorted(np.dot(linear, (0.2126, 0.7152, 0.0722)))
    return float((high + 0.05) / (low + 0.05))


def test_thirty_lines_differ_in_more_than_their_colour() -> None:
    looks = [(s["color"], str(s["linestyle"])) for s in map(line_style, range(30))]
    assert len(set(looks)) == 30
    assert len({dashes for _, dashes in looks[:5]}) == 5, "neighbours in their dashes alone"
