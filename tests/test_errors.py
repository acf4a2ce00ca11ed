"""What an error advises can be done: every extra that is named exists."""

import re
import tomllib
from pathlib import Path

import pytest

from dermfuse.errors import installing

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("src/dermfuse", "docs", "deploy", "web/src")
FILES = ("README.md", "CHANGELOG.md", "Makefile")
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]


def _texts() -> dict[Path, str]:
    found = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*"))]
    found += [REPOSITORY / name for name in FILES]
    suffixes = {".py", ".md", ".html", ".ts", ".service", ""}
    kept = [path for path in found if path.is_file() and path.suffix in suffixes]
    return {path: path.read_text() for path in kept}


def test_every_hint_names_extras_that_exist() -> None:
    named: set[str] = set()
    for path, text in _texts().items():
        hints = re.findall(r"""\.\[([a-z,]+)\]'""", text)
        hints += re.findall(r"""installing\(["']([a-z]+)["']\)""", text)
        for extra in ",".join(hints).split(",") if hints else ():
            assert extra in EXTRAS, (path, extra)
            named.add(extra)
    assert named >= {"train", "dicom", "export", "figures", "ray", "serve"}


def test_no_hint_asks_an_index_for_dermfuse() -> None:
    for path, text in _texts().items():
        assert "dermfuse[" not in text, path
        for hint in re.findall(r"pip install[^\n`]*", text):
            assert not re.search(r"install (-\S+ )*'?dermfuse", hint), (path, hint)


@pytest.mark.parametrize("extra", sorted(EXTRAS))
def test_a_hint_is_one_line_with_the_form_that_works_in_a_checkout(extra: str) -> None:
    assert installing(extra).endswith(f"pip install -e '.[{extra}]'")


def test_serving_installs_no_more_than_the_core_and_its_extra() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    rule = re.search(r"^serve: (.+?)  ##", makefile, re.M)
    assert rule is not None
    assert rule[1].split() == ["$(VENV)/.serve", "runs/app"]
    assert re.search(r"^\$\(VENV\)/\.serve: \$\(VENV\)/\.core\n.*'\.\[serve\]'$", makefile, re.M)
    assert re.search(r"^runs/app: \$\(VENV\)/\.core ", makefile, re.M)
    heavy = ("torch", "lightning", "ray", "matplotlib", "onnx>", "scikit")
    assert not [one for one in EXTRAS["serve"] if one.startswith(heavy)]
