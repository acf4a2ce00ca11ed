"""Ray Data's workers leave the results that threads leave, and a killed one loses nothing.

What is slow uses one Ray of two processors, and then a cluster that runs already.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis import ray as cluster
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths, in_threads, run_folder
from dermfuse.analysis.inputs import Item, expand
from dermfuse.analysis.journal import Analyze, Work
from dermfuse.analysis.ray import MOST_IN_BLOCK, BuildAnalyze, analyze_of, connect, from_workers
from dermfuse.cli import main
from dermfuse.errors import ConfigError, DependencyError, RunError

from ..small_release import skin, write_small_release

SHEETS = ("results.jsonl", "results.csv", "errors.csv", "report.html")
SECONDS = 90


def needs_ray(test: Any) -> Any:
    """Marks what starts Ray; a machine runs one such test at a time."""
    marks = [
        pytest.mark.slow,
        pytest.mark.xdist_group("ray"),
        pytest.mark.filterwarnings("ignore"),  # Ray's own, of sockets and files at its end
    ]
    for mark in marks:
        test = mark(test)
    return test


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"ray, pyarrow, pandas.*\.\[ray\]"):
        connect("local").__enter__()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("ray://a:10001", r"ray://a:10001 is for Ray's client.*HOST:PORT"),
        *((each, r"is no address.*HOST:PORT") for each in ("nonsense", "host:port", "a:99999999")),
    ],
)
def test_what_is_no_address_is_refused(address: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        cluster._knock(address)


@pytest.mark.parametrize("accepts", [False, True])
def test_an_address_where_no_ray_listens_is_refused(
    accepts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("grpc", reason="the ray extra is not installed")
    monkeypatch.setattr(cluster, "_ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        if not accepts:
            server.close()
        with pytest.raises(ConfigError, match=f"no Ray cluster answers at 127.0.0.1:{port}"):
            cluster._knock(f"127.0.0.1:{port}")


def test_images_travel_and_arrive_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="the ray extra is not installed")
    monkeypatch.chdir(tmp_path)
    odd = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.png"))
    works = [
        Work(Item("odd", odd), {"bytes": 3, "mtime_ns": 2**62}),
        Work(Item("stdin", b""), {"sha256": "0"}),
        Work(Item("gone", tmp_path / "a.png", "gone: no file."), {}),
    ]
    sent = [*works[:2], Work(Item("gone", Path("a.png"), "gone: no file."), {})]
    block = cluster._pack(sent, 7)
    assert block["block"].to_pylist() == [7, 7, 7]
    assert cluster._unpack(block) == works


@pytest.fixture(scope="module")
def ray_of_two() -> Iterator[None]:
    """Ray, once for all tests; its workers give way to nothing, so that a busy machine is none."""
    pytest.importorskip("ray", reason="the ray extra is not installed")
    os.environ.setdefault("RAY_worker_niceness", "0")
    with connect("local", workers=2):
        yield


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("release"), with_gate=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """Ten images, the third of them broken; the first file's name is no UTF-8."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for number in range(10):
        name = f"{'more/' if number > 7 else ''}{number}.png"
        Image.fromarray(skin(10 * number)).save(folder / name)
    (folder / "2.png").write_bytes(b"\x89PNG cut off")
    (folder / "0.png").replace(Path(os.fsdecode(os.fsencode(folder) + b"/0\xff.png")))
    return folder


