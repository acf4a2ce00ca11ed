"""The built app in real Chromium where files arrive damaged, nothing may be kept, things end."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from dermfuse.records.folders import read_json, write_json
from dermfuse.release.folder import RELEASE_NAME
from dermfuse.web.build import add_release

from ..small_release import write_small_release
from .conftest import drive
from .pictures import write_pictures
from .releases import write_release_for_drawings

pytestmark = pytest.mark.browser

MEMBERS = {"first": 2, "newer": 3, "second": 1}
"""Class networks of each app's release, of the same kinds."""


@pytest.fixture(scope="module")
def tried(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each try."""
    work = tmp_path_factory.mktemp("tried")
    builds = {}
    for name, members in MEMBERS.items():
        shutil.copytree(compiled, work / name)
        release = write_small_release(work / f"{name}-release", members=members)
        write_json(release / RELEASE_NAME, read_json(release / RELEASE_NAME) | {"name": name})
        builds[name] = add_release(work / name, release).build
    file = write_pictures(work / "files")[0]
    found = drive("last.mjs", work, file=file, **{name: work / name for name in MEMBERS})
    return found | {"builds": builds}


def test_apps_of_one_origin_leave_each_other_alone(tried: dict[str, Any]) -> None:
    shared, builds = tried["share"], tried["builds"]
    assert [each["release"] for each in shared["online"]] == ["first", "second"]
    theirs = [f"dermfuse /a/b/ {builds['second']}", "dermfuse /a/b/ heavy"]
    assert shared["names"] == sorted(
        [f"dermfuse /a/ {builds['first']}", "dermfuse /a/ heavy", *theirs]
    )
    assert shared["namesAfter"] == sorted(
        [f"dermfuse /a/ {builds['newer']}", "dermfuse /a/ heavy", *theirs]
    )


def test_the_app_works_without_a_connection_whatever_the_query(tried: dict[str, Any]) -> None:
    found = tried["share"]["offline"]
    assert [each["state"] for each in found] == ["analysed"] * 4, found
    assert [each["release"] for each in found] == ["first", "first", "second", "first"]


def test_a_new_release_takes_over_whole_and_works_without_a_connection(
    tried: dict[str, Any],
) -> None:
    shared = tried["share"]
    names = [shared[when]["release"] for when in ("before", "after", "neighbour")]
    assert names == ["first", "newer", "second"]
    assert shared["after"]["state"] == "analysed"
    networks = [path for path in shared["asked"] if path.endswith(".onnx")]
    assert networks == ["/a/release/reds-c.onnx"]  # the others were kept


def test_what_was_lost_and_is_another_build_by_now_is_no_dead_end(tried: dict[str, Any]) -> None:
    lost = tried["lose"]
    assert lost["first"]["state"] == "failed"
    assert "Reload the page" in lost["first"]["said"]
    assert (lost["again"]["state"], lost["again"]["release"]) == ("analysed", "newer")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("the connection dies while a network comes", "the connection broke off. Reload the page"),
        ("nothing more comes of a network", "the connection broke off. Reload the page"),
        ("the worker's script is cut", "could not be loaded, though it was fetched twice. Reload"),
        ("the page's script is cut", "could not be loaded as it was built. Reload the page"),
        ("the style is damaged", "could not be loaded as it was built. Reload the page"),
        ("the worker fails", "The app's worker stopped. Reload the page."),
        ("the worker is gone", "Nothing came for three minutes. Reload the page"),
        ("a canvas has no room", "Reload it, or try a smaller image."),
    ],
)
def test_every_failure_ends_in_one_line_that_says_what_to_do(
    tried: dict[str, Any], name: str, said: str
) -> None:
    found = tried[name]
    assert found["state"] == "failed", found
    assert len([line for line in found["said"].splitlines() if said in line]) == 1, found["said"]
    assert not found["spins"]
    assert found.get("pages", 0) <= 3  # no page reloads itself for ever


@pytest.fixture(scope="module")
def kept(compiled: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What became of each try, with a release of tiny networks."""
    work = tmp_path_factory.mktemp("kept")
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
    kept: dict[str, Any],
) -> None:
    assert kept["sound"]["state"] == "analysed"
    names = ("nothing kept", "forbidden", "not secure", "full", "spoiled", "damaged once")
    for name in (*names, "damaged once, not secure"):
        assert kept[name]["state"] == "analysed", kept[name]["said"]
        assert kept[name]["probability"] == kept["sound"]["probability"]
    assert kept["spoiled"]["asked"].keys() >= {*kept["heavy"], "release/release.json"}


def test_what_arrives_damaged_twice_is_one_line_that_names_the_file(kept: dict[str, Any]) -> None:
    assert len(kept["damaged"]) == 9
    for path, found in kept["damaged"].items():
        assert found["state"] == "failed", path
        [line] = [line for line in found["said"].splitlines() if path in line]
        assert "built" in line, path
        assert found["asked"][path] >= 2, path


def test_outside_of_https_the_browser_checks(kept: dict[str, Any]) -> None:
    found = kept["damaged, not secure"]
    assert found["state"] == "failed"
    assert ".onnx could not be loaded" in found["said"]
    assert "or it arrived damaged" in found["said"]
