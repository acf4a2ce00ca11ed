"""What an error advises can be done: every extra that is named exists."""

import re
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parents[1]
FOLDERS = ("src/dermfuse", "docs", "deploy", "web/src")
FILES = ("README.md", "CHANGELOG.md", "Makefile")
EXTRAS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"][
    "optional-dependencies"
]


def test_every_hint_names_extras_of_a_checkout_and_asks_no_index_for_dermfuse() -> None:
    found = [path for folder in FOLDERS for path in (REPOSITORY / folder).rglob("*")]
    suffixes = {".py", ".md", ".html", ".ts", ".service", ""}
    named: set[str] = set()
    for path in (*found, *(REPOSITORY / name for name in FILES)):
        if not (path.is_file() and path.suffix in suffixes):
            continue
        text = path.read_text()
        for hint in re.findall(r"""\.\[([a-z,]+)\]'|installing\(["']([a-z]+)["']\)""", text):
            assert set("".join(hint).split(",")) <= EXTRAS.keys(), path
            named |= set("".join(hint).split(","))
        assert "dermfuse[" not in text, path
        for hint in re.findall(r"pip install[^\n`]*", text):
            assert not re.search(r"install (-\S+ )*'?dermfuse", hint), (path, hint)
    assert named >= {"train", "dicom", "export", "figures", "ray", "serve"}


def test_serving_installs_no_more_than_the_core_and_its_extra() -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    assert re.search(r"^serve: \$\(VENV\)/\.serve runs/app  ##", makefile, re.M)
    assert re.search(r"^\$\(VENV\)/\.serve: \$\(VENV\)/\.core\n.*'\.\[serve\]'$", makefile, re.M)
    assert re.search(r"^runs/app: \$\(VENV\)/\.core ", makefile, re.M)
    heavy = ("torch", "lightning", "ray", "matplotlib", "onnx>", "scikit")
    assert not [one for one in EXTRAS["serve"] if one.startswith(heavy)]
