import csv
import errno
import json
import os
from pathlib import Path

import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import RESULTS_NAME, BulkOptions, analyze_paths
from dermfuse.errors import ConfigError, RunError, StorageError
from dermfuse.folders import NOTICE

from ..small_release import skin, write_small_release


@pytest.fixture(scope="module")
def analyzer(tmp_path_factory: pytest.TempPathFactory) -> Analyzer:
    return Analyzer(write_small_release(tmp_path_factory.mktemp("release")))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    for name, red in (("a.png", 0), ("b.png", 60), ("more/c.png", 100)):
        Image.fromarray(skin(red)).save(folder / name)
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    return folder


def _records(out: Path) -> list[dict]:
    return [json.loads(line) for line in (out / RESULTS_NAME).read_text().splitlines()]


def test_a_folder_is_analysed_and_what_fails_is_listed(
    analyzer: Analyzer, images: Path, tmp_path: Path
) -> None:
    outcome = analyze_paths(analyzer, [images], tmp_path / "out", options=BulkOptions(threads=2))
    assert (outcome.analysed, outcome.failed, outcome.exit_code) == (3, 1, 3)
    assert outcome.errors[0][0].endswith("broken.jpg")
    records = {record["name"]: record for record in _records(tmp_path / "out")}
    alone = analyzer.analyze(images / "b.png")
    assert records["b.png"]["malignant_probability"] == pytest.approx(
        alone.malignant_probability, abs=1e-6
    )
    assert "outline" not in records["b.png"]
    assert records["b.png"]["thumbnail"]
    page = (tmp_path / "out" / "report.html").read_text()
    assert NOTICE in page
    assert "sensitivity 0.90 (0.80 to 0.95)" in page


