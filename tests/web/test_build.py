import base64
import hashlib
import json
import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from dermfuse.errors import DependencyError, ReleaseError, RunError
from dermfuse.release import cards, folder
from dermfuse.release.cards import digest_file
from dermfuse.release.folder import read_release
from dermfuse.release.gate import read_dermoscopy
from dermfuse.web import build
from dermfuse.web.build import add_release, build_web, compile_app

from ..small_release import write_small_release

SOURCE = Path(__file__).parents[2] / "web"


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """An app as it is compiled, in small."""
    built = tmp_path / "app"
    (built / "assets").mkdir(parents=True)
    (built / "index.html").write_text(
        '<!doctype html><script src="./guard.js"></script>'
        '<link rel="icon" href="./icon.svg"><link rel="stylesheet" crossorigin href="./a.css">'
        '<script type="module" crossorigin src="./assets/index.js"></script>'
    )
    for name in ("guard.js", "a.css", "assets/index.js"):
        (built / name).write_text(name)
    (built / "assets" / "ort.wasm").write_bytes(b"wasm")
    (built / "sw.js").write_text('const build = "__BUILD__";')
    return built


def test_the_networks_and_the_gate_lie_beside_the_app(app: Path, tmp_path: Path) -> None:
    release = write_small_release(tmp_path / "small", with_gate=True)
    before = (app / "index.html").read_text()
    built = add_release(app, release)
    record = json.loads((app / "build.json").read_text())
    assert (built.release, record["build"]) == ("small", built.build)
    assert {file["path"] for file in record["heavy"]} == {
        "assets/ort.wasm", "release/reds-a.onnx", "release/reds-b.onnx",
        "release/greens.onnx", "release/dermoscopy.json",
    }  # fmt: skip
    assert {file["path"] for file in record["shell"]} == {
        "index.html", "guard.js", "a.css", "assets/index.js", "release/release.json",
        "release/reds-a.json", "release/reds-b.json", "release/greens.json",
    }  # fmt: skip
    listed = [*record["shell"], *record["heavy"]]
    assert built.files == len(listed)
    assert built.bytes == sum(file["bytes"] for file in listed) > built.heavy_bytes
    assert all(digest_file(app / file["path"]) == file["sha256"] for file in listed)

    # The build's name follows from its files.
    lines = [f"{file['sha256']} {file['bytes']} {file['path']}\n" for file in listed]
    assert hashlib.sha256("".join(lines).encode()).hexdigest().startswith(built.build)
    assert len(built.build) == 16
    assert (app / "sw.js").read_text() == f'const build = "{built.build}";'

    # The page takes only scripts and styles of the build.
    page = (app / "index.html").read_text()
    for name in ("guard.js", "a.css", "assets/index.js"):
        digest = base64.b64encode(hashlib.sha256(name.encode()).digest()).decode()
        assert f'"./{name}" integrity="sha256-{digest}"' in page
    assert page.count("integrity=") == 3
    assert re.sub(r' integrity="[^"]*"', "", page) == before

    # The gate keeps its shape.
    gate = read_release(release).gate
    assert gate is not None
    axes = read_dermoscopy(release, gate).embedding.axes
    packed = json.loads((app / "release" / "dermoscopy.json").read_text())
    assert packed["embedding"]["axes"]["shape"] == list(np.shape(axes))


def test_a_release_without_a_gate_leaves_none_and_a_changed_network_is_refused(
    app: Path, tmp_path: Path
) -> None:
    release = write_small_release(tmp_path / "small", members=1)
    add_release(app, release)
    assert not (app / "release" / "dermoscopy.json").exists()
    (release / "greens.onnx").write_bytes(b"no network")
    with pytest.raises(ReleaseError, match=r"greens\.onnx"):
        add_release(app, release)


def test_an_app_that_was_compiled_elsewhere_gets_its_networks(app: Path, tmp_path: Path) -> None:
    release = write_small_release(tmp_path / "small")
    built = build_web(tmp_path / "out", release=release, compiled=app)
    assert (built.out / "index.html").is_file()
    assert (built.out / "release" / "greens.onnx").is_file()
    assert not (app / "release").exists()
    with pytest.raises(RunError, match="no compiled app without networks"):
        build_web(tmp_path / "again", release=release, compiled=built.out)  # its networks are there
    assert not (tmp_path / "again").exists()


def test_a_failed_build_leaves_no_folder_and_a_full_one_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = write_small_release(tmp_path / "small")
    for source, message in ((tmp_path, "source checkout"), (SOURCE, "node and npm")):
        compiling = partial(compile_app, source=source)
        monkeypatch.setattr(build, "compile_app", compiling)
        monkeypatch.setattr(build.shutil, "which", lambda _: None)
        with pytest.raises(DependencyError, match=message):
            build_web(tmp_path / "out", release=release)
        assert not (tmp_path / "out").exists()
    with pytest.raises(RunError, match="not empty"):
        build_web(tmp_path, release=release)


@pytest.mark.parametrize(
    ("name", "written"), [("RELEASE_FORMAT", folder.FORMAT), ("CARD_FORMAT", cards.FORMAT)]
)
def test_the_app_reads_the_format_that_is_written(name: str, written: int) -> None:
    reading = (SOURCE / "src" / "release" / "reading.ts").read_text()
    assert re.findall(rf"const {name} = (\d+);", reading) == [str(written)]


def test_the_lock_file_names_no_host() -> None:
    lock = json.loads((SOURCE / "package-lock.json").read_text())
    assert not [name for name, each in lock["packages"].items() if "resolved" in each]
