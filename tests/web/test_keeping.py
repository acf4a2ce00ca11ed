"""The built app in real Chromium where files arrive damaged and where nothing may be kept."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dermfuse.folders import read_json
from dermfuse.web.build import add_release

from .browsers import browser_tool
from .pictures import write_pictures
from .releases import write_release_for_drawings

pytestmark = pytest.mark.browser

DRIVER = Path(__file__).parents[2] / "web" / "e2e" / "keep.mjs"


@pytest.fixture(scope="module")
def tried(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each try, with a release of tiny networks."""
    work = tmp_path_factory.mktemp("tried")
    app = work / "app"
    shutil.copytree(compiled, app)
    add_release(app, write_release_for_drawings(work / "small", threshold=40_000.0))
    build = read_json(app / "build.json")
    paths = [file["path"] for file in (*build["shell"], *build["heavy"])]
    kinds = ("index-*.js", "worker-*.js", "*.mjs", "*.wasm", "release.json", "greens.*", "derm*")
    damaged = [path for path in paths if any(Path(path).match(kind) for kind in kinds)]
    file = write_pictures(work / "files")[0]
    plan = {
        "app": str(app),
        "chromium": browser_tool("chromium"),
        "file": str(file),
        "work": str(work),
    }
    (work / "plan.json").write_text(json.dumps(plan | {"damaged": ["build.json", *damaged]}))
    done = subprocess.run(
        [browser_tool("node"), str(DRIVER), str(work / "plan.json")],
        capture_output=True,
        text=True,
        check=False,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) | {"heavy": [file["path"] for file in build["heavy"]]}


@pytest.mark.parametrize(
    "name",
    [
        "nothing kept",
        "forbidden",
        "not secure",
        "full",
        "spoiled",
        "damaged once",
        "damaged once, not secure",
    ],
)
def test_the_app_answers_as_ever(tried: dict[str, Any], name: str) -> None:
    assert tried["sound"]["state"] == "analysed"
    assert tried[name]["state"] == "analysed", tried[name]["said"]
    assert tried[name]["probability"] == tried["sound"]["probability"]


def test_what_was_kept_and_no_longer_fits_is_fetched_again(tried: dict[str, Any]) -> None:
    assert {path for path in tried["spoiled"]["asked"] if path in tried["heavy"]} == set(
        tried["heavy"]
    )
    assert "release/release.json" in tried["spoiled"]["asked"]


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