def _assert_same(one: Path, other: Path, names: tuple[str, ...] = SHEETS) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@needs_ray
@pytest.mark.usefixtures("ray_of_two")
class TestWorkers:
    def test_the_results_are_those_of_one_process_and_are_continued(
        self, release: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        analyzer, alone, out = Analyzer(release, looks=4), tmp_path / "alone", tmp_path / "out"
        expected = analyze_paths(analyzer, [images], alone)
        monkeypatch.chdir(tmp_path)  # a relative path must be found by processes elsewhere
        options, steps = BulkOptions(ray="local", threads=2), list[str]()
        together = analyze_paths(
            analyzer, ["images"], out, options=options, progress=lambda s: steps.append(s.name)
        )
        assert (together.analysed, together.failed) == (9, 1)
        assert together.to_dict() | {"folder": ""} == expected.to_dict() | {"folder": ""}
        _assert_same(out, alone)
        assert steps == [json.loads(line)["name"] for line in (out / "results.jsonl").open()]

        lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
        (out / "results.jsonl").write_bytes(b"".join(lines[1:5]) + lines[5][:20])
        resumed = analyze_paths(analyzer, [images], out, options=options)
        assert (resumed.analysed, resumed.reused, resumed.failed) == (6, 3, 1)
        _assert_same(out, alone)

        (images / "2.png").unlink()
        nothing = analyze_paths(analyzer, [images], out, options=options)
        assert (nothing.analysed, nothing.reused, nothing.dropped) == (0, 9, 1)

    def test_a_killed_worker_loses_nothing(
        self, release: Path, images: Path, tmp_path: Path
    ) -> None:
        marker = tmp_path / "killed"
        build = _dies(analyze_of(Analyzer(release), thumbnail=True), when="5.png", once=marker)
        outcome = run_folder(expand([images]), from_workers(build, workers=2), tmp_path / "out")
        assert marker.is_file()
        assert (outcome.analysed, outcome.failed) == (9, 1)
        analyze_paths(Analyzer(release), [images], tmp_path / "alone")
        _assert_same(tmp_path / "out", tmp_path / "alone", SHEETS[:3])

    def test_an_image_that_kills_every_worker_is_recorded(
        self, release: Path, images: Path, tmp_path: Path
    ) -> None:
        build = _dies(analyze_of(Analyzer(release), thumbnail=True), when="5.png")
        outcome = run_folder(expand([images]), from_workers(build, workers=2), tmp_path / "out")
        assert [name for name, _ in outcome.errors] == ["2.png", "5.png"]
        assert "5.png: Its worker died 3 times" in outcome.errors[1][1]
        assert outcome.analysed == 8

    def test_bytes_and_more_images_than_a_block_holds_come_back_in_order(
        self, release: Path, images: Path, tmp_path: Path
    ) -> None:
        data, count = (images / "3.png").read_bytes(), 40 * MOST_IN_BLOCK

        def items() -> Iterator[Item]:
            yield Item("first", data)
            yield from (Item(f"{number:05d}", b"", "a fault") for number in range(count))

        build = analyze_of(Analyzer(release), thumbnail=False)
        run_folder(items(), from_workers(build, workers=2), tmp_path / "out")
        run_folder(items(), in_threads(build()), tmp_path / "alone")
        _assert_same(tmp_path / "out", tmp_path / "alone", SHEETS[:1])
        assert (tmp_path / "out/results.jsonl").read_bytes().count(b"\n") == count + 1

    def test_a_worker_that_cannot_load_its_networks_is_one_line(
        self, images: Path, tmp_path: Path
    ) -> None:
        def build() -> Analyze:
            raise RuntimeError("no networks here")

        with pytest.raises(RunError, match="no networks here"):
            run_folder(expand([images]), from_workers(build, workers=2), tmp_path / "out")

    def test_the_command_takes_an_address_and_a_list(
        self, release: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        (tmp_path / "list.csv").write_text("path,name\nimages/1.png,one\nimages/gone.png,gone\n")
        command = ["analyze", str(tmp_path / "list.csv"), "--release", str(release)]
        command += ["--ray", "local", "--out", str(tmp_path / "out"), "--json"]
        assert main(command) == 3
        record = json.loads(capsys.readouterr().out)
        assert (record["analysed"], record["failed"]) == (1, 1)
        assert record["errors"][0]["name"] == "gone"


def _dies(build: BuildAnalyze, *, when: str, once: Path | None = None) -> BuildAnalyze:
    """Returns a build whose worker kills itself over an image: every time, or the first time."""

    def build_dying() -> Analyze:
        analyze = build()

        def analyze_or_die(image: np.ndarray, name: str) -> Any:
            if name == when and not (once and once.exists()):
                if once:
                    once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return analyze(image, name)

        return analyze_or_die

    return build_dying


@pytest.fixture
def running() -> Iterator[tuple[str, dict[str, str]]]:
    """The address of a cluster of one node, and the environment that holds its token."""
    pytest.importorskip("ray", reason="the ray extra is not installed")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    environment = os.environ | {
        "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32),
    }  # fmt: skip
    place = tempfile.mkdtemp(prefix="ray-")  # short: Ray's sockets lie in it
    head = ["start", "--head", "--block", f"--port={port}", "--num-cpus=2", f"--temp-dir={place}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *head,
         "--include-dashboard=false", "--disable-usage-stats"],
        env=environment, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + SECONDS
        while not _answers(port):
            assert time.monotonic() < deadline, f"no cluster after {SECONDS} seconds"
            time.sleep(0.5)
        yield f"127.0.0.1:{port}", environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(place, ignore_errors=True)


def _answers(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


@needs_ray
def test_results_of_a_running_cluster_are_those_of_one_process(
    running: tuple[str, dict[str, str]], release: Path, images: Path, tmp_path: Path
) -> None:
    address, environment = running
    analyze_paths(Analyzer(release), [images], tmp_path / "alone")

    def call(out: str, **more: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "dermfuse", "analyze", images, "--release", release]
        command += ["--ray", address, "--out", tmp_path / out]
        return subprocess.run(
            command, env=environment | more, capture_output=True, text=True, check=False
        )

    done = call("out")
    assert done.returncode == 3, done.stderr  # one image is broken
    _assert_same(tmp_path / "out", tmp_path / "alone")
    wrong = call("none", RAY_AUTH_TOKEN=secrets.token_hex(32))
    assert wrong.returncode == 2
    assert f"no Ray cluster answers at {address}" in wrong.stderr
    assert not (tmp_path / "none" / "results.csv").exists()
