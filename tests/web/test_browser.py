"""The built app in real Chromium: it answers as the Analyzer does, and sends nothing anywhere.

DERMFUSE_CHROMIUM names the browser where it is not called chromium.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.masks import read_mask
from dermfuse.metrics import count, jaccard
from dermfuse.release.folder import RELEASE_NAME, read_release
from dermfuse.runs import read_json, write_json
from dermfuse.web.build import add_release, compile_app
from dermfuse.web.hosting import host_folder

from ..shipped_release import shipped_release
from .pictures import write_pictures
from .releases import write_release_for_drawings

pytestmark = pytest.mark.browser

WEB = Path(__file__).parents[2] / "web"
MOST_APART = 1e-3
"""Largest difference of the probability from the library's."""
LEAST_JACCARD = 0.99
"""Of the mask and the library's."""
OTHER_LOOKS = 4
"""Chosen by hand at last; no release here was measured with so many."""


def _tool(name: str) -> str:
    path = shutil.which(os.environ.get(f"DERMFUSE_{name.upper()}", name))
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app without networks."""
    for name in ("node", "npm", "chromium"):
        _tool(name)
    folder = tmp_path_factory.mktemp("compiled")
    compile_app(folder)
    return folder


@pytest.fixture(scope="session", params=["drawings", "shipped", "shipped with one look"])
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with tiny networks; that of the package as it is, and with one look."""
    if request.param == "drawings":
        folder = tmp_path_factory.mktemp("release") / "small"
        return write_release_for_drawings(folder, threshold=40_000.0, looks=8)
    if request.param == "shipped":
        return shipped_release()
    folder = tmp_path_factory.mktemp("release") / "looks"
    shutil.copytree(shipped_release(), folder)
    write_json(folder / RELEASE_NAME, read_json(folder / RELEASE_NAME) | {"looks": 1})
    return folder


@pytest.fixture(scope="session")
def driven(
    compiled: Path, release: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """What the driver found, served without the headers that would isolate the page."""
    work = tmp_path_factory.mktemp("driven")
    app = work / "app"
    shutil.copytree(compiled, app)
    add_release(app, release)
    files = [str(path) for path in write_pictures(work / "files")]
    with host_folder(app, isolated=False) as host:
        plan = {"url": host.url, "chromium": _tool("chromium"), "files": files, "out": str(work)}
        plan |= {"looks": OTHER_LOOKS}
        (work / "plan.json").write_text(json.dumps(plan))
        done = subprocess.run(
            [_tool("node"), str(WEB / "e2e" / "drive.mjs"), str(work / "plan.json")],
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
        )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_browser_and_library_agree_on_every_file(driven: dict[str, Any], release: Path) -> None:
    analyzer = Analyzer(release)
    assert len(driven["results"]) == 10
    scored = 0
    for result in driven["results"]:
        assert result["state"] == "analysed", result
        expected, found = analyzer.analyze(result["file"]), result["record"]
        if expected.malignant_probability is None:
            assert found["malignant_probability"] is None, result["file"]
        else:
            scored += 1
            apart = abs(found["malignant_probability"] - expected.malignant_probability)
            assert apart <= MOST_APART, result["file"]
            # None with one look of one network: nothing varies.
            near = expected.uncertainty and pytest.approx(expected.uncertainty, abs=MOST_APART)
            assert found["uncertainty"] == near, result["file"]
        assert found["looks"] == analyzer.looks
        mask = read_mask(Path(result["mask"]))
        assert jaccard(count(mask, expected.mask)) >= LEAST_JACCARD, result["file"]
        assert found["warnings"] == list(expected.warnings), result["file"]
    assert scored >= 5


def test_another_number_of_looks_may_be_chosen(driven: dict[str, Any], release: Path) -> None:
    result = driven["otherLooks"]
    assert result["state"] == "analysed", result
    expected, found = Analyzer(release, looks=OTHER_LOOKS).analyze(result["file"]), result["record"]
    assert found["looks"] == OTHER_LOOKS
    assert found["warnings"] == list(expected.warnings)
    measured = read_release(release).looks
    assert f"were measured with {measured}." in found["warnings"][0]
    numbers = ("malignant_probability", "uncertainty", "dermoscopy_distance")
    assert [found[name] for name in numbers] == pytest.approx(
        [getattr(expected, name) for name in numbers], rel=MOST_APART, abs=MOST_APART
    )


def test_no_request_leaves_the_origin(driven: dict[str, Any]) -> None:
    assert driven["foreign"] == []
    assert driven["errors"] == []


def test_the_app_works_without_a_connection(driven: dict[str, Any]) -> None:
    first, again = driven["results"][0]["record"], driven["offline"]["result"]["record"]
    numbers = ("malignant_probability", "uncertainty", "dermoscopy_distance")
    assert again["scores"] == pytest.approx(first["scores"], abs=1e-5)  # threads sum otherwise
    assert [again[name] for name in numbers] == pytest.approx([first[name] for name in numbers])
    told = first.keys() - {"scores", *numbers}
    assert {name: again[name] for name in told} == {name: first[name] for name in told}


def test_the_service_worker_lets_the_app_use_threads(driven: dict[str, Any]) -> None:
    assert not driven["isolated"]
    assert driven["offline"]["isolated"]


def test_the_notice_is_in_sight(driven: dict[str, Any]) -> None:
    assert driven["notice"]
