"""Ray Data's workers leave the results that threads leave, and a killed one loses nothing.

Every test here uses one Ray of two processors; it is the only file that starts one.
"""

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("ray", reason="the ray extra is not installed")

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths, in_threads, run_folder
from dermfuse.analysis.inputs import Item, expand
from dermfuse.analysis.ray import MOST_IN_BLOCK, analyze_of, connect, from_workers
from dermfuse.analysis.tables import Analyze
from dermfuse.cli import main
from dermfuse.errors import RunError

from ..small_release import skin, write_small_release

pytestmark = [
    pytest.mark.slow,
    pytest.mark.xdist_group("ray"),
    pytest.mark.filterwarnings("ignore"),  # Ray's own, of sockets and files at its end
]
SHEETS = ("results.jsonl", "results.csv", "errors.csv", "report.html")


@pytest.fixture(scope="module", autouse=True)
def ray_of_two() -> Iterator[None]:
    """Ray, once for all tests; its workers give way to nothing, so that a busy machine is none."""
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


def _same_sheets(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in SHEETS)


def test_the_results_are_those_of_one_process_and_are_gone_on_with(
    release: Path, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer = Analyzer(release)
    alone = analyze_paths(analyzer, [images], tmp_path / "alone")
    monkeypatch.chdir(tmp_path)  # a relative path must be found by processes elsewhere
    options = BulkOptions(ray="local", threads=2)
    steps: list[str] = []
    together = analyze_paths(
        analyzer, ["images"], Path("out"), options=options, progress=lambda s: steps.append(s.name)
    )
    assert (together.analysed, together.failed, together.exit_code) == (9, 1, 3)
    assert together.to_dict() | {"folder": ""} == alone.to_dict() | {"folder": ""}
    assert _same_sheets(tmp_path / "out", tmp_path / "alone")
    assert steps == [json.loads(line)["name"] for line in (tmp_path / "out/results.jsonl").open()]

    lines = (tmp_path / "out/results.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "out/results.jsonl").write_bytes(b"".join(lines[:5]) + lines[5][:20])
    resumed = analyze_paths(analyzer, [images], tmp_path / "out", options=options)
    assert (resumed.analysed, resumed.reused, resumed.failed) == (5, 4, 1)
    assert _same_sheets(tmp_path / "out", tmp_path / "alone")

    (images / "2.png").unlink()
    nothing = analyze_paths(analyzer, [images], tmp_path / "out", options=options)
    assert (nothing.analysed, nothing.reused, nothing.dropped) == (0, 9, 1)


def test_workers_look_as_often_as_the_caller(release: Path, images: Path, tmp_path: Path) -> None:
    analyzer = Analyzer(release, looks=4)
    run_folder(
        expand([images]),
        from_workers(analyze_of(analyzer, thumbnail=True), workers=2),
        tmp_path / "out",
    )
    analyze_paths(analyzer, [images], tmp_path / "alone")
    lines = (tmp_path / "out/results.jsonl").read_bytes()
    assert lines == (tmp_path / "alone/results.jsonl").read_bytes()
    assert b'"looks": 4' in lines


def test_a_killed_worker_loses_nothing(release: Path, images: Path, tmp_path: Path) -> None:
    marker = tmp_path / "killed"
    build = _dies(analyze_of(Analyzer(release), thumbnail=True), when="5.png", once=marker)
    outcome = run_folder(expand([images]), from_workers(build, workers=2), tmp_path / "out")
    assert marker.is_file()
    assert (outcome.analysed, outcome.failed) == (9, 1)
    analyze_paths(Analyzer(release), [images], tmp_path / "alone")
    for name in ("results.jsonl", "results.csv", "errors.csv"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()


def test_an_image_that_kills_every_worker_is_recorded(
    release: Path, images: Path, tmp_path: Path
) -> None:
    build = _dies(analyze_of(Analyzer(release), thumbnail=True), when="5.png")
    outcome = run_folder(expand([images]), from_workers(build, workers=2), tmp_path / "out")
    assert [name for name, _ in outcome.errors] == ["2.png", "5.png"]
    assert "5.png: Its worker died 3 times" in outcome.errors[1][1]
    assert outcome.analysed == 8


def test_bytes_and_more_images_than_a_block_holds_come_back_in_order(
    release: Path, images: Path, tmp_path: Path
) -> None:
    data = (images / "3.png").read_bytes()
    count = 40 * MOST_IN_BLOCK

    def items() -> Iterator[Item]:
        yield Item("first", data)
        yield from (Item(f"{number:05d}", b"", "a fault") for number in range(count))

    build = analyze_of(Analyzer(release), thumbnail=False)
    run_folder(items(), from_workers(build, workers=2), tmp_path / "out")
    run_folder(items(), in_threads(build()), tmp_path / "alone")
    lines = (tmp_path / "out/results.jsonl").read_bytes()
    assert lines == (tmp_path / "alone/results.jsonl").read_bytes()
    assert len(lines.splitlines()) == count + 1


def test_a_worker_that_cannot_load_its_networks_is_one_line(images: Path, tmp_path: Path) -> None:
    def build() -> Analyze:
        raise RuntimeError("no networks here")

    with pytest.raises(RunError, match="no networks here"):
        run_folder(expand([images]), from_workers(build, workers=2), tmp_path / "out")


def test_the_command_takes_an_address_and_a_list(
    release: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "list.csv").write_text("path,name\nimages/1.png,one\nimages/gone.png,gone\n")
    command = ["analyze", str(tmp_path / "list.csv"), "--release", str(release), "--ray", "local"]
    assert main([*command, "--out", str(tmp_path / "out"), "--json"]) == 3
    record = json.loads(capsys.readouterr().out)
    assert (record["analysed"], record["failed"]) == (1, 1)
    assert record["errors"][0]["name"] == "gone"


def _dies(
    build: Callable[[], Analyze], *, when: str, once: Path | None = None
) -> Callable[[], Analyze]:
    """Returns a build whose worker kills itself over an image: every time, or the first time."""

    def build_dying() -> Analyze:
        import os
        import signal

        analyze = build()

        def analyze_or_die(image, name):  # noqa: ANN001, ANN202 — pickled by value
            if name == when and not (once and once.exists()):
                if once:
                    once.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            return analyze(image, name)

        return analyze_or_die

    return build_dying
