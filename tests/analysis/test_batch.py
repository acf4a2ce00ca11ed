"""A folder of images becomes a results folder: in order, past bad files, resumable."""

import csv
import errno
import json
import os
import shutil
import threading
import tracemalloc
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import (
    BulkOptions,
    FolderOutcome,
    Step,
    analyze_paths,
    in_threads,
    run_folder,
)
from dermfuse.analysis.inputs import Item, expand
from dermfuse.errors import ConfigError, ImageError, RunError, StorageError
from dermfuse.folders import NOTICE

from ..small_release import skin, write_small_release


@dataclass
class Bright:
    """Calls an image malignant if it is bright; notes what it sees."""

    seen: list[str] = field(default_factory=list)
    thumbnail: Any = "AAAA"

    def __call__(self, image: np.ndarray, name: str) -> dict[str, Any]:
        self.seen.append(name)
        probability = None if name.startswith("withheld") else float(image.mean() / 255)
        called = probability and ("malignant" if probability >= 0.5 else "benign")
        return {
            "malignant_probability": probability,
            "threshold": 0.5,
            "predicted": called,
            "uncertainty": None,
            "measures": {"asymmetry": 0.5, "colours": ["brown", "black"]},
            "notice": NOTICE,
            "thumbnail": self.thumbnail,
        }


@pytest.fixture
def grey(tmp_path: Path) -> Path:
    """Five grey images: b is the brightest, ``withheld`` has no probability."""
    (tmp_path / "grey").mkdir()
    for name, level in (("a", 10), ("b", 250), ("c", 150), ("d", 20), ("withheld", 99)):
        Image.new("L", (16, 16), level).save(tmp_path / "grey" / f"{name}.png")
    return tmp_path / "grey"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def _run(folder: Path, out: Path, analyze: Any = None, **more: Any) -> FolderOutcome:
    lines = in_threads(analyze or Bright(), threads=2)
    return run_folder(expand([folder], skip=out), lines, out, identity={"release": "r1"}, **more)


def _lines(out: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]


def _names(out: Path) -> list[str]:
    return [line["name"].removesuffix(".png") for line in _lines(out)]


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


