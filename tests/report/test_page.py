import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import DataError
from dermfuse.folders import NOTICE
from dermfuse.report.page import (
    Page,
    Picture,
    Table,
    markdown_table,
    render_markdown,
    render_page,
    replace_block,
)

ROWS = (("fusion", "0.724\n0.640 to 0.800"),)


class Tags(HTMLParser):
    """The attributes of every tag; fails on tags that are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        self.open += [tag] if tag not in {"meta", "link", "img"} else []

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def values(self, tag: str, key: str) -> list[str | None]:
        return [attrs[key] for name, attrs in self.seen if name == tag and key in attrs]


def table(title: str, **parts: Any) -> Table:
    return Table(title, "Note.", ("Network", "AP"), ROWS, **parts)


def page(title: str = "A run", **parts: Any) -> Page:
    given = {"tables": (table("Classification"),), **parts}
    return Page(title=title, lead="What was done.", facts=(("Seed", "0"),), **given)


def test_a_page_is_well_formed_and_shows_its_numbers_below_the_notice() -> None:
    html = render_page(page(findings=(("AUC", "0.854", "of the test set"),)))
    assert Tags(html).seen
    numbers = ("0.854", "of the test set", "0.724", "0.640 to 0.800")
    places = [html.index(text) for text in (NOTICE, *numbers, "<dt>Seed</dt><dd>0</dd>")]
    assert places == sorted(places)
    assert "prefers-color-scheme: dark" in html
    assert 'name="viewport"' in html
    assert "<nav" not in html, "there is no summary"
    assert "Figures" not in html, "there is none"


def test_a_page_loads_nothing_and_escapes_what_it_is_given() -> None:
    html = render_page(page("<b>&", pictures=(Picture("fig-08", "Fig. 8", "Curves.", b"png"),)))
    tags = Tags(html)
    assert tags.values("img", "src") == ["data:image/png;base64,cG5n"]
    assert tags.values("img", "alt") == ["Fig. 8"]
    assert tags.values("link", "href") == ["data:,"]
    assert not re.search(r"https?://|@import|url\(|<script", html)
    assert "default-src 'none'" in html
    assert "&lt;b&gt;&amp;" in html
    assert "<b>" not in html


def test_words_are_folded_below_their_table() -> None:
    html = render_page(page(tables=(table("Beside", paragraphs=("It <holds>.",)),)))
    assert html.index("0.724") < html.index("<summary>In words<") < html.index("It &lt;holds&gt;.")


def test_the_summary_comes_first_then_contents_that_lead_to_each_title_once() -> None:
    tables = (table("Table III: It"), table("Runs", is_folded=True))
    shown = page(summary=(table("Headline"),), tables=tables)
    html = render_page(shown)
    anchors = Tags(html).values("section", "id")
    assert anchors == ["headline", "table-iii-it", "runs", "how-these-numbers-were-made"]
    assert Tags(html).values("a", "href") == [f"#{anchor}" for anchor in anchors[1:]]
    assert html.index('id="headline"') < html.index("<nav") < html.index('id="table-iii-it"')
    assert html.index("<h2>Runs") < html.index("<summary>1 rows")
    said = render_markdown(shown)
    places = [said.index(f"## {title}\n") for title in ("Headline", "Table III: It", "Runs")]
    assert places == sorted(places)
    assert "- [Table III: It](#table-iii-it)\n- [Runs](#runs)\n" in said


def test_a_row_that_does_not_fit_its_columns_is_refused() -> None:
    with pytest.raises(ValueError, match="has not 2 cells"):
        Table("t", "", ("a", "b"), (("x",),))


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
