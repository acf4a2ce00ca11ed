"""A folder of images becomes a results folder: in order, past bad files, resumable."""

import errno
import json
import os
import shutil
import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, Step, analyze_paths, in_threads, run_folder
from dermfuse.analysis.inputs import Item, expand
from dermfuse.errors import ConfigError, RunError, StorageError
from dermfuse.records.folders import NOTICE

from ..small_release import skin
from .conftest import even, lines_of, rows_of, save_png


def bright(image: np.ndarray, name: str) -> dict[str, Any]:
    """Calls an image malignant if it is red."""
    probability = None if name.startswith("withheld") else float(image[0, 0, 0] / 255)
    return {
        "malignant_probability": probability,
        "threshold": 0.5,
        "predicted": probability and ("malignant" if probability >= 0.5 else "benign"),
        "uncertainty": None,
        "measures": {"asymmetry": 0.5, "colours": ["brown", "black"]},
        "thumbnail": "AAAA",
    }


@pytest.fixture
def reds(tmp_path: Path) -> Path:
    """Five images: b is the reddest, ``withheld`` has no probability."""
    for name, level in (("a", 10), ("b", 250), ("c", 150), ("d", 20), ("withheld", 99)):
        save_png(tmp_path / "reds" / f"{name}.png", even(level))
    return tmp_path / "reds"


def _run(folder: Path, out: Path, analyze: Any = bright, **more: Any) -> Any:
    lines, identity = in_threads(analyze, threads=2), {"release": "r1"}
    return run_folder(expand([folder], skip=out), lines, out, identity=identity, **more)


def _names(out: Path) -> list[str]:
    return [line["name"].removesuffix(".png") for line in lines_of(out)]


def test_lines_stand_in_order_and_every_table_says_what_they_say(reds: Path, out: Path) -> None:
    first_may_go, steps = threading.Event(), list[Step]()

    def analyze(image: np.ndarray, name: str) -> dict[str, Any]:
        if name == "a.png":  # the first image is finished after the second
            assert first_may_go.wait(10)
        first_may_go.set()
        return bright(image, name)

    outcome = _run(reds, out, analyze, progress=steps.append, facts={"Release": "r1"})
    assert _names(out) == ["a", "b", "c", "d", "withheld"]
    assert [step.name[0] for step in steps] == list("abcdw")
    assert (outcome.analysed, outcome.reused, outcome.failed, outcome.pages) == (5, 0, 0, 1)
    assert (outcome.malignant, outcome.benign, outcome.withheld) == (2, 2, 1)
    assert outcome.withheld_names == ("withheld.png",)
    rows = rows_of(out / "results.csv")
    assert [row["name"][0] for row in rows] == list("wabcd"), "what is withheld comes first"
    assert (rows[0]["malignant_probability"], rows[1]["uncertainty"]) == ("", "")
    assert (rows[1]["measures.asymmetry"], rows[1]["measures.colours"]) == ("0.5", "brown; black")
    assert not {"thumbnail", "file", "file.bytes"} & set(rows[0])
    page = (out / "report.html").read_text()
    places = [page.index(f">{name}.png") for name in ("withheld", "b", "c", "d", "a")]
    assert places == sorted(places), "then the most suspicious"
    assert page.count("data:image/jpeg;base64,AAAA") == 5
    assert "r1" in page


def test_a_bad_file_is_listed_tried_again_and_forgotten_once_fixed(reds: Path, out: Path) -> None:
    (reds / "bad.png").write_bytes(b"no image")
    outcome = _run(reds, out)
    assert (outcome.analysed, outcome.failed) == (5, 1)
    record = json.loads(json.dumps(outcome.to_dict()))
    assert (record["errors"][0]["name"], record["notice"]) == ("bad.png", NOTICE)
    (row,) = rows_of(out / "errors.csv")
    assert (row["name"], "not an image" in row["error"]) == ("bad.png", True)
    assert "bad.png" in (out / "report.html").read_text()
    assert "bad.png" not in (out / "results.csv").read_text()
    (reds / "a.png").replace(reds / "bad.png")
    outcome = _run(reds, out)
    assert (outcome.analysed, outcome.reused, outcome.failed) == (1, 4, 0)
    assert not (out / "errors.csv").exists()
    assert _names(out) == ["b", "bad", "c", "d", "withheld"]


