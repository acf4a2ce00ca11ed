"""The command line as tests see it: a folder to work in, what a command prints, its exit status."""

import json
import shlex
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from dermfuse.cli import main
from dermfuse.predictions.folder import Manifest, write_manifest
from dermfuse.records.folders import NOTICE

from ..measured_release import write_measured_release
from ..small_release import skin, write_small_release

IDS = [f"ISIC_000000{index}" for index in range(6)]
LABELS = [0, 0, 1, 0, 1, 1]
SCORES = {"a": [0.1, 0.2, 0.9, 0.6, 0.7, 0.8], "b": [0.3, 0.9, 0.2, 0.4, 0.6, 0.7]}
"""Of a one benign image lies above 0.5."""


@dataclass(frozen=True)
class Said:
    """What a command wrote to stdout and stderr."""

    out: str
    err: str

    @property
    def record(self) -> dict[str, Any]:
        """The one JSON object of the result, which carries the notice."""
        found: dict[str, Any] = json.loads(self.out)
        assert found["notice"] == NOTICE
        return found


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line whose exit status must be ``status``; 2 is one line and no result.

    Texts are split as a shell does; paths are taken as they are.
    """

    def run_command(*parts: str | Path, status: int = 0) -> Said:
        capsys.readouterr()
        split = (shlex.split(part) if isinstance(part, str) else [str(part)] for part in parts)
        found = main([each for part in split for each in part])
        said = Said(*capsys.readouterr())
        assert found == status, said
        if status == 2:
            assert said.out == ""
            assert said.err.count("dermfuse: error: ") == 1
            assert said.err.splitlines()[-1].startswith("dermfuse: error: ")
        return said

    return run_command


def table(folder: Path, name: str, rows: Mapping[str, object]) -> Path:
    """Writes a CSV of ids into a new folder, which it returns."""
    folder.mkdir()
    lines = [f"image_id,{name.partition('s.')[0]}", *(f"{key},{rows[key]}" for key in rows)]
    (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def scored(folder: Path, rows: Mapping[str, object], *, split: str = "test") -> Path:
    table(folder, "scores.csv", rows)
    write_manifest(folder, Manifest("classification", source=folder.name, split=split))
    return folder


@pytest.fixture(scope="package")
def made(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli") / "room"
    write_small_release(folder / "release")
    write_measured_release(folder / "measured")
    (folder / "data").symlink_to(drawn)
    for name, scores in SCORES.items():
        scored(folder / name, dict(zip(IDS, scores, strict=True)))
    for name in ("other", "third"):
        table(folder / name, "scores.csv", {name: 0.5})
    table(folder / "truth", "labels.csv", dict(zip(IDS, LABELS, strict=True)))
    for name, text in (("index.html", ""), ("sw.js", "__BUILD__")):
        (folder / "compiled").mkdir(exist_ok=True)
        (folder / "compiled" / name).write_text(text)
    (folder / "run").mkdir()
    (folder / "run" / "config.toml").write_text("")
    (folder / "page.md").write_text("a page without a place for a table")
    (folder / "images").mkdir()
    Image.fromarray(skin(40)).save(folder / "images" / "lesion.png")
    return folder


@pytest.fixture
def room(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which a command runs, with all that commands read; nobody writes into it."""
    monkeypatch.chdir(made)
    return made
