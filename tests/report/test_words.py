"""One number has one name: in the outputs, in the app's sources and in the documentation."""

import html
import re
from pathlib import Path

import pytest

from dermfuse import report as words
from dermfuse.analysis import records
from dermfuse.report.folder import FolderSummary, ImageRow, render_folder

REPOSITORY = Path(__file__).parents[2]
APP = REPOSITORY / "web" / "src"
NAMES = (words.PROBABILITY, words.LESION_SHARE, words.WITHHELD, words.UNLIKE)
OTHER_NAMES = (
    r"(probability of|probabilities of) malignan|malignancy probability|lesion.s share of the frame"
)


def _app() -> str:
    """Returns the app's sources, strings that go on in the next line joined."""
    text = "\n".join(path.read_text() for path in sorted(APP.rglob("*.ts")))
    return re.sub(r'" \+\s+"', "", text)


def test_the_table_of_names_has_all_of_them() -> None:
    page = (REPOSITORY / "docs" / "analysis.md").read_text()
    table = page.partition("## Names")[2].partition("\n## ")[0]
    for name in NAMES:
        assert f"\n| {name} |" in table


def test_a_report_says_them() -> None:
    rows = (ImageRow("a", 0.5, "malignant", 0.31349), ImageRow("b", None, "withheld", None))
    summary = FolderSummary(malignant=1, benign=0, withheld=1, flagged=0, failed=0)
    page = html.unescape(render_folder(summary, rows))
    for name in (words.PROBABILITY, words.LESION_SHARE):
        assert f'<th scope="col">{name.capitalize()}</th>' in page
    assert ">31.3 %<" in page


def test_the_app_says_them() -> None:
    sources = _app()
    for name in (words.PROBABILITY, words.LESION_SHARE, words.WITHHELD):
        assert f'"{name.capitalize()}"' in sources


def test_library_and_app_withhold_in_the_same_words() -> None:
    assert f'"{records._WITHHELD}"' in _app()


@pytest.mark.parametrize("folder", ["docs", "web/src", "src/dermfuse/analysis", "src/dermfuse/cli",
                                    "src/dermfuse/report", "src/dermfuse/server"])  # fmt: skip
def test_nobody_says_another_name(folder: str) -> None:
    texts = [p for p in sorted((REPOSITORY / folder).rglob("*.*")) if p.suffix in {
        ".md", ".ts", ".py", ".html"}]  # fmt: skip
    assert texts
    for path in texts:
        text = path.read_text()
        assert not re.search(OTHER_NAMES, text, re.IGNORECASE), path
        assert "look like a dermoscopy" not in text, path
        assert "look like dermoscopy" not in text, path
