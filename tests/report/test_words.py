"""One number has one name: in the outputs, in the app's sources and in the documentation."""

import re
from pathlib import Path

from dermfuse import report as words
from dermfuse.analysis import records
from dermfuse.report.folder import FolderSummary, ImageRow, render_folder

ROOT = Path(__file__).parents[2]
OTHER_NAMES = r"(?i)(y|ies) of malignan|malignancy probab|lesion.s share|look like (a )?dermoscopy"
ROOMS = ("analysis", "cli", "report", "server")
TEXTS = {".md", ".ts", ".py", ".html"}


def test_the_documentation_a_report_and_the_app_use_the_same_names() -> None:
    documented = (ROOT / "docs/analysis.md").read_text().partition("## Names")[2]
    names = (words.PROBABILITY, words.LESION_SHARE, words.WITHHELD, words.UNLIKE)
    assert all(f"\n| {name} |" in documented.partition("\n## ")[0] for name in names)
    report = render_folder(FolderSummary(1, 0, 0, 0, 0), [ImageRow("a", 0.5, "malignant", 0.25)])
    assert all(f'<th scope="col">{name.capitalize()}</th>' in report for name in names[:2])
    app = "".join(path.read_text() for path in (ROOT / "web/src").rglob("*.ts"))
    app = re.sub(r'" \+\s+"', "", app)  # strings that continue on the next line
    for said in (*(name.capitalize() for name in names[:3]), records._WITHHELD):
        assert f'"{said}"' in app


def test_nobody_uses_another_name() -> None:
    for folder in ("docs", "web/src", *(f"src/dermfuse/{room}" for room in ROOMS)):
        files = [p for p in (ROOT / folder).rglob("*.*") if p.suffix in TEXTS]
        assert files
        assert [path for path in files if re.search(OTHER_NAMES, path.read_text())] == []
