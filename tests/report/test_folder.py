"""A folder's page: the notice first, counts, rows as they are given, nothing loaded or run."""

import re
from dataclasses import replace

import pytest

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
    return render_folder(summary, rows, **page)


def _counts(summary: FolderSummary) -> dict[str, str]:
    found = re.findall(r'"value">(.+)</p>\s*<p class="name">(.+)</p>', _render(summary=summary))
    return {name: count for count, name in found}


class TestRows:
    def test_a_row_says_everything_that_is_known(self) -> None:
        text = re.sub(r"\s+", " ", _render(ROW))
        for part in ("a.png", "0.812", "malignant", "25.0 %", "blur", "asymmetry 0.5, border 0.1"):
            assert part in text
        assert '<img src="data:image/jpeg;base64,/9j/"' in text
        assert _render(replace(ROW, thumbnail="data:image/jpeg;base64,/9j/")) == _render(ROW)

    def test_what_was_withheld_is_said_and_not_shown_as_zero(self) -> None:
        text = _render(ImageRow("a", None, "withheld", None))
        assert "0.000" not in text
        assert "<img" not in text
        assert text.count("withheld") >= 3

    def test_names_and_flags_are_text(self) -> None:
        text = _render(ImageRow("<script>1</script>", 0.5, '"><b>', 0.1, flags=("<i>",)))
        assert not re.search(r"<script|<b>|<i>", text)


class TestHead:
    def test_the_notice_stays_in_sight(self) -> None:
        text = _render(ROW)
        assert text.count(NOTICE) == 2
        assert re.search(r"\.notice \{ position: sticky; top: 0", text)

    def test_counts_are_of_the_whole_folder_and_rare_zeros_are_left_out(self) -> None:
        assert _counts(SUMMARY) == {
            "images analysed": "1,203",
            "called malignant": "3",
            "called benign": "1,200",
            "with a flag": "2",
        }

    def test_what_is_withheld_is_counted_and_named_before_the_calls(self) -> None:
        summary = FolderSummary(malignant=1, benign=2, withheld=3, flagged=0, failed=0)
        assert list(_counts(summary))[:3] == ["images analysed", "withheld", "called malignant"]
        assert "need a look by eye" in _render(ROW, summary=summary)
        assert "need a look by eye" not in _render(ROW)

    def test_failures_are_listed_on_the_first_page(self) -> None:
        summary = FolderSummary(0, 1, 0, 0, failed=7, errors=(("bad.png", "no image"),))
        first = _render(ROW, summary=summary, number=1, pages=2)
        assert "bad.png" in first
        assert "And 6 more, in errors.csv" in first
        assert "bad.png" not in _render(ROW, summary=summary, number=2, pages=2)

    def test_pages_say_where_they_stand(self) -> None:
        text = re.sub(r"\s+", " ", _render(ROW, number=2, pages=3))
        assert "Page 2 of 3, images 1,001 to 1,001. The next page is the file report-3.html" in text
        assert "next page" not in _render(ROW, number=3, pages=3)

    def test_a_folder_without_any_result_has_a_page(self) -> None:
        assert "0 images" in _render(summary=FolderSummary(0, 0, 0, 0, 0))

    def test_facts_stand_at_the_end(self) -> None:
        summary = FolderSummary(0, 1, 0, 0, 0, facts=(("threshold", "0.31"),))
        assert "<dt>threshold</dt><dd>0.31</dd>" in _render(ROW, summary=summary)


@pytest.mark.parametrize("pattern", [r"<script", r"<a\b", r"https?://", r"\son\w+=", r"url\("])
def test_the_page_loads_links_and_runs_nothing(pattern: str) -> None:
    assert not re.search(pattern, _render(ROW))