def test_a_fault_of_ours_is_recorded_without_its_words(
    reds: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    outcome = _run(reds, out, lambda _image, _name: {"uncertainty": float("nan")})
    assert outcome.failed == 5
    assert outcome.errors[0][1].startswith("A fault of dermfuse itself (ValueError)")
    assert "Traceback" in caplog.text


class TestResuming:
    def test_new_changed_and_removed_images_keep_their_places_and_the_rest_is_left_alone(
        self, reds: Path, out: Path
    ) -> None:
        seen, steps = list[str](), list[Step]()

        def note(image: np.ndarray, name: str) -> dict[str, Any]:
            seen.append(name)
            return bright(image, name)

        _run(reds, out)
        before = {path.name: path.read_bytes() for path in out.iterdir()}
        outcome = _run(reds, out, note)
        assert (seen, outcome.reused, outcome.dropped) == ([], 5, 0)
        assert {path.name: path.read_bytes() for path in out.iterdir()} == before
        (reds / "a.png").unlink()
        save_png(reds / "c.png", even(200, width=61))
        save_png(reds / "bb.png", even(30))
        outcome = _run(reds, out, note, progress=steps.append)
        assert sorted(seen) == ["bb.png", "c.png"]
        assert (outcome.analysed, outcome.reused, outcome.dropped) == (2, 3, 2)
        assert _names(out) == ["b", "bb", "c", "d", "withheld"]
        assert [step.state == "reused" for step in steps] == [True, False, False, True, True]
        assert [row["name"] for row in rows_of(out / "results.csv")][1:3] == ["b.png", "bb.png"]
        assert _run(reds, out, options=BulkOptions(report=False)).pages == 0
        assert not (out / "report.html").exists(), "a report of other results does not stay"

    @pytest.mark.parametrize("torn", [0, 1, 40])
    def test_a_killed_run_continues_to_the_same_bytes(
        self, reds: Path, tmp_path: Path, out: Path, torn: int
    ) -> None:
        whole = tmp_path / "whole"
        _run(reds, whole)
        lines = (whole / "results.jsonl").read_bytes().splitlines(keepends=True)
        _run(reds, out)
        for name in ("results.csv", "report.html"):
            (out / name).unlink()
        (out / ".results.csv.abcd1234.dermfuse").write_text("half")
        (out / "results.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:torn])
        outcome = _run(reds, out)
        assert (outcome.analysed, outcome.reused) == (3, 2)
        for name in ("results.jsonl", "results.csv", "report.html"):
            assert (out / name).read_bytes() == (whole / name).read_bytes()
        assert not list(out.glob(".*"))

    @pytest.mark.parametrize("at", ["b.png", "withheld.png"])
    def test_an_interrupt_leaves_whole_lines_and_a_folder_that_is_removed_stays_so(
        self, reds: Path, out: Path, at: str
    ) -> None:
        def interrupt(step: Step) -> None:
            if step.name == at:
                raise KeyboardInterrupt

        def remove(step: Step) -> None:
            if step.name == at:
                shutil.rmtree(out)

        with pytest.raises(KeyboardInterrupt):
            _run(reds, out, progress=interrupt)
        assert f"{_names(out)[-1]}.png" == at
        assert _run(reds, out).reused == len({"b.png": "ab", "withheld.png": "abcdw"}[at])
        shutil.rmtree(out)
        with pytest.raises(StorageError, match="was removed while results were written into it"):
            _run(reds, out, progress=remove)
        assert not out.exists()

    def test_results_of_other_settings_are_refused(self, reds: Path, out: Path) -> None:
        _run(reds, out)
        with pytest.raises(RunError, match=r"made with release 'r1'.*as now: release 'r2'"):
            run_folder([], in_threads(bright), out, identity={"release": "r2"})
        for folder, options in ((out, BulkOptions(resume=False)), (reds, None)):
            with pytest.raises(RunError, match="not empty"):
                _run(reds, folder, options=options)
        manifest = out / "analysis.json"
        manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"format": 0}))
        with pytest.raises(RunError, match="another version of dermfuse"):
            _run(reds, out)


def test_items_are_drawn_as_they_are_needed_and_bytes_known_again(reds: Path, out: Path) -> None:
    drawn, ahead = list[int](), list[int]()

    def items() -> Iterator[Item]:
        for number in range(50):
            drawn.append(number)
            yield Item(f"{number}", (reds / "a.png").read_bytes())

    lines = in_threads(bright, threads=3)
    run_folder(items(), lines, out, progress=lambda _: ahead.append(len(drawn) - len(ahead)))
    assert max(ahead) <= 2 * 3
    assert run_folder(items(), lines, out).reused == 50
    assert len(lines_of(out)[0]["file"]["sha256"]) == 64


