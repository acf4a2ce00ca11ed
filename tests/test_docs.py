"""What the pages name exists: modules, functions, commands, options, files and anchors."""

import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from benchmarks import __main__ as benchmarks
from dermfuse.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    path for place in ("", "docs/", "web/", "deploy/") for path in ROOT.glob(f"{place}*.md")
)
PACKAGE = ROOT / "src" / "dermfuse"
SOURCES = [path.read_text("utf-8") for path in PACKAGE.rglob("*.[pt]*") if path.suffix != ".pyc"]
BLOCK = re.compile(r"^```\w*\n(.*?)^```", re.MULTILINE | re.DOTALL)


def unknown_names(text: str) -> list[str]:
    """Returns the dotted names of dermfuse and benchmarks that cannot be imported."""
    names = re.findall(r"(?<![\w./-])((?:dermfuse|benchmarks)(?:\.[A-Za-z_]\w*)+)(?![\w-])", text)
    files = (".tar", ".service", ".json", ".toml")
    return [name for name in sorted(set(names)) if not (name.endswith(files) or exists(name))]


def exists(name: str) -> bool:
    try:
        pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return False
    return True


def code(text: str) -> Iterator[str]:
    """Yields the code of a page: lines of its blocks, continued ones joined, and its spans."""
    for block in BLOCK.findall(text):
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", BLOCK.sub("", text)):
        yield " ".join(span.split())


def commands(group: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], set[str]]:
    """Returns the options of every command, by its path."""
    found = {path: {"--help", *(name for p in group.params for name in p.opts + p.secondary_opts)}}
    for name, command in getattr(group, "commands", {}).items():
        found |= commands(command, (*path, name))
    return found


COMMANDS = {
    "dermfuse": commands(typer.main.get_command(app)),
    "python -m benchmarks": commands(typer.main.get_command(benchmarks.app)),
}


def faults_of(line: str) -> Iterator[str]:
    """Yields what a line of code asks of a program that its command line does not have."""
    line = re.split(r"\s#\s|\s#$", line)[0]
    for program, call in re.findall(
        r"(?<!from )\b(dermfuse|python -m benchmarks) ([a-z-][^|&;)]*)", line
    ):
        known, words = COMMANDS[program], call.replace("'", "").replace('"', "").split()
        path: tuple[str, ...] = ()
        while words and (*path, words[0].rstrip(",")) in known:
            path = (*path, words.pop(0).rstrip(","))
        is_group = any(other[:-1] == path for other in known if other)
        if is_group and words and words[0] != "..." and not words[0].startswith("-"):
            yield f"{program} {' '.join((*path, words[0]))}"
            continue
        served = path or (("serve",) if program == "dermfuse" else ())  # as the container does
        options = (word.partition("=")[0] for word in words if word.startswith("--"))
        yield from (f"{program} {each}" for each in options if each not in known[served])


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as a forge makes them."""
    text = BLOCK.sub("", page.read_text("utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"\]\([^)]*\)|[^\w\s-]", "", title.strip().lower()) for title in titles)
    return {re.sub(r"\s", "-", title) for title in plain} | set(re.findall(r'id="([^"]+)"', text))


def broken_links(page: Path) -> Iterator[str]:
    for link in re.findall(r"\]\(([^)\s]+)\)", BLOCK.sub("", page.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        is_known = not anchor or target.suffix != ".md" or anchor in anchors(target)
        if ":" not in path and not (target.exists() and is_known):
            yield link


def missing_files(page: Path) -> Iterator[str]:
    """Yields the files of the source that a page names and that are not there."""
    for span in code(page.read_text("utf-8")):
        if re.fullmatch(r"[\w./-]+/[\w.-]+\.(py|ts|js|html|md|json)", span):
            first, bases = span.split("/")[0], (ROOT, PACKAGE, page.parent)
            is_ours = (ROOT / first).is_dir() or (PACKAGE / first).is_dir()
            if is_ours and not any((base / span).exists() for base in bases):
                yield span


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_what_a_page_names_exists(page: Path) -> None:
    text = page.read_text("utf-8")
    assert unknown_names(text) == []
    now = text.partition("\n### Changed")[0]  # which names what there was
    assert [fault for line in code(now) for fault in faults_of(line)] == []
    assert list(broken_links(page)) == []
    assert list(missing_files(page)) == []


def test_what_docstrings_name_exists() -> None:
    named = (span for text in SOURCES for span in re.findall(r"`[^`\n]+`", text))
    assert unknown_names(" ".join(named)) == []
    spans = [span for text in SOURCES for span in re.findall(r"`{1,2}(dermfuse [^`]+)`", text)]
    assert [fault for span in spans for fault in faults_of(" ".join(span.split()))] == []


def test_architecture_names_every_room_once() -> None:
    rows = re.findall(
        r"^\| (`.*?) \|", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )
    rooms = sorted(name for row in rows for name in re.findall(r"`(\w+)`", row))
    kept = {"presets", "plans", "shipped"}  # files alone
    parts = [each for each in PACKAGE.iterdir() if not each.name.startswith(("_", "py."))]
    assert rooms == sorted({each.stem for each in parts} - kept)
