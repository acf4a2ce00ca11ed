"""A folder of images becomes a results folder: in order, past bad files, resumable."""

import csv
import json
import shutil
import threading
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.batch import FolderOptions, FolderOutcome, Step, in_threads, run_folder
from dermfuse.analysis.inputs import Item, expand
from dermfuse.errors import DermfuseError, ImageError, RunError, StorageError
from dermfuse.folders import NOTICE

JPEG = b"\xff\xd8 a thumbnail \xff\xd9"


@dataclass
class Known:
    """A record for tests."""

    values: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        return self.values


@dataclass
class Analyzer:
    """Calls an image malignant if it is bright; counts what it sees."""

    seen: list[str] = field(default_factory=list)
    thumbnail: bytes = JPEG

    def __call__(self, image: np.ndarray, name: str) -> Known:
        self.seen.append(name)
        probability = float(image.mean() / 255)
        withheld = name.startswith("withheld")
        return Known({
            "name": name,
            "malignant_probability": None if withheld else probability,
            "threshold": 0.5,
            "operating_point": "sensitivity 0.95",
            "predicted": None if withheld else "malignant" if probability >= 0.5 else "benign",
            "uncertainty": None,
            "looks": 8,
            "lesion_area_fraction": np.float32(0.25),
            "measures": {"asymmetry": 0.5, "colours": ["brown", "black"]},
            "quality": ["blur"] if probability > 0.9 else [],
            "dermoscopy": True,
            "notice": NOTICE,
            "thumbnail": self.thumbnail,
        })  # fmt: skip


@pytest.fixture
def skin(tmp_path: Path) -> Path:
    """Five grey images: b is the brightest, ``withheld`` has no probability."""
    for name, level in (("a", 10), ("b", 250), ("c", 150), ("d", 20), ("withheld", 99)):
        path = tmp_path / "skin" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.new("L", (16, 16), level).save(path)
    return tmp_path / "skin"


def _run(skin: Path, out: Path, analyze: Callable[..., Any] | None = None, **options: Any):  # noqa: ANN202
    options = {"identity": {"release": "r1"}} | options
    lines = in_threads(analyze or Analyzer(), threads=2)
    return run_folder(expand([skin], skip=out), lines, out, options=FolderOptions(**options))


def _run_again(skin: Path, out: Path, progress: Callable[[Step], None]) -> FolderOutcome:
    options = FolderOptions(identity={"release": "r1"})
    return run_folder(
        expand([skin]), in_threads(Analyzer()), out, options=options, progress=progress
    )


def _lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def _names(out: Path) -> list[str]:
    return [line["name"].removesuffix(".png") for line in _lines(out)]


