import re
from xml.etree import ElementTree

import numpy as np
import pytest

from dermfuse.report.page import Chart, Series, draw_chart


def line(name: str = "loss", *values: float) -> Series:
    y = np.array(values or (3.0, 2.0, 1.0))
    return Series(name, np.arange(1.0, len(y) + 1), y)


def chart(*series: Series, unit_square: bool = False) -> Chart:
    return Chart("Training", "A note.", "epoch", "loss", series, unit_square=unit_square)


def texts(svg: str, kind: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return ["".join(node.itertext()) for node in root.iter("text") if node.get("class") == kind]


def paths(svg: str, kind: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return [node.get("d", "") for node in root.iter("path") if node.get("class") == kind]


def test_a_unit_square_puts_its_corners_at_the_axes() -> None:
    diagonal = Series("x", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    svg = draw_chart(chart(diagonal, unit_square=True))
    assert paths(svg, "line line-0")[0] == "M44.0 230.0L350.0 10.0"
    assert paths(svg, "axis") == ["M44.0 10.0L44.0 230.0L350.0 230.0"]


def test_axes_carry_round_numbers() -> None:
    ticks = texts(draw_chart(chart(line("loss", 0.11, 0.52, 0.98))), "tick")
    assert ticks == ["0", "0.2", "0.4", "0.6", "0.8", "1", "1", "1.5", "2", "2.5", "3"]


def test_every_line_has_a_legend_and_a_style_of_its_own() -> None:
    svg = draw_chart(chart(line("one"), line("two"), line("three"), line("four")))
    assert texts(svg, "legend") == ["one", "two", "three", "four"]
    for index in range(4):
        assert len(paths(svg, f"line line-{index}")) == 2  # the line and its legend


def test_a_reference_line_is_drawn_where_asked_for() -> None:
    only = Series("x", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    by_chance = Chart("t", "", "x", "y", (only,), unit_square=True, reference=(0, 0.5, 1, 0.5))
    assert paths(draw_chart(by_chance), "chance") == ["M44.0 120.0L350.0 120.0"]
    assert paths(draw_chart(chart(line())), "chance") == []


@pytest.mark.parametrize("values", [(0.5,), (0.0,), (2.0, 2.0)])
def test_one_epoch_and_a_constant_are_drawn(values: tuple[float, ...]) -> None:
    numbers = re.findall(
        r"[\d.]+", paths(draw_chart(chart(line("loss", *values))), "line line-0")[0]
    )
    assert all(0 <= float(number) <= 360 for number in numbers)


def test_names_are_escaped() -> None:
    svg = draw_chart(chart(line("<script>&")))
    assert texts(svg, "legend") == ["<script>&"]


def test_more_lines_than_the_style_can_tell_apart_are_refused() -> None:
    with pytest.raises(ValueError, match="5 lines"):
        chart(*[line(str(index)) for index in range(5)])
    with pytest.raises(ValueError, match="0 lines"):
        chart()
