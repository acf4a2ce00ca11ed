import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from dermfuse.errors import DataError
from dermfuse.records.folders import NOTICE
from dermfuse.report.page import Page, Picture, Table, render_markdown, render_page, replace_block


def table(title: str, **parts: Any) -> Table:
    return Table(title, "Note.", ("Net", "A|P"), (("fusion", "0.724\n0.640 to 0.8"),), **parts)


def page(*tables: Table, title: str = "A run", **parts: Any) -> Page:
    return Page(title, "What was done.", tables, facts=(("Seed", "0"),), **parts)


def tags(html: str, name: str) -> list[dict[str, str]]:
    """Returns the attributes of some tags; fails where any tag is not closed in order."""
    closed = re.sub(r"<(meta|link|img)\b([^>]*)>", r"<\1\2/>", html.partition("\n")[2])
    return [each.attrib for each in ElementTree.fromstring(closed).iter(name)]


def test_a_page_shows_its_numbers_in_order_loads_nothing_and_escapes_what_it_is_given() -> None:
    shown, picture = table("t", paragraphs=("It <holds>.",)), Picture("f", "Fig. 8", "", b"png")
    findings = (("AUC", "0.854", "of the test set"),)
    html = render_page(page(shown, title="<b>&", findings=findings, pictures=(picture,)))
    numbers = ["0.854", "of the test set", "0.724", "0.640 to 0.8", "<summary>In words<"]
    head = ["default-src 'none'", "&lt;b&gt;&amp;", "prefers-color-scheme: dark", NOTICE]
    parts = [*head, *numbers, "It &lt;holds&gt;.", "Fig. 8", "<dt>Seed</dt><dd>0</dd>"]
    assert sorted(parts, key=html.index) == parts
    assert [tag["src"] for tag in tags(html, "img")] == ["data:image/png;base64,cG5n"]
    assert [tag["href"] for tag in tags(html, "link")] == ["data:,"]
    assert not re.search(r"https?://|@import|url\(|<script|<b>|<nav", html)


def test_the_summary_comes_first_then_contents_that_lead_to_each_title_once() -> None:
    shown = page(table("Table III: It"), table("Runs", is_folded=True), summary=(table("Head"),))
    html, said = render_page(shown), render_markdown(shown)
    anchors = [tag["id"] for tag in tags(html, "section")]
    assert anchors == ["head", "table-iii-it", "runs", "how-these-numbers-were-made"]
    assert [tag["href"] for tag in tags(html, "a")] == [f"#{anchor}" for anchor in anchors[1:]]
    parts = ['id="head"', "<nav", 'id="table-iii-it"', "<h2>Runs", "<summary>1 rows"]
    assert sorted(parts, key=html.index) == parts
    parts = ["## Head\n", "- [Runs](#runs)\n", "## Table III: It\n", "## Runs\n"]
    assert sorted(parts, key=said.index) == parts
    assert "| Net | A\\|P |\n| --- | --- |\n| fusion | 0.724<br>0.640 to 0.8 |" in said
    with pytest.raises(ValueError, match="has not 2 cells"):
        Table("t", "", ("a", "b"), (("x",),))


def test_a_block_is_replaced_in_its_place_and_without_one_it_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- a:begin -->\nold\n<!-- a:end -->\nafter\n")
    replace_block(file, "a", "new")
    assert file.read_text() == "before\n<!-- a:begin -->\nnew\n<!-- a:end -->\nafter\n"
    for name, message in (("page.md", "Expected: the lines <!-- b"), ("none", "cannot be read")):
        with pytest.raises(DataError, match=message):
            replace_block(tmp_path / name, "b", "new")