class TestResults:
    def test_lines_stand_in_the_order_of_the_images(self, skin: Path, tmp_path: Path) -> None:
        first_may_go = threading.Event()

        def analyze(image: np.ndarray, name: str) -> Known:
            if name == "a.png":  # the first image is finished after the second
                assert first_may_go.wait(10)
            first_may_go.set()
            return Analyzer()(image, name)

        outcome = _run(skin, tmp_path / "out", analyze)
        assert _names(tmp_path / "out") == ["a", "b", "c", "d", "withheld"]
        assert (outcome.analysed, outcome.reused, outcome.failed, outcome.exit_code) == (5, 0, 0, 0)
        assert (outcome.malignant, outcome.benign, outcome.withheld) == (2, 2, 1)
        assert outcome.withheld_names == ("withheld.png",)

    def test_a_line_holds_the_record_and_the_files_facts(self, skin: Path, tmp_path: Path) -> None:
        _run(skin, tmp_path / "out")
        line = _lines(tmp_path / "out")[1]
        state = (skin / "b.png").stat()
        assert line["file"] == {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
        assert line["malignant_probability"] == pytest.approx(250 / 255)
        assert line["lesion_area_fraction"] == 0.25
        assert line["notice"] == NOTICE

    def test_the_table_is_the_record_made_flat(self, skin: Path, tmp_path: Path) -> None:
        _run(skin, tmp_path / "out")
        with (tmp_path / "out/results.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert rows[1]["measures.asymmetry"] == "0.5"
        assert rows[1]["measures.colours"] == "brown; black"
        assert (rows[1]["uncertainty"], rows[1]["looks"]) == ("", "8")
        assert rows[0]["malignant_probability"] == ""
        assert [row["name"][0] for row in rows] == list("wabcd"), "what is withheld comes first"
        assert not {"thumbnail", "file", "file.bytes"} & set(rows[0])

    def test_the_report_has_the_withheld_first_and_then_the_most_suspicious(
        self, skin: Path, tmp_path: Path
    ) -> None:
        outcome = _run(skin, tmp_path / "out", facts={"release": "r1"})
        page = (tmp_path / "out/report.html").read_text()
        places = [page.index(f">{name}.png") for name in ("withheld", "b", "c", "d", "a")]
        assert places == sorted(places)
        assert page.count("data:image/jpeg;base64,") == 5
        assert "sensitivity 0.95" in page
        assert outcome.pages == 1

    def test_the_report_can_be_left_out(self, skin: Path, tmp_path: Path) -> None:
        assert _run(skin, tmp_path / "out", report=False).pages == 0
        assert not (tmp_path / "out/report.html").exists()

    def test_progress_is_told_in_order(self, skin: Path, tmp_path: Path) -> None:
        steps: list[Step] = []
        run_folder(expand([skin]), in_threads(Analyzer()), tmp_path / "out", progress=steps.append)
        assert [step.name[0] for step in steps] == list("abcdw")

    def test_bytes_are_known_by_their_hash(self, skin: Path, tmp_path: Path) -> None:
        item = Item("standard input", (skin / "a.png").read_bytes())
        for reused in (0, 1):
            outcome = run_folder([item], in_threads(Analyzer()), tmp_path / "out")
            assert outcome.reused == reused
        assert len(_lines(tmp_path / "out")[0]["file"]["sha256"]) == 64

    def test_the_outcome_is_json(self, skin: Path, tmp_path: Path) -> None:
        (skin / "bad.png").write_bytes(b"no")
        record = json.loads(json.dumps(_run(skin, tmp_path / "out").to_dict()))
        assert record["notice"] == NOTICE
        assert record["errors"][0]["name"] == "bad.png"


class TestFailures:
    def test_a_bad_file_is_listed_and_the_rest_goes_on(self, skin: Path, tmp_path: Path) -> None:
        (skin / "bad.png").write_bytes(b"no image")
        outcome = _run(skin, tmp_path / "out")
        assert (outcome.analysed, outcome.failed, outcome.exit_code) == (5, 1, 3)
        with (tmp_path / "out/errors.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        assert [row["name"] for row in rows] == ["bad.png"]
        assert "not an image" in rows[0]["error"]
        assert "bad.png" in (tmp_path / "out/report.html").read_text()
        assert "bad.png" not in (tmp_path / "out/results.csv").read_text()

    def test_it_is_tried_again_and_forgotten_once_mended(self, skin: Path, tmp_path: Path) -> None:
        (skin / "bad.png").write_bytes(b"no image")
        _run(skin, tmp_path / "out")
        (skin / "a.png").replace(skin / "bad.png")
        outcome = _run(skin, tmp_path / "out")
        assert (outcome.analysed, outcome.reused, outcome.failed) == (1, 4, 0)
        assert not (tmp_path / "out/errors.csv").exists()
        assert _names(tmp_path / "out") == ["b", "bad", "c", "d", "withheld"]

    @pytest.mark.parametrize("thumbnail", [object(), float("nan")])
    def test_a_fault_of_ours_is_recorded_without_its_words(
        self, skin: Path, tmp_path: Path, thumbnail: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        outcome = _run(skin, tmp_path / "out", Analyzer(thumbnail=thumbnail))
        assert outcome.failed == 5
        assert "A fault of dermfuse itself (" in outcome.errors[0][1]
        assert "Traceback" in caplog.text

    def test_an_item_with_a_fault_is_not_read(self, tmp_path: Path) -> None:
        item = Item("x/", tmp_path / "gone", "x: the folder cannot be read.")
        assert run_folder([item], in_threads(Analyzer()), tmp_path / "out").errors == (
            ("x/", "x: the folder cannot be read."),
        )


class TestResuming:
    def test_a_second_call_analyses_nothing(self, skin: Path, tmp_path: Path) -> None:
        _run(skin, tmp_path / "out")
        before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
        analyze = Analyzer()
        outcome = _run(skin, tmp_path / "out", analyze)
        assert (analyze.seen, outcome.reused, outcome.dropped) == ([], 5, 0)
        assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before

    def test_new_changed_and_removed_images(self, skin: Path, tmp_path: Path) -> None:
        _run(skin, tmp_path / "out")
        (skin / "a.png").unlink()
        Image.new("L", (20, 20), 200).save(skin / "c.png")
        Image.new("L", (16, 16), 30).save(skin / "bb.png")
        analyze = Analyzer()
        outcome = _run(skin, tmp_path / "out", analyze)
        assert sorted(analyze.seen) == ["bb.png", "c.png"]
        assert (outcome.analysed, outcome.reused, outcome.dropped) == (2, 3, 2)
        assert _names(tmp_path / "out") == ["b", "bb", "c", "d", "withheld"]

    @pytest.mark.parametrize("torn", [0, 1, 40])
    def test_a_killed_run_goes_on_to_the_same_bytes(
        self, skin: Path, tmp_path: Path, torn: int
    ) -> None:
        _run(skin, tmp_path / "whole")
        whole = (tmp_path / "whole/results.jsonl").read_bytes()
        lines = whole.splitlines(keepends=True)
        _run(skin, tmp_path / "out")
        for name in ("results.csv", "report.html"):
            (tmp_path / "out" / name).unlink()
        (tmp_path / "out/results.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:torn])
        outcome = _run(skin, tmp_path / "out")
        assert (outcome.analysed, outcome.reused) == (3, 2)
        assert (tmp_path / "out/results.jsonl").read_bytes() == whole
        for name in ("results.csv", "report.html"):
            assert (tmp_path / "out" / name).read_bytes() == (
                tmp_path / "whole" / name
            ).read_bytes()

    def test_a_call_that_was_killed_over_its_first_file_goes_on(
        self, skin: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        out.mkdir()
        (out / ".analysis.json.abcd1234.dermfuse").write_text('{"for')
        assert _run(skin, out).analysed == 5
        assert not list(out.glob(".*"))

    def test_what_a_kill_left_unfinished_goes_and_other_files_stay(
        self, skin: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"
        _run(skin, out)
        (out / ".results.csv.abcd1234.dermfuse").write_text("half")
        (out / ".results.csv.swp").write_text("an editor's")
        _run(skin, out)
        assert [path.name for path in out.glob(".*")] == [".results.csv.swp"]

    def test_a_folder_with_anything_else_is_still_refused(self, skin: Path, tmp_path: Path) -> None:
        (tmp_path / "out").mkdir()
        (tmp_path / "out" / ".analysis.json.abcd1234.dermfuse").write_text('{"for')
        (tmp_path / "out" / ".notes.txt").write_text("of somebody")
        with pytest.raises(RunError, match="not empty"):
            _run(skin, tmp_path / "out")

    def test_a_report_of_other_results_does_not_stay(self, skin: Path, tmp_path: Path) -> None:
        _run(skin, tmp_path / "out")
        (skin / "a.png").unlink()
        _run(skin, tmp_path / "out", report=False)
        assert not (tmp_path / "out/report.html").exists()

    def test_a_folder_that_is_removed_meanwhile_is_an_error_and_stays_removed(
        self, skin: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "out"

        def remove(step: Step) -> None:
            if step.name == "b.png":
                shutil.rmtree(out)

        with pytest.raises(StorageError, match="was removed while results were written into it"):
            run_folder(expand([skin]), in_threads(Analyzer()), out, progress=remove)
        assert not out.exists()
        _run(skin, out)

        def remove_last(step: Step) -> None:
            if step.name == "withheld.png":
                shutil.rmtree(out)

        with pytest.raises(StorageError, match="was removed"):
            _run_again(skin, out, remove_last)
        assert not out.exists()

    def test_an_interrupt_leaves_whole_lines(self, skin: Path, tmp_path: Path) -> None:
        def interrupt(step: Step) -> None:
            if step.name == "b.png":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run_folder(expand([skin]), in_threads(Analyzer()), tmp_path / "out", progress=interrupt)
        assert _names(tmp_path / "out") == ["a", "b"]
        assert run_folder(expand([skin]), in_threads(Analyzer()), tmp_path / "out").reused == 2

    def test_another_release_is_refused(self, skin: Path, tmp_path: Path) -> None:
        _run(skin, tmp_path / "out")
        with pytest.raises(RunError, match=r"made with release 'r1'.*as now: release 'r2'"):
            _run(skin, tmp_path / "out", identity={"release": "r2"})

    def test_another_format_is_refused(self, skin: Path, tmp_path: Path) -> None:
        _run(skin, tmp_path / "out")
        manifest = tmp_path / "out/analysis.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 0}))
        with pytest.raises(RunError, match="another version of dermfuse"):
            _run(skin, tmp_path / "out")

    def test_a_folder_that_holds_something_else_is_refused(
        self, skin: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(RunError, match="not empty"):
            _run(skin, skin)

    def test_without_resuming_a_results_folder_is_refused(self, skin: Path, tmp_path: Path) -> None:
        _run(skin, tmp_path / "out")
        with pytest.raises(RunError, match="not empty"):
            _run(skin, tmp_path / "out", resume=False)

    def test_an_identity_of_paths_and_mappings_is_known_again(
        self, skin: Path, tmp_path: Path
    ) -> None:
        identity = {"release": skin, "settings": MappingProxyType({"threshold": np.float32(0.5)})}
        for reused in (0, 5):
            assert _run(skin, tmp_path / "out", identity=identity).reused == reused

    def test_a_reused_image_keeps_its_place_among_new_ones(
        self, skin: Path, tmp_path: Path
    ) -> None:
        _run(skin, tmp_path / "out")
        for name in ("a", "c"):
            Image.new("L", (20, 20), 5).save(skin / f"{name}.png")
        steps: list[tuple[str, str]] = []
        run_folder(
            expand([skin]),
            in_threads(Analyzer()),
            tmp_path / "out",
            options=FolderOptions(identity={"release": "r1"}),
            progress=lambda step: steps.append((step.name[0], step.state)),
        )
        done = {"a": "analysed", "b": "reused", "c": "analysed", "d": "reused", "w": "reused"}
        assert steps == list(done.items())

    def test_no_threads_are_refused(self) -> None:
        with pytest.raises(DermfuseError, match="0 threads"):
            in_threads(Analyzer(), threads=0)


class TestScale:
    def test_items_are_drawn_as_they_are_needed(self, skin: Path, tmp_path: Path) -> None:
        drawn = 0

        def items() -> Iterator[Item]:
            nonlocal drawn
            for number in range(50):
                drawn += 1
                yield Item(f"{number}", skin / "a.png")

        ahead: list[int] = []

        def tell(_: Step) -> None:
            ahead.append(drawn - len(ahead))

        lines = in_threads(Analyzer(), threads=3)
        run_folder(items(), lines, tmp_path / "out", progress=tell)
        assert max(ahead) <= 2 * 3

    def test_memory_stays_flat_over_two_thousand_images(self, tmp_path: Path) -> None:
        def measure(count: int, out: Path) -> tuple[FolderOutcome, int]:
            items = (Item(f"lesion-{n:06d}", b"fault", "bad") for n in range(count))
            tracemalloc.start()
            lines = in_threads(Analyzer(), threads=2)
            outcome = run_folder(items, lines, out, options=FolderOptions(report=False))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return outcome, peak

        _, small = measure(200, tmp_path / "small")
        outcome, large = measure(2000, tmp_path / "large")
        assert outcome.failed == 2000
        assert (large - small) / 1800 < 200  # bytes per image
        _, again = measure(2000, tmp_path / "large")  # every name is remembered, as a number
        assert (again - small) / 1800 < 400


def test_refusals_of_the_analysis_are_recorded(skin: Path, tmp_path: Path) -> None:
    def refuse(image: np.ndarray, name: str) -> Known:
        raise ImageError(f"{name}: too dark")

    assert _run(skin, tmp_path / "out", refuse).errors[0] == ("a.png", "a.png: too dark.")
