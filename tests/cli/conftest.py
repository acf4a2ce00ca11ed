"""The command line as tests see it: what one command prints, and its exit status."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from dermfuse.cli import main
from dermfuse.folders import NOTICE

from ..small_release import write_small_release


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

    @property
    def error(self) -> str:
        """The last line of stderr."""
        return self.err.splitlines()[-1]


Run = Callable[..., Said]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command whose exit status must be ``status``; 2 comes with one line and no result."""

    def run_command(*arguments: object, status: int = 0) -> Said:
        capsys.readouterr()
        found = main([str(each) for each in arguments])
        said = Said(*capsys.readouterr())
        assert found == status, said
        if status == 2:
            assert said.out == ""
            assert said.err.count("dermfuse: error: ") == 1
            assert said.error.startswith("dermfuse: error: ")
        return said

    return run_command


@pytest.fixture(scope="package")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release whose answers can be followed by hand; read only."""
    return write_small_release(tmp_path_factory.mktemp("cli") / "release")
