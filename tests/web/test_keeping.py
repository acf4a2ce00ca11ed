"""The built app in real Chromium where files arrive damaged and where nothing may be kept."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dermfuse.records.folders import read_json
from dermfuse.web.build import add_release

from .browsers import drive
from .pictures import write_pictures
from .releases import write_release_for_drawings

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def tried(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each try, with a release of tiny networks."""
    work = tmp_path_factory.mktemp("tried")
    app = shutil.copytree(compiled, work / "app")
    add_release(app, write_release_for_drawings(work / "small", threshold=40_000.0))
    build = read_json(app / "build.json")
    paths = [file["path"] for file in (*build["shell"], *build["heavy"])]
    kinds = ("index-*.js", "worker-*.js", "*.mjs", "*.wasm", "release.json", "greens.*", "derm*")
    damaged = [path for path in paths if any(Path(path).match(kind) for kind in kinds)]
    file, damaged = write_pictures(work / "files")[0], ["build.json", *damaged]
    found = drive("keep.mjs", work, app=app, file=file, damaged=damaged)
    return found | {"heavy": [file["path"] for file in build["heavy"]]}


def test_the_app_answers_as_ever_and_fetches_again_what_no_longer_fits(
    tried: dict[str, Any],
) -> None:
    assert tried["sound"]["state"] == "analysed"
    names = ("nothing kept", "forbidden", "not secure", "full", "spoiled", "damaged once")
    for name in (*names, "damaged once, not secure"):
        assert tried[name]["state"] == "analysed", tried[name]["said"]
        assert tried[name]["probability"] == tried["sound"]["probability"]
    assert tried["spoiled"]["asked"].keys() >= {*tried["heavy"], "release/release.json"}


def test_what_arrives_damaged_twice_is_one_line_that_names_the_file(tried: dict[str, Any]) -> None:
    assert len(tried["damaged"]) == 9
    for path, found in tried["damaged"].items():
        assert found["state"] == "failed", path
        [line] = [line for line in found["said"].splitlines() if path in line]
        assert "built" in line, path
        assert found["asked"][path] >= 2, path


def test_outside_of_https_the_browser_checks(tried: dict[str, Any]) -> None:
    found = tried["damaged, not secure"]
    assert found["state"] == "failed"
    assert ".onnx could not be loaded" in found["said"]
    assert "or it arrived damaged" in found["said"]