def test_a_second_call_goes_on_and_another_operating_point_is_refused(
    analyzer: Analyzer, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    analyze_paths(analyzer, [images], out)
    Image.fromarray(skin(30)).save(images / "d.png")
    again = analyze_paths(analyzer, [images], out)
    assert (again.analysed, again.reused) == (1, 3)
    folder = write_small_release(tmp_path / "release")
    other = Analyzer(folder, operating_point="sensitivity95")
    with pytest.raises(RunError, match="sensitivity95"):
        analyze_paths(other, [images], out)


def test_other_looks_are_in_the_records_and_the_report_and_are_not_gone_on_with(
    analyzer: Analyzer, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    other = Analyzer(analyzer.folder, looks=4)
    analyze_paths(other, [images], out, options=BulkOptions(threads=2))
    records = [record for record in _records(out) if "error" not in record]
    assert {record["looks"] for record in records} == {4}
    assert records[0]["uncertainty"] == pytest.approx(
        other.analyze(images / "a.png").uncertainty, abs=1e-6
    )
    assert all("measured with 1." in record["warnings"][0] for record in records)
    with (out / "results.csv").open(newline="") as file:
        assert {"looks", "uncertainty"} <= set(next(csv.reader(file)))
    page = (out / "report.html").read_text()
    assert "Each network looked at 4 orientations; probability" in page
    assert "uncertainty 0." in page
    with pytest.raises(RunError, match=r"made with looks 4\. Expected: .*looks 1"):
        analyze_paths(analyzer, [images], out)
    analyze_paths(analyzer, [images], tmp_path / "own")
    assert (
        "Each network looks at 1 orientation of an image"
        in (tmp_path / "own" / "report.html").read_text()
    )


def test_overlays_lie_beside_the_results_under_the_images_names(
    analyzer: Analyzer, images: Path, tmp_path: Path
) -> None:
    options = BulkOptions(overlays=True, report=False)
    outcome = analyze_paths(analyzer, [images], tmp_path / "out", options=options)
    drawn = sorted(
        path.relative_to(tmp_path / "out" / "overlays").as_posix()
        for path in (tmp_path / "out" / "overlays").rglob("*.png")
    )
    assert drawn == [
        f"{name}.{what}.png"
        for name in ("a.png", "b.png", "more/c.png")
        for what in ("activation", "outline")
    ]
    with Image.open(tmp_path / "out" / "overlays" / drawn[0]) as overlay:
        assert overlay.size == (64, 48 + 2 * 16)  # legend and notice below it
    assert outcome.pages == 0


def test_overlays_and_ray_are_refused_together() -> None:
    with pytest.raises(ConfigError, match="overlays are asked for, and Ray"):
        BulkOptions(overlays=True, ray="local")


def test_a_list_is_analysed_under_its_names(
    analyzer: Analyzer, images: Path, tmp_path: Path
) -> None:
    (tmp_path / "list.csv").write_text("path,name\nimages/b.png,patient-2\nimages/no.png,none\n")
    outcome = analyze_paths(analyzer, [tmp_path / "list.csv"], tmp_path / "out")
    assert (outcome.analysed, outcome.failed) == (1, 1)
    assert [record["name"] for record in _records(tmp_path / "out")] == ["patient-2", "none"]
    assert "row 2 of list.csv" in outcome.errors[0][1]


@pytest.mark.parametrize("what", ["masks", "overlays"])
def test_a_full_disk_ends_the_call_and_what_is_done_is_kept(
    analyzer: Analyzer, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    out, options = tmp_path / "out", BulkOptions(**{what: True})
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
    done = [record["name"] for record in _records(out)]
    assert done == (["a.png", "b.png", "broken.jpg"] if what == "masks" else ["a.png"])
    outcome = analyze_paths(analyzer, [images], out, options=options)
    assert (outcome.reused, outcome.failed) == (len(done) - ("broken.jpg" in done), 1)
    assert len(list((out / what).rglob("*.png"))) == 3 * (1 + (what == "overlays"))


def test_a_picture_whose_name_alone_is_at_fault_is_one_failure(
    analyzer: Analyzer, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    analyze_paths(analyzer, [images], out, options=BulkOptions(masks=True))
    mask = out / "masks" / "a.png.png"
    mask.unlink()
    mask.mkdir()  # nothing of ours
    Image.fromarray(skin(5)).save(images / "a.png")
    outcome = analyze_paths(analyzer, [images], out, options=BulkOptions(masks=True))
    assert [name for name, _ in outcome.errors] == ["a.png", "broken.jpg"]
    assert (outcome.reused, outcome.failed) == (2, 2)


def test_masks_and_overlays_are_those_of_the_images_that_are_given(
    analyzer: Analyzer, images: Path, tmp_path: Path
) -> None:
    out, options = tmp_path / "out", BulkOptions(masks=True, overlays=True)
    analyze_paths(analyzer, [images], out, options=options)
    (images / "a.png").unlink()
    (images / "b.png").write_bytes(b"damaged since")
    analyze_paths(analyzer, [images], out, options=options)
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*.png"))
    assert left == [
        "masks/more/c.png.png",
        "overlays/more/c.png.activation.png",
        "overlays/more/c.png.outline.png",
    ]


def test_names_that_differ_only_in_what_is_no_utf_8_have_a_mask_each(
    analyzer: Analyzer, images: Path, tmp_path: Path
) -> None:
    for name in (b"\xff.png", rb"\xff.png", b"\xfe.png"):
        Image.fromarray(skin(20)).save(images / os.fsdecode(name))
    (images / "a.png.png").mkdir()
    Image.fromarray(skin(30)).save(images / "a.png.png" / "d.png")
    outcome = analyze_paths(
        analyzer, [images], tmp_path / "out", options=BulkOptions(masks=True, overlays=True)
    )
    assert (outcome.analysed, outcome.failed) == (7, 1)
    assert len(list((tmp_path / "out" / "masks").rglob("*.png"))) == 7
    assert len(list((tmp_path / "out" / "overlays").rglob("*.png"))) == 14
