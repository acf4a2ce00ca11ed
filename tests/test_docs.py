"""What the pages name exists: modules, functions, commands, options, files and anchors."""

import importlib
import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main

from benchmarks import __main__ as benchmarks
from dermfuse.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("web/*.md"), *ROOT.glob("deploy/*.md")]
)
SOURCES = sorted([*ROOT.glob("src/**/*.py"), *ROOT.glob("src/**/*.toml")])
PACKAGE = ROOT / "src" / "dermfuse"
EXTRAS = {"torch", "lightning", "safetensors", "h5py", "pooch", "onnx", "matplotlib", "sklearn"} | {
    "scipy",
    "fastapi",
    "uvicorn",
    "ray",
    "pydicom",
}

pages = pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())


def named(text: str) -> set[str]:
    """Returns the dotted names of dermfuse and benchmarks, without file names and hosts."""
    names = re.findall(r"(?<![\w./-])((?:dermfuse|benchmarks)(?:\.[A-Za-z_]\w*)+)(?![\w-])", text)
    return {name for name in names if not name.endswith((".tar", ".service", ".json", ".toml"))}


def exists(name: str) -> bool:
    """Says whether a dotted name can be imported, or would be with an extra that is not here."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError as error:
            if error.name in EXTRAS:
                return True
            continue
        for part in parts[length:]:
            fields = getattr(found, "__dataclass_fields__", {})
            if not hasattr(found, part) and part not in fields:
                return False
            found = getattr(found, part, None)
        return True
    return False


def code(text: str) -> Iterator[str]:
    """Yields the code of a page: lines of its blocks, continued ones joined, and its spans."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    for block in blocks:
        yield from re.sub(r"\\\n\s*", " ", block).splitlines()
    prose = re.sub(r"^```\w*\n.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose):
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


def faults_of(line: str) -> list[str]:
    """Returns what a line of code asks of a program that its command line does not have."""
    line = re.split(r"\s#\s|\s#$", line)[0]
    calls = re.findall(r"(?<!from )\b(dermfuse|python -m benchmarks) ([a-z-][^|&;)]*)", line)
    return [fault for program, call in calls for fault in faults_of_call(program, call)]


def faults_of_call(program: str, call: str) -> list[str]:
    """Returns the command, or the options, of a call that a program does not have."""
    known = COMMANDS[program]
    try:
        words = shlex.split(call)
    except ValueError:  # a quotation that ends elsewhere
        words = call.split()
    path: tuple[str, ...] = ()
    while words and (*path, words[0].rstrip(",")) in known:
        path = (*path, words.pop(0).rstrip(","))
    is_group = any(other[:-1] == path for other in known if other)
    if is_group and words and words[0] != "..." and not words[0].startswith("-"):
        return [f"{program} {' '.join((*path, words[0]))}"]
    served = path or (("serve",) if program == "dermfuse" else ())  # as the container does
    options = (word.partition("=")[0] for word in words if word.startswith("--"))
    return [f"{program} {' '.join(path)} {each}" for each in options if each not in known[served]]


def anchors(page: Path) -> set[str]:
    """Returns the anchors of a page's headings, as a forge makes them."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"\]\([^)]*\)|[^\w\s-]", "", title.strip().lower()) for title in titles)
    return {re.sub(r"\s", "-", title) for title in plain} | set(re.findall(r'id="([^"]+)"', text))


@pages
def test_dotted_names_import(page: Path) -> None:
    assert [name for name in sorted(named(page.read_text("utf-8"))) if not exists(name)] == []


def test_dotted_names_of_docstrings_import() -> None:
    texts = {path: path.read_text("utf-8") for path in SOURCES}
    spans = {path: " ".join(re.findall(r"`[^`\n]+`", text)) for path, text in texts.items()}
    missing = {
        p.name: [n for n in sorted(named(text)) if not exists(n)] for p, text in spans.items()
    }
    assert {name: names for name, names in missing.items() if names} == {}


@pages
def test_commands_and_options_exist(page: Path) -> None:
    text = page.read_text("utf-8").partition("\n### Changed")[0]  # which names what there was
    assert [fault for line in code(text) for fault in faults_of(line)] == []


def test_commands_and_options_of_docstrings_exist() -> None:
    texts = [path.read_text("utf-8") for path in SOURCES]
    spans = [span for text in texts for span in re.findall(r"`{1,2}(dermfuse [^`]+)`", text)]
    assert [fault for span in spans for fault in faults_of(" ".join(span.split()))] == []


@pages
def test_links_and_their_anchors_exist(page: Path) -> None:
    broken = []
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.MULTILINE | re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = link.partition("#")
        if ":" in path:
            continue
        target = (page.parent / path) if path else page
        if not target.exists() or (
            anchor and target.suffix == ".md" and anchor not in anchors(target)
        ):
            broken.append(link)
    assert broken == []


@pages
def test_files_of_the_source_exist(page: Path) -> None:
    files = {
        span
        for span in code(page.read_text("utf-8"))
        if re.fullmatch(r"[\w./-]+/[\w.-]+\.(py|ts|js|html|md|json)", span)
        and (ROOT / span.split("/")[0]).is_dir() | (PACKAGE / span.split("/")[0]).is_dir()
    }
    bases = (ROOT, PACKAGE, page.parent)
    assert [file for file in sorted(files) if not any((b / file).exists() for b in bases)] == []


def test_architecture_names_every_room_once() -> None:
    rows = re.findall(
        r"^\| (`.*?) \|", (ROOT / "docs/architecture.md").read_text("utf-8"), re.MULTILINE
    )
    rooms = sorted(name for row in rows for name in re.findall(r"`(\w+)`", row))
    kept = {"presets", "plans", "shipped"}  # files alone
    parts = [each for each in PACKAGE.iterdir() if not each.name.startswith(("_", "py."))]
    assert rooms == sorted({each.stem for each in parts} - kept)
