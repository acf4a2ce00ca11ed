"""Ray Data's workers leave the results that threads leave, and a killed one loses nothing.

What is slow starts a Ray of two processors, and a cluster that runs already.
"""

import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.analysis import ray as cluster
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths, in_threads, run_folder
from dermfuse.analysis.inputs import Item, expand
from dermfuse.analysis.journal import Analyze, Work
from dermfuse.analysis.ray import MOST_IN_BLOCK, analyze_of, connect, from_workers
from dermfuse.errors import ConfigError, DependencyError, RunError

from ..small_release import skin
from .conftest import save_png

SHEETS = ("results.jsonl", "results.csv", "errors.csv", "report.html")


def needs_ray(test: Any) -> Any:
    """Marks what starts Ray; a machine runs one such test at a time."""
    quiet = pytest.mark.filterwarnings("ignore")  # Ray's own, of sockets and files at its end
    return pytest.mark.slow(pytest.mark.xdist_group("ray")(quiet(test)))


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"ray, pyarrow, pandas.*\.\[ray\]"):
        connect("local").__enter__()


def test_an_address_where_no_ray_listens_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("grpc", reason="the ray extra is not installed")
    monkeypatch.setattr(cluster, "_ANSWER_SECONDS", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        for given, said in (
            ("ray://a:10001", r"ray://a:10001 is for Ray's client.*HOST:PORT"),
            *((each, "is no address") for each in ("nonsense", "host:port", "a:99999999")),
            (address, f"no Ray cluster answers at {address}.*no Ray"),
        ):
            with pytest.raises(ConfigError, match=said):
                cluster._knock(given)
    with pytest.raises(ConfigError, match=f"no Ray cluster answers at {address}"):
        cluster._knock(address)


def test_images_travel_and_arrive_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("pyarrow", reason="the ray extra is not installed")
    monkeypatch.chdir(tmp_path)
    works = [
        Work(Item("odd", Path(os.fsdecode(b"/\xff.png"))), {"bytes": 3, "mtime_ns": 2**62}),
        Work(Item("stdin", b""), {"sha256": "0"}),
        Work(Item("gone", tmp_path / "a.png", "gone: no file."), {}),
    ]
    sent = [*works[:2], Work(Item("gone", Path("a.png"), "gone: no file."), {})]
    block = cluster._pack(sent, 7)
    assert block["block"].to_pylist() == [7, 7, 7]
    assert cluster._unpack(block) == works


@pytest.fixture(params=["local", "a running cluster"])
def address(request: pytest.FixtureRequest) -> Iterator[str]:
    """An address of Ray; its workers give way to nothing, so that a busy machine is none."""
    pytest.importorskip("ray", reason="the ray extra is not installed")
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_worker_niceness", "0")
    if request.param == "local":
        yield "local"
        return
    nodes = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    yield nodes.address
    nodes.shutdown()


@pytest.fixture
def ten(tmp_path: Path) -> Path:
    """Ten images, the third of them broken; the first file's name is no UTF-8."""
    folder = tmp_path / "ten"
    for number in range(10):
        save_png(folder / f"{'more/' if number > 7 else ''}{number}.png", skin(10 * number))
    (folder / "2.png").write_bytes(b"\x89PNG cut off")
    (folder / "0.png").replace(Path(os.fsdecode(os.fsencode(folder) + b"/0\xff.png")))
    return folder


def _assert_same(one: Path, other: Path, names: tuple[str, ...] = SHEETS) -> None:
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes(), name


@needs_ray
def test_the_results_are_those_of_one_process_and_are_continued(
    address: str, gated: Path, ten: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer, alone = Analyzer(gated, looks=4), out.with_name("alone")
    expected = analyze_paths(analyzer, [ten], alone)
    monkeypatch.chdir(ten.parent)  # a relative path must be found by processes elsewhere
    options, steps = BulkOptions(ray=address, threads=2), list[str]()
    together = analyze_paths(
        analyzer, ["ten"], out, options=options, progress=lambda step: steps.append(step.name)
    )
    assert together.to_dict() | {"folder": ""} == expected.to_dict() | {"folder": ""}
    _assert_same(out, alone)
    assert steps == [json.loads(line)["name"] for line in (out / "results.jsonl").open()]
    lines = (out / "results.jsonl").read_bytes().splitlines(keepends=True)
    (out / "results.jsonl").write_bytes(b"".join(lines[1:5]) + lines[5][:20])
    resumed = analyze_paths(analyzer, [ten], out, options=options)
    assert (resumed.analysed, resumed.reused, resumed.failed) == (6, 3, 1)
    _assert_same(out, alone)


@needs_ray
@pytest.mark.parametrize("address", ["local"], indirect=True)
def test_a_killed_worker_loses_nothing_but_an_image_that_kills_every_one(
    address: str, gated: Path, ten: Path, tmp_path: Path, out: Path
) -> None:
    analyze_paths(Analyzer(gated), [ten], tmp_path / "alone")
    marker = tmp_path / "killed"

    def dying(*, once: bool) -> Any:
        build = analyze_of(Analyzer(gated), thumbnail=True)

        def build_dying() -> Analyze:
            analyze = build()

            def analyze_or_die(image: np.ndarray, name: str) -> Any:
                if name == "5.png" and not (once and marker.exists()):
                    marker.touch()
                    os.kill(os.getpid(), signal.SIGKILL)
                return analyze(image, name)

            return analyze_or_die

        return from_workers(build_dying, workers=2)

    with connect(address, workers=2):
        run_folder(expand([ten]), dying(once=True), out)
        assert marker.is_file()
        _assert_same(out, tmp_path / "alone", SHEETS[:3])
        outcome = run_folder(expand([ten]), dying(once=False), tmp_path / "again")
    assert outcome.analysed == 8
    assert [name for name, _ in outcome.errors] == ["2.png", "5.png"]
    assert "5.png: Its worker died 3 times" in outcome.errors[1][1]


@needs_ray
@pytest.mark.parametrize("address", ["local"], indirect=True)
def test_more_images_than_a_block_holds_come_back_in_order_if_networks_load(
    address: str, gated: Path, tmp_path: Path, out: Path
) -> None:
    def items() -> Iterator[Item]:
        yield Item("first", save_png(tmp_path / "a.png", skin()).read_bytes())
        yield from (Item(f"{n:05d}", b"", "a fault") for n in range(40 * MOST_IN_BLOCK))

    def build_nothing() -> Analyze:
        raise RuntimeError("no networks here")

    with connect(address, workers=2):
        build = analyze_of(Analyzer(gated), thumbnail=False)
        run_folder(items(), from_workers(build, workers=2), out)
        run_folder(items(), in_threads(build()), tmp_path / "alone")
        _assert_same(out, tmp_path / "alone", SHEETS[:1])
        with pytest.raises(RunError, match="no networks here"):
            run_folder(items(), from_workers(build_nothing, workers=2), tmp_path / "none")