class TestResults:
    def test_lines_stand_in_the_order_of_the_images(self, grey: Path, out: Path) -> None:
        first_may_go = threading.Event()

        def analyze(image: np.ndarray, name: str) -> dict[str, Any]:
            if name == "a.png":  # the first image is finished after the second
                assert first_may_go.wait(10)
            first_may_go.set()
            return Bright()(image, name)

        steps: list[Step] = []
        outcome = _run(grey, out, analyze, progress=steps.append)
        assert _names(out) == ["a", "b", "c", "d", "withheld"]
        assert [step.name[0] for step in steps] == list("abcdw")
        assert (outcome.analysed, outcome.reused, outcome.failed) == (5, 0, 0)
        assert (outcome.malignant, outcome.benign, outcome.withheld) == (2, 2, 1)
        assert outcome.withheld_names == ("withheld.png",)

    def test_every_table_says_what_the_lines_say(self, grey: Path, out: Path) -> None:
        assert _run(grey, out, facts={"Release": "r1"}).pages == 1
        line, state = _lines(out)[1], (grey / "b.png").stat()
        assert line["file"] == {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
        assert line["malignant_probability"] == pytest.approx(250 / 255)
        rows = _rows(out / "results.csv")
        assert [row["name"][0] for row in rows] == list("wabcd"), "what is withheld comes first"
        assert rows[1]["measures.asymmetry"] == "0.5"
        assert rows[1]["measures.colours"] == "brown; black"
        assert (rows[0]["malignant_probability"], rows[1]["uncertainty"]) == ("", "")
        assert not {"thumbnail", "file", "file.bytes"} & set(rows[0])
        page = (out / "report.html").read_text()
        places = [page.index(f">{name}.png") for name in ("withheld", "b", "c", "d", "a")]
        assert places == sorted(places), "then the most suspicious"
        assert page.count("data:image/jpeg;base64,AAAA") == 5
        assert "r1" in page

    def test_bytes_are_known_by_their_hash(self, grey: Path, out: Path) -> None:
        item = Item("standard input", (grey / "a.png").read_bytes())
        for reused in (0, 1):
            assert run_folder([item], in_threads(Bright()), out).reused == reused
        assert len(_lines(out)[0]["file"]["sha256"]) == 64


class TestFailures:
    def test_a_bad_file_is_listed_tried_again_and_forgotten_once_fixed(
        self, grey: Path, out: Path
    ) -> None:
        (grey / "bad.png").write_bytes(b"no image")
        outcome = _run(grey, out)
        assert (outcome.analysed, outcome.failed) == (5, 1)
        record = json.loads(json.dumps(outcome.to_dict()))
        assert (record["errors"][0]["name"], record["notice"]) == ("bad.png", NOTICE)
        (row,) = _rows(out / "errors.csv")
        assert (row["name"], "not an image" in row["error"]) == ("bad.png", True)
        assert "bad.png" in (out / "report.html").read_text()
        assert "bad.png" not in (out / "results.csv").read_text()
        (grey / "a.png").replace(grey / "bad.png")
        outcome = _run(grey, out)
        assert (outcome.analysed, outcome.reused, outcome.failed) == (1, 4, 0)
        assert not (out / "errors.csv").exists()
        assert _names(out) == ["b", "bad", "c", "d", "withheld"]

    @pytest.mark.parametrize("thumbnail", [object(), float("nan")])
    def test_a_fault_of_ours_is_recorded_without_its_words(
        self, grey: Path, out: Path, thumbnail: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        outcome = _run(grey, out, Bright(thumbnail=thumbnail))
        assert outcome.failed == 5
        assert "A fault of dermfuse itself (" in outcome.errors[0][1]
        assert "Traceback" in caplog.text

    def test_faults_of_items_and_refusals_of_the_analysis_are_recorded(
        self, grey: Path, out: Path
    ) -> None:
        def refuse(image: np.ndarray, name: str) -> dict[str, Any]:
            raise ImageError(f"{name}: too dark")

        items = [Item("x/", grey / "gone", "x: not read."), Item("a", grey / "a.png")]
        outcome = run_folder(items, in_threads(refuse), out)
        assert outcome.errors == (("x/", "x: not read."), ("a", "a: too dark."))


class TestResuming:
    def test_a_second_call_analyses_nothing(self, grey: Path, out: Path) -> None:
        _run(grey, out)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        again = Bright()
        outcome = _run(grey, out, again)
        assert (again.seen, outcome.reused, outcome.dropped) == ([], 5, 0)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before

    def test_new_changed_and_removed_images_keep_their_places(self, grey: Path, out: Path) -> None:
        _run(grey, out)
        (grey / "a.png").unlink()
        Image.new("L", (20, 20), 200).save(grey / "c.png")
        Image.new("L", (16, 16), 30).save(grey / "bb.png")
        again, steps = Bright(), list[Step]()
        outcome = _run(grey, out, again, progress=steps.append)
        assert sorted(again.seen) == ["bb.png", "c.png"]
        assert (outcome.analysed, outcome.reused, outcome.dropped) == (2, 3, 2)
        assert _names(out) == ["b", "bb", "c", "d", "withheld"]
        assert [step.state == "reused" for step in steps] == [True, False, False, True, True]
        assert [row["name"] for row in _rows(out / "results.csv")][1:3] == ["b.png", "bb.png"]

    @pytest.mark.parametrize("torn", [0, 1, 40])
    def test_a_killed_run_continues_to_the_same_bytes(
        self, grey: Path, tmp_path: Path, out: Path, torn: int
    ) -> None:
        whole = tmp_path / "whole"
        _run(grey, whole)
        lines = (whole / "results.jsonl").read_bytes().splitlines(keepends=True)
        _run(grey, out)
        for name in ("results.csv", "report.html"):
            (out / name).unlink()
        (out / ".results.csv.abcd1234.dermfuse").write_text("half")
        (out / ".results.csv.swp").write_text("an editor's")
        (out / "results.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:torn])
        outcome = _run(grey, out)
        assert (outcome.analysed, outcome.reused) == (3, 2)
        for name in ("results.jsonl", "results.csv", "report.html"):
            assert (out / name).read_bytes() == (whole / name).read_bytes()
        assert [path.name for path in out.glob(".*")] == [".results.csv.swp"]

    def test_a_report_of_other_results_does_not_stay(self, grey: Path, out: Path) -> None:
        _run(grey, out)
        (grey / "a.png").unlink()
        assert _run(grey, out, options=BulkOptions(report=False)).pages == 0
        assert not (out / "report.html").exists()

    @pytest.mark.parametrize("at", ["b.png", "withheld.png"])
    def test_a_folder_that_is_removed_meanwhile_is_an_error_and_stays_removed(
        self, grey: Path, out: Path, at: str
    ) -> None:
        def remove(step: Step) -> None:
            if step.name == at:
                shutil.rmtree(out)

        with pytest.raises(StorageError, match="was removed while results were written into it"):
            _run(grey, out, progress=remove)
        assert not out.exists()

    def test_an_interrupt_leaves_whole_lines(self, grey: Path, out: Path) -> None:
        def interrupt(step: Step) -> None:
            if step.name == "b.png":
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            _run(grey, out, progress=interrupt)
        assert _names(out) == ["a", "b"]
        assert _run(grey, out).reused == 2

    def test_results_of_other_settings_are_refused(self, grey: Path, out: Path) -> None:
        _run(grey, out)
        with pytest.raises(RunError, match=r"made with release 'r1'.*as now: release 'r2'"):
            run_folder([], in_threads(Bright()), out, identity={"release": "r2"})
        with pytest.raises(RunError, match="not empty"):
            _run(grey, out, options=BulkOptions(resume=False))
        manifest = out / "analysis.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 0}))
        with pytest.raises(RunError, match="another version of dermfuse"):
            _run(grey, out)
        with pytest.raises(RunError, match="not empty"):
            _run(grey, grey)


class TestScale:
    def test_items_are_drawn_as_they_are_needed(self, grey: Path, out: Path) -> None:
        drawn, ahead = [], []

        def items() -> Iterator[Item]:
            for number in range(50):
                drawn.append(number)
                yield Item(f"{number}", grey / "a.png")

        lines = in_threads(Bright(), threads=3)
        run_folder(items(), lines, out, progress=lambda _: ahead.append(len(drawn) - len(ahead)))
        assert max(ahead) <= 2 * 3

    def test_memory_stays_flat_over_two_thousand_images(self, tmp_path: Path) -> None:
        def measure(count: int, out: Path) -> tuple[FolderOutcome, int]:
            items = (Item(f"lesion-{n:06d}", b"fault", "bad") for n in range(count))
            tracemalloc.start()
            lines = in_threads(Bright(), threads=2)
            outcome = run_folder(items, lines, out, options=BulkOptions(report=False))
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return outcome, peak

        _, small = measure(200, tmp_path / "small")
        outcome, large = measure(2000, tmp_path / "large")
        assert outcome.failed == 2000
        assert (large - small) / 1800 < 200  # bytes per image
        _, again = measure(2000, tmp_path / "large")  # every name is remembered, as a number
        assert (again - small) / 1800 < 400


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Analyzer:
    return Analyzer(write_small_release(tmp_path_factory.mktemp("release")), isolate=True)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name, red in (("a.png", 0), ("b.png", 60), ("more/c.png", 100)):
        Image.fromarray(skin(red)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    return folder


def _pictures(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))


class TestPaths:
    def test_a_folder_is_analysed_and_continued_by_the_same_analyzer_alone(
        self, analyzer: Analyzer, images: Path, out: Path
    ) -> None:
        own = Analyzer(analyzer.folder)  # decodes in processes of this call alone
        outcome = analyze_paths(own, [images], out, options=BulkOptions(threads=2))
        assert (outcome.analysed, outcome.failed) == (3, 1)
        assert outcome.errors[0][0] == "broken.jpg"
        records = {record["name"]: record for record in _lines(out)}
        alone = analyzer.analyze(images / "b.png").malignant_probability
        assert records["b.png"]["malignant_probability"] == pytest.approx(alone, abs=1e-6)
        assert "outline" not in records["b.png"]
        assert records["b.png"]["thumbnail"]
        page = (out / "report.html").read_text()
        for said in (
            NOTICE, "sensitivity 0.90 (0.80 to 0.95)", "looks at 1 orientation of an image",
        ):  # fmt: skip
            assert said in page
        Image.fromarray(skin(30)).save(images / "d.png")
        again = analyze_paths(analyzer, [images], out)
        assert (again.analysed, again.reused) == (1, 3)
        other = Analyzer(analyzer.folder, operating_point="sensitivity95")
        with pytest.raises(RunError, match="sensitivity95"):
            analyze_paths(other, [images], out)

    def test_other_looks_are_in_the_records_and_the_report(
        self, analyzer: Analyzer, images: Path, out: Path
    ) -> None:
        other = Analyzer(analyzer.folder, looks=4)
        analyze_paths(other, [images], out)
        record = _lines(out)[0]
        uncertainty = other.analyze(images / "a.png").uncertainty
        assert record["looks"] == 4
        assert record["uncertainty"] == pytest.approx(uncertainty, abs=1e-6)
        assert "measured with 1." in record["warnings"][0]
        page = (out / "report.html").read_text()
        assert "Each network looked at 4 orientations; probability" in page
        assert "uncertainty 0." in page
        with pytest.raises(RunError, match=r"made with looks 4\. Expected: .*looks 1"):
            analyze_paths(analyzer, [images], out)

    def test_a_list_is_analysed_under_its_names(
        self, analyzer: Analyzer, images: Path, out: Path
    ) -> None:
        listed = out.parent / "list.csv"
        listed.write_text("path,name\nimages/b.png,patient-2\nimages/no.png,none\n")
        outcome = analyze_paths(analyzer, [listed], out)
        assert (outcome.analysed, outcome.failed) == (1, 1)
        assert [record["name"] for record in _lines(out)] == ["patient-2", "none"]
        assert "row 2 of list.csv" in outcome.errors[0][1]

    def test_pictures_are_those_of_the_images_that_are_given(
        self, analyzer: Analyzer, images: Path, out: Path
    ) -> None:
        options = BulkOptions(masks=True, overlays=True)
        analyze_paths(analyzer, [images], out, options=options)
        endings = (
            ("masks", ""), ("overlays", ".activation"), ("overlays", ".outline")
        )  # fmt: skip
        names = ("a.png", "b.png", "more/c.png")
        expected = [f"{folder}/{name}{kind}.png" for folder, kind in endings for name in names]
        assert _pictures(out) == sorted(expected)
        with Image.open(out / "overlays" / "a.png.outline.png") as overlay:
            assert overlay.size == (64, 48 + 16)  # the notice below it
        (images / "a.png").unlink()
        (images / "b.png").write_bytes(b"damaged since")
        analyze_paths(analyzer, [images], out, options=options)
        assert _pictures(out) == sorted(each for each in expected if "more/c" in each)

    @pytest.mark.parametrize("what", ["masks", "overlays"])
    def test_a_full_disk_ends_the_call_and_what_is_done_is_kept(
        self, analyzer: Analyzer, images: Path, out: Path, what: str, monkeypatch: Any
    ) -> None:
        options = BulkOptions(**{what: True})
        fsync, left = os.fsync, [3]  # the settings, then two masks or the overlays of one image

        def full(descriptor: int) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            fsync(descriptor)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", full)
            with pytest.raises(StorageError, match="No space left on device"):
                analyze_paths(analyzer, [images], out, options=options)
        done = [record["name"] for record in _lines(out)]
        assert done == (["a.png", "b.png", "broken.jpg"] if what == "masks" else ["a.png"])
        outcome = analyze_paths(analyzer, [images], out, options=options)
        assert (outcome.reused, outcome.failed) == (len(done) - ("broken.jpg" in done), 1)
        assert len(_pictures(out)) == 3 * (1 + (what == "overlays"))

    def test_a_picture_whose_name_alone_is_at_fault_is_one_failure(
        self, analyzer: Analyzer, images: Path, out: Path
    ) -> None:
        options = BulkOptions(masks=True)
        analyze_paths(analyzer, [images], out, options=options)
        mask = out / "masks" / "a.png.png"
        mask.unlink()
        mask.mkdir()  # nothing of ours
        Image.fromarray(skin(5)).save(images / "a.png")
        outcome = analyze_paths(analyzer, [images], out, options=options)
        assert [name for name, _ in outcome.errors] == ["a.png", "broken.jpg"]
        assert (outcome.reused, outcome.failed) == (2, 2)

    def test_names_that_differ_only_in_what_is_no_utf_8_have_a_mask_each(
        self, analyzer: Analyzer, images: Path, out: Path
    ) -> None:
        for name in (b"\xff.png", rb"\xff.png", b"\xfe.png"):
            Image.fromarray(skin(20)).save(images / os.fsdecode(name))
        (images / "a.png.png").mkdir()
        Image.fromarray(skin(30)).save(images / "a.png.png" / "d.png")
        options = BulkOptions(masks=True, overlays=True)
        outcome = analyze_paths(analyzer, [images], out, options=options)
        assert (outcome.analysed, outcome.failed) == (7, 1)
        assert len(_pictures(out)) == 7 * 3


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"overlays": True, "ray": "local"}, "overlays are asked for, and Ray"),
        ({"masks": True, "ray": "local"}, "masks are asked for, and Ray"),
        ({"threads": 0}, "threads is 0"),
    ],
)
def test_options_that_contradict_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        BulkOptions(**options)
