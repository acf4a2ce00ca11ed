import io

import pytest
from PIL import Image

from dermfuse.errors import DataError
from dermfuse.figures.style import (
    DPI,
    WIDTH_IN,
    Basis,
    encode,
    fold,
    line_style,
    new_figure,
    require,
    require_equal,
)
from dermfuse.runs import NOTICE

BASIS = Basis("test", 379, ("dc-mobilenetv1, seed 0",), malignant=75)


def test_a_picture_decodes_to_the_stated_size_and_says_what_it_stands_on() -> None:
    picture = encode(new_figure(2.5), name="a", title="A", caption="What.", basis=BASIS)
    image = Image.open(io.BytesIO(picture.png))
    assert image.size == (round(WIDTH_IN * DPI), round(2.5 * DPI))
    assert image.info["Description"] == NOTICE
    assert picture.caption == ("What. test: n = 379 images (75 malignant); dc-mobilenetv1, seed 0.")


def test_equal_figures_are_equal_bytes() -> None:
    one, other = (
        encode(new_figure(1.0), name="a", title="A", caption="", basis=BASIS).png for _ in range(2)
    )
    assert one == other


def test_a_split_that_is_not_known_is_said() -> None:
    assert Basis("", 3, ("a",)).sentence() == "split not stated: n = 3 images; a."


def test_thirty_lines_differ_in_more_than_their_colour() -> None:
    looks = [(s["color"], str(s["linestyle"])) for s in map(line_style, range(30))]
    assert len(set(looks)) == 30
    neighbours = [str(line_style(index)["linestyle"]) for index in range(5)]
    assert len(set(neighbours)) == 5


def test_a_long_word_is_broken_too() -> None:
    assert fold("abcdef gh", 3) == "abc\ndef\ngh"
    assert fold("", 3) == ""


def test_nothing_to_draw_is_refused_in_one_line() -> None:
    with pytest.raises(DataError, match="there are no scores to draw") as caught:
        require([], "scores")
    assert "\n" not in str(caught.value)


def test_columns_of_different_lengths_are_refused() -> None:
    with pytest.raises(DataError, match="labels and scores of lengths 2, 3"):
        require_equal([2, 3], "labels and scores")
