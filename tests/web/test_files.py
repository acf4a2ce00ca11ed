"""The files that the app's own tests read; DERMFUSE_WRITE_VECTORS=1 writes them anew."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from .files import make_files

KEPT = Path(__file__).parents[2] / "web" / "tests" / "files.json"


@pytest.fixture(scope="module")
def files() -> list[dict[str, Any]]:
    return make_files()


def test_the_kept_files_are_those_of_today(files: list[dict[str, Any]]) -> None:
    if os.environ.get("DERMFUSE_WRITE_VECTORS"):
        KEPT.write_text(json.dumps(files, separators=(",", ":")) + "\n")
    kept = json.loads(KEPT.read_text())
    answers = ("name", "refused", "orientation", "rgb")
    assert [_some(each, answers) for each in kept] == [_some(each, answers) for each in files]


def test_files_of_every_kind_are_read_and_refused(files: list[dict[str, Any]]) -> None:
    for kind in ("PNG", "JPEG"):
        assert {each["refused"] for each in files if each["name"].startswith(kind)} == {True, False}
    for kind in ("PNG", "JPEG", "WebP"):
        ways = {each.get("orientation") for each in files if each["name"].startswith(kind)}
        assert ways >= set(range(1, 9))


def _some(record: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: record[key] for key in keys if key in record}
