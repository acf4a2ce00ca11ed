"""A folder's page: the notice first, counts, rows as they are given, nothing loaded or run."""

import re
from dataclasses import replace

from dermfuse.folders import NOTICE
from dermfuse.report.folder import FolderSummary, ImageRow, render_folder

SUMMARY = FolderSummary(malignant=3, benign=1200, withheld=0, flagged=2, failed=0)
ROW = ImageRow(
    name="a.png",
    probability=0.8125,
    predicted="malignant",
    area_fraction=0.25,
    flags=("blur",),
    details=(("asymmetry", "0.5"), ("border", "0.1")),
    thumbnail="/9j/",
)


def _render(*rows: ImageRow, summary: FolderSummary = SUMMARY, **page: int) -> str:
    return re.sub(r"\s+", " ", render_folder(summary, rows, **page))


def _counts(summary: FolderSummary) -> list[tuple[str, str]]:
    found = r'"value">([^<]+)</p> <p class="name">([^<]+)</p>'
    return re.findall(found, _render(summary=summary))


def test_a_row_says_everything_that_is_known() -> None:
    text = _render(ROW)
    for part in ("a.png", "0.812", "malignant", "25.0 %", "blur", "asymmetry 0.5, border 0.1"):
        assert part in text
    assert '<img src="data:image/jpeg;base64,/9j/"' in text
    assert _render(replace(ROW, thumbnail="data:image/jpeg;base64,/9j/")) == text


def test_what_was_withheld_is_said_and_not_shown_as_zero() -> None:
    text = _render(ImageRow("a", None, "withheld", None))
    assert "0.000" not in text
    assert "<img" not in text
    assert text.count("withheld") >= 3


def test_the_page_loads_links_and_runs_nothing_and_names_are_text() -> None:
    text = _render(ROW, ImageRow("<script>1</script>", 0.5, '"><b>', 0.1, flags=("<i>",)))
    assert not re.search(r"<script|<b>|<i>|<a\b|https?://|\son\w+=|url\(", text)


def test_a_page_alone_has_no_empty_lead() -> None:
    assert 'class="lead"' not in _render(ROW)
    assert '<p class="lead">Page 1 of 2, images 1 to 1.' in _render(ROW, pages=2)


def test_the_notice_stays_in_sight() -> None:
    text = _render(ROW)
    assert text.count(NOTICE) == 2
    assert ".notice { position: sticky; top: 0" in text


def test_counts_are_of_the_whole_folder_and_rare_zeros_are_left_out() -> None:
    assert _counts(SUMMARY) == [
        ("1,203", "images analysed"),
        ("3", "called malignant"),
        ("1,200", "called benign"),
        ("2", "with a flag"),
    ]
    assert "need a look by eye" not in _render(ROW)
    withheld = FolderSummary(malignant=1, benign=2, withheld=3, flagged=0, failed=0)
    assert _counts(withheld)[:2] == [("6", "images analysed"), ("3", "withheld")]
    assert "need a look by eye" in _render(ROW, summary=withheld)
    nothing = FolderSummary(0, 0, 0, 0, 0)
    assert _counts(nothing)[0] == ("0", "images analysed")


def test_pages_say_where_they_stand_and_the_first_lists_failures_the_last_all_facts() -> None:
    summary = FolderSummary(0, 1, 0, 0, 7, (("bad.png", "no image"),), (("threshold", "0.31"),))
    first, second = (_render(ROW, summary=summary, number=n, pages=2) for n in (1, 2))
    assert "bad.png" in first
    assert "And 6 more, in errors.csv" in first
    assert "Page 1 of 2, images 1 to 1. The next page is the file report-2.html" in first
    assert "bad.png" not in second
    assert "Page 2 of 2, images 1,001 to 1,001. </p>" in second
    assert "<dt>threshold</dt><dd>0.31</dd>" in second