def test_memory_stays_flat_over_two_thousand_images(tmp_path: Path) -> None:
    def measure(count: int, out: Path) -> int:
        items = (Item(f"lesion-{n:06d}", b"fault", "bad") for n in range(count))
        tracemalloc.start()
        run_folder(items, in_threads(bright, threads=2), out, options=BulkOptions(report=False))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    small, large = measure(200, tmp_path / "small"), measure(2000, tmp_path / "large")
    assert (large - small) / 1800 < 200  # bytes per image
    again = measure(2000, tmp_path / "large")  # every name is remembered, as a number
    assert (again - small) / 1800 < 400


def test_a_folder_is_analysed_and_continued_by_the_same_analyzer_alone(
    analyzer: Analyzer, images: Path, out: Path
) -> None:
    own = Analyzer(analyzer.folder, looks=4)  # decodes in processes of this call alone
    outcome = analyze_paths(own, [images], out, options=BulkOptions(threads=2))
    assert (outcome.analysed, outcome.failed, outcome.errors[0][0]) == (3, 1, "broken.jpg")
    alone = json.loads(json.dumps(own.analyze(images / "b.png").to_dict()))
    record = lines_of(out)[1]
    state = (images / "b.png").stat()
    assert record.pop("file") == {"bytes": state.st_size, "mtime_ns": state.st_mtime_ns}
    assert record.pop("thumbnail")
    assert record | {"outline": alone["outline"]} == alone | {"name": "b.png"}
    page = (out / "report.html").read_text()
    for said in (
        NOTICE,
        "sensitivity 0.90 (0.80 to 0.95)",
        "looked at 4 orientations; probability",
    ):
        assert said in page
    save_png(images / "d.png", skin(30))
    again = analyze_paths(own, [images], out)
    assert (again.analysed, again.reused) == (1, 3)
    with pytest.raises(RunError, match=r"with looks 4\. Expected: .*looks 1"):
        analyze_paths(analyzer, [images], out)


def _pictures(out: Path) -> list[str]:
    return sorted(path.relative_to(out).as_posix() for path in out.rglob("*.p*") if path.is_file())


def test_pictures_are_those_of_the_images_that_are_given(
    analyzer: Analyzer, images: Path, out: Path
) -> None:
    options = BulkOptions(masks=True, overlays=True)
    analyze_paths(analyzer, [images], out, options=options)
    kinds = (("masks", ""), ("overlays", ".activation"), ("overlays", ".outline"))
    names = ("a.png", "b.png", "more/c.png")
    expected = [f"{folder}/{name}{kind}.png" for folder, kind in kinds for name in names]
    assert _pictures(out) == sorted(expected)
    (out / "masks" / "notes.ps").write_text("not ours")
    (images / "more" / "c.png").unlink()
    (images / "b.png").write_bytes(b"damaged since")
    analyze_paths(analyzer, [images], out, options=options)
    kept = [each for each in expected if "/a.png" in each]
    assert _pictures(out) == sorted(["masks/notes.ps", *kept])
    assert not (out / "overlays" / "more").exists()


def test_a_full_disk_ends_the_call_and_what_is_done_is_kept(
    analyzer: Analyzer, images: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, fsync = BulkOptions(overlays=True), os.fsync
    left = [3]  # the settings, and the overlays of one image

    def full(descriptor: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        fsync(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        with pytest.raises(StorageError, match="No space left on device"):
            analyze_paths(analyzer, [images], out, options=options)
    assert _names(out) == ["a"]
    outcome = analyze_paths(analyzer, [images], out, options=options)
    assert (outcome.reused, outcome.failed, len(_pictures(out))) == (1, 1, 6)


def test_a_picture_whose_name_alone_is_at_fault_is_one_failure(
    analyzer: Analyzer, images: Path, out: Path
) -> None:
    options, mask = BulkOptions(masks=True), out / "masks" / "a.png.png"
    analyze_paths(analyzer, [images], out, options=options)
    mask.unlink()
    mask.mkdir()  # nothing of ours
    save_png(images / "a.png", skin(5))
    outcome = analyze_paths(analyzer, [images], out, options=options)
    assert [name for name, _ in outcome.errors] == ["a.png", "broken.jpg"]
    assert (outcome.reused, outcome.failed) == (2, 2)


@pytest.mark.parametrize("options", [{"masks": True, "ray": "local"}, {"threads": 0}])
def test_options_that_contradict_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"masks are asked for, and Ray|threads is 0"):
        BulkOptions(**options)
