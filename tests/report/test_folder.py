"""A folder's page: the notice first, counts, rows as they are given, nothing loaded or run."""

import re
from dataclasses import replace

from dermfuse.records.folders import NOTICE
from dermfuse.report.folder import FolderSummary, ImageRow, render_folder

SUMMARY = FolderSummary(malignant=3, benign=1200, withheld=0, flagged=2, failed=0)
DETAILS = (("asymmetry", "0.5"), ("border", "0.1"))
ROW = ImageRow("a.png", 0.8125, "malignant", 0.25, ("blur",), DETAILS, thumbnail="/9j/")


def _render(*rows: ImageRow, summary: FolderSummary = SUMMARY, **page: int) -> str:
    return re.sub(r"\s+", " ", render_folder(summary, rows, **page))


def test_a_row_says_everything_that_is_known_as_text_on_a_page_that_loads_nothing() -> None:
    text = _render(ROW, ImageRow("<script>1</script>", 0.5, '"><b>', 0.1, flags=("<i>",)))
    for part in ("a.png", "0.812", "malignant", "25.0 %", "blur", "asymmetry 0.5, border 0.1"):
        assert part in text
    assert '<img src="data:image/jpeg;base64,/9j/"' in text
    assert _render(replace(ROW, thumbnail="data:image/jpeg;base64,/9j/")) == _render(ROW)
    assert not re.search(r"<script|<b>|<i>|<a\b|https?://|\son\w+=|url\(", text)
    assert text.count(NOTICE) == text.count(".notice { position: sticky; top: 0") + 1 == 2


def test_counts_are_of_the_whole_folder_and_what_was_withheld_is_no_zero() -> None:
    row, some = ImageRow("a", None, "withheld", None), replace(SUMMARY, withheld=3, flagged=0)
    plain, doubtful = _render(ROW), _render(row, summary=some)
    counts = re.compile(r'"value">([^<]+)</p> <p class="name">([^<]+)</p>')
    called = [("3", "called malignant"), ("1,200", "called benign")]
    assert counts.findall(plain) == [("1,203", "images analysed"), *called, ("2", "with a flag")]
    assert counts.findall(doubtful) == [("1,206", "images analysed"), ("3", "withheld"), *called]
    assert ["need a look by eye" in text for text in (plain, doubtful)] == [False, True]
    assert not re.search(r"0\.000|<img", doubtful)


def test_pages_say_where_they_stand_and_the_first_lists_failures_the_last_all_facts() -> None:
    summary = FolderSummary(0, 1, 0, 0, 7, (("bad.png", "no image"),), (("threshold", "0.31"),))
    first, second = (_render(ROW, summary=summary, number=n, pages=2) for n in (1, 2))
    assert "And 6 more, in errors.csv" in first
    assert "Page 1 of 2, images 1 to 1. The next page is the file report-2.html" in first
    assert ("bad.png" in first, "bad.png" in second) == (True, False)
    assert "Page 2 of 2, images 1,001 to 1,001. </p>" in second
    assert "<dt>threshold</dt><dd>0.31</dd>" in second
