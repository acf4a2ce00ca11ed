import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from dermfuse.folders import NOTICE
from dermfuse.report import Chart, Example, Finding, Page, Plate, Series, Table, render_page

VOID = {"meta", "link", "img", "br", "hr", "input"}


class Tags(HTMLParser):
    """Every tag with its attributes; fails on tags that are not closed in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def page(title: str = "A run", *, full: bool = True) -> Page:
    series = Series("fusion", np.array([0.0, 1.0]), np.array([0.0, 1.0]))
    square = np.ones((4, 4), bool)
    example = Example("ISIC_9950000", np.zeros((4, 4, 3), np.uint8), square, square, ("Jaccard 1",))
    rows = ((("fusion", ""), ("0.724", "0.640 to 0.800")),)
    return Page(
        title=title,
        lead="What was done.",
        findings=(Finding("AUC", "0.854", "0.800 to 0.900", "test"), Finding("n", "undefined")),
        tables=(Table("Classification", "Note.", ("Network", "AP"), rows, strong_row=0),),
        charts=(Chart("ROC", "Note.", "x", "y", (series,), unit_square=True),) if full else (),
        examples=(example,) if full else (),
        examples_note="The first.",
        facts=(("Seed", "0"),),
    )


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def test_a_page_is_well_formed_and_shows_its_numbers() -> None:
    tags = parsed(render_page(page()))
    for text in ("A run", "0.854", "95 % interval 0.800 to 0.900", "0.640 to 0.800", "Jaccard 1"):
        assert text in tags.text


def test_a_page_shows_the_notice_above_its_numbers() -> None:
    text = parsed(render_page(page())).text
    assert text.index(NOTICE) < text.index("0.854")


def test_a_page_loads_nothing() -> None:
    html = render_page(page())
    for _, attributes in parsed(html).seen:
        for key in ("src", "href"):
            assert (attributes.get(key) or "data:").startswith(("data:", "#"))
    assert not re.search(r"https?://|@import|url\(|<script", html)
    assert "default-src 'none'" in html


def test_a_page_is_drawn_for_light_and_dark() -> None:
    html = render_page(page())
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html


def test_every_image_has_words_for_those_who_do_not_see_it() -> None:
    for tag, attributes in parsed(render_page(page())).seen:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"


def test_a_page_without_curves_and_examples_has_no_empty_sections() -> None:
    text = parsed(render_page(page(full=False))).text
    assert "Curves" not in text
    assert "Examples" not in text


def test_what_a_page_is_given_is_escaped() -> None:
    html = render_page(page("<b>&"))
    assert "&lt;b&gt;&amp;" in html
    assert "<b>" not in html


def test_a_row_that_does_not_fit_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="has not 2 cells"):
        Table("t", "", ("a", "b"), ((("x", ""),),))


def test_drawn_figures_are_embedded_and_words_are_folded_below_their_table() -> None:
    rows = ((("fusion", ""), ("0.724", "0.640 to 0.800\npaper 0.700")),)
    said = Table("Beside", "Note.", ("Network", "AP"), rows, paragraphs=("It <holds>.",))
    shown = replace(page(), tables=(said,), plates=(Plate("Fig. 8", "Curves.", b"png"),))
    html = render_page(shown)
    images = [dict(attrs) for tag, attrs in parsed(html).seen if tag == "img"]
    assert images[0]["src"] == "data:image/png;base64," + base64.b64encode(b"png").decode()
    assert images[0]["alt"] == "Fig. 8"
    assert "It &lt;holds&gt;." in html
    assert html.index("0.724") < html.index("<summary>In words<") < html.index("It &lt;holds&gt;.")
    assert "Curves." in html
    assert "Figures" not in parsed(render_page(page())).text


def test_the_summary_comes_first_then_contents_that_lead_to_each_title_once() -> None:
    rows = ((("fusion", ""), ("0.724", "")),)
    first, *others = (
        Table(title, "", ("Network", "AP"), rows, is_folded=title == "Runs")
        for title in ("Headline", "Table III: It", "Runs")
    )
    shown = replace(page(full=False), summary=(first,), tables=tuple(others), findings=())
    html = render_page(shown)
    tags = parsed(html)
    links = [attrs["href"] for tag, attrs in tags.seen if tag == "a"]
    assert links == ["#table-iii-it", "#runs", "#how-these-numbers-were-made"]
    anchors = [attrs["id"] for tag, attrs in tags.seen if tag == "section" and "id" in attrs]
    assert anchors == ["headline", *(str(link)[1:] for link in links)]
    for title in ("Headline", "Table III: It", "Runs"):
        assert html.count(f"<h2>{title}</h2>") == 1
    assert html.index('id="headline"') < html.index("<nav") < html.index('id="table-iii-it"')
    assert html.count("<summary>") == 1
    assert html.index("<summary>1 rows") > html.index("<h2>Runs")


def test_a_page_without_a_summary_has_no_contents() -> None:
    assert "<nav" not in render_page(page())
