import base64
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import DataError
from dermfuse.folders import NOTICE
from dermfuse.report import Finding, Page, Picture, Table, render_page
from dermfuse.report.page import markdown_table, render_markdown, replace_block

PICTURE = Picture("fig-08", "Fig. 8", "Curves.", b"png")
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


def page(title: str = "A run", **parts: Any) -> Page:
    rows = (("fusion", "0.724\n0.640 to 0.800"),)
    findings = (Finding("AUC", "0.854", "0.800 to 0.900", "test"), Finding("n", "undefined"))
    table = Table("Classification", "Note.", ("Network", "AP"), rows, strong_row=0)
    given = {"tables": (table,), "findings": findings, "pictures": (PICTURE,), **parts}
    return Page(title=title, lead="What was done.", facts=(("Seed", "0"),), **given)


def parsed(html: str) -> Tags:
    tags = Tags()
    tags.feed(html)
    assert tags.open == []
    return tags


def test_a_page_is_well_formed_and_shows_its_numbers() -> None:
    tags = parsed(render_page(page()))
    for text in ("A run", "0.854", "95 % interval 0.800 to 0.900", "0.640 to 0.800", "Curves."):
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


def test_what_a_page_is_given_is_escaped() -> None:
    html = render_page(page("<b>&"))
    assert "&lt;b&gt;&amp;" in html
    assert "<b>" not in html


def test_a_row_that_does_not_fit_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="has not 2 cells"):
        Table("t", "", ("a", "b"), (("x",),))


def test_drawn_figures_are_embedded_and_words_are_folded_below_their_table() -> None:
    rows = (("fusion", "0.724\n0.640 to 0.800\npaper 0.700"),)
    said = Table("Beside", "Note.", ("Network", "AP"), rows, paragraphs=("It <holds>.",))
    html = render_page(page(tables=(said,)))
    images = [dict(attrs) for tag, attrs in parsed(html).seen if tag == "img"]
    assert images[0]["src"] == "data:image/png;base64," + base64.b64encode(b"png").decode()
    assert images[0]["alt"] == "Fig. 8"
    assert html.index("0.724") < html.index("<summary>In words<") < html.index("It &lt;holds&gt;.")
    assert "Figures" not in parsed(render_page(page(pictures=()))).text


def test_the_summary_comes_first_then_contents_that_lead_to_each_title_once() -> None:
    rows = (("fusion", "0.724"),)
    first, *others = (
        Table(title, "", ("Network", "AP"), rows, is_folded=title == "Runs")
        for title in ("Headline", "Table III: It", "Runs")
    )
    shown = page(summary=(first,), tables=tuple(others), findings=(), pictures=())
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
    assert "<nav" not in render_page(page()), "there is no summary"
    assert render_markdown(shown) == MARKDOWN


MARKDOWN = f"""# A run

**Research only.** {NOTICE}

What was done.

## Headline

| Network | AP |
| --- | --- |
| fusion | 0.724 |

- [Table III: It](#table-iii-it)
- [Runs](#runs)
- [How these numbers were made](#how-these-numbers-were-made)

## Table III: It

| Network | AP |
| --- | --- |
| fusion | 0.724 |

## Runs

<details><summary>1 rows</summary>

| Network | AP |
| --- | --- |
| fusion | 0.724 |

</details>

## How these numbers were made

- Seed: 0
"""


def test_a_bar_in_a_cell_stays_in_its_cell() -> None:
    assert markdown_table(("a",), [("b|c\nd",)]).splitlines()[-1] == "| b\\|c<br>d |"


def test_a_block_is_replaced_in_its_place_and_without_one_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n")
    replace_block(file, "a", "new")
    assert file.read_text() == "before\n<!-- a:begin -->\nnew\n<!-- a:end -->\nafter\n"
    with pytest.raises(
        DataError, match=r"has no place for this table\. Expected: the lines <!-- b"
    ):
        replace_block(file, "b", "new")
    with pytest.raises(DataError, match="cannot be read"):
        replace_block(tmp_path / "none.md", "a", "new")
