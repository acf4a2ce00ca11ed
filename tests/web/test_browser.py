"""The built app in real Chromium: it answers as the Analyzer does, and sends nothing anywhere.

DERMFUSE_CHROMIUM names the browser where it is not called chromium.
"""

import shutil
from pathlib import Path
from typing import Any

import pytest

from benchmarks.hosting import host_folder
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.errors import ImageError
from dermfuse.imaging.masks import read_mask
from dermfuse.predictions.metrics import count, jaccard
from dermfuse.records.folders import read_json, write_json
from dermfuse.release.folder import RELEASE_NAME, read_release
from dermfuse.report import say_share
from dermfuse.web.build import add_release

from ..shipped_release import shipped_release
from .conftest import drive
from .paper import read_sheets
from .pictures import RARITIES, UNREADABLE, write_pictures
from .releases import write_release_for_drawings

pytestmark = pytest.mark.browser

MOST_APART = 1e-3
"""Largest difference of the probability from the library's."""
LEAST_JACCARD = 0.99
"""Of the mask and the library's."""
SMALL = "small"
"""Name of the release with tiny networks."""
OTHER_LOOKS = 4
"""Chosen by hand at last; no release here was measured with so many."""


@pytest.fixture(scope="session", params=["drawings", "shipped", "shipped with one look"])
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release with tiny networks; that of the package as it is, and with one look."""
    if request.param == "drawings":
        folder = tmp_path_factory.mktemp("release") / SMALL
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
    app = shutil.copytree(compiled, work / "app")
    add_release(app, release)
    files, refused = write_pictures(work / "files"), []
    if release.name == SMALL:  # whose networks take no time
        files += write_pictures(work / "rarities", RARITIES)
        refused = write_pictures(work / "unreadable", UNREADABLE)
    with host_folder(app, isolated=False) as host:
        return drive(
            "drive.mjs", work, url=host.url, out=work, looks=OTHER_LOOKS,
            files=files, refused=refused,
        )  # fmt: skip


def test_browser_and_library_agree_on_every_file(driven: dict[str, Any], release: Path) -> None:
    analyzer = Analyzer(release)
    assert len(driven["results"]) >= 10
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
        if expected.mask is None:
            assert result["mask"] is None, "no outline of what is withheld"
            assert (found["measures"], found["outline"]) == (None, None)
            nothing = {"controls": 0, "outline": False, "measures": False, "share": None}
            assert result["lesion"] == nothing, result["file"]
        else:
            mask = read_mask(Path(result["mask"]))
            assert jaccard(count(mask, expected.mask)) >= LEAST_JACCARD, result["file"]
            share = expected.lesion_area_fraction
            assert found["lesion_area_fraction"] == pytest.approx(share, abs=0.005)
            shown = say_share(found["lesion_area_fraction"]).replace(" ", "\u00a0")
            everything = {"controls": 2, "outline": bool(expected.mask.any()), "measures": True}
            assert result["lesion"] == everything | {"share": shown}, result["file"]
        assert found["warnings"] == list(expected.warnings), result["file"]
    assert scored >= 5


def test_browser_and_library_refuse_the_same_files(driven: dict[str, Any], release: Path) -> None:
    if release.name != SMALL:
        assert driven["refused"] == []
        return
    analyzer = Analyzer(release)
    said = {Path(result["file"]).name: result for result in driven["refused"]}
    for name, result in said.items():
        assert result["state"] == "refused", name
        assert f"{name}: T" in result["said"], name  # "The image ...", "This is ..."
        if name not in ("tiff.jpg", "dicom.jpg"):  # the library alone reads these
            with pytest.raises(ImageError):
                analyzer.analyze(result["file"])
    for name, words in (
        ("ended-early.jpg", "damaged inside"), ("zeroed.jpg", "damaged inside"),
        ("zeroed-progressive.jpg", "damaged inside"), ("twelve-bits.jpg", "12 bits per sample"),
        ("avif.jpg", "an AVIF image"), ("iphone.jpg", "a HEIC image"),
        ("jpeg2000.jpg", "a JPEG 2000 image"), ("tiff.jpg", "a TIFF image"),
        ("dicom.jpg", "a DICOM file"), ("moving.gif", "animated"), ("moving.png", "animated"),
        ("moving.webp", "animated"),
    ):  # fmt: skip
        assert words in said.pop(name)["said"], name
    assert said == {}


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


def test_the_bar_is_as_wide_as_the_probability_and_the_tick_at_the_threshold(
    driven: dict[str, Any], release: Path
) -> None:
    thresholds = {p.name: p.threshold for p in read_release(release).classes.operating_points}
    drawn = set()
    for result in driven["results"]:
        probability = result["record"]["malignant_probability"]
        assert (probability is None) == (result["gauges"] == []), result["file"]
        for gauge in result["gauges"]:
            assert gauge["width"] > 200
            expected = max(probability * gauge["width"], 4)  # px; a sliver is seen at least
            assert gauge["level"] == pytest.approx(expected, abs=0.5), result["file"]
            at = thresholds[gauge["point"]] * gauge["width"]
            assert gauge["tick"] == pytest.approx(at, abs=0.5), gauge["point"]
            drawn.add(round(gauge["level"]))
    assert len(drawn) >= 3
    assert len(thresholds) >= 2


def test_every_printed_sheet_names_the_file_and_the_day_and_holds_the_notice(
    driven: dict[str, Any],
) -> None:
    printed = driven["printed"]
    sheets = read_sheets(Path(printed["path"]))
    assert len(sheets) >= 2
    for sheet in sheets:
        assert sheet.startswith(f"{Path(printed['file']).name}\u00b7{printed['day']}")
        assert "Researchsoftware,notamedicaldevice.Nothingitshowsisadiagnosis." in sheet
    assert printed["position"] == "static"  # a notice that stays in sight would hide what is below
    assert len(printed["headings"]) >= 4
    for heading in printed["headings"]:
        assert sum(heading.replace(" ", "") in sheet for sheet in sheets) == 1, heading


def test_the_app_works_without_a_connection(driven: dict[str, Any]) -> None:
    first, again = driven["results"][0]["record"], driven["offline"]["result"]["record"]
    numbers = ("malignant_probability", "uncertainty", "dermoscopy_distance")
    assert again["scores"] == pytest.approx(first["scores"], abs=1e-5)  # threads sum otherwise
    assert [again[name] for name in numbers] == pytest.approx([first[name] for name in numbers])
    told = first.keys() - {"scores", *numbers}
    assert {name: again[name] for name in told} == {name: first[name] for name in told}


def test_nothing_leaves_the_origin_threads_can_be_used_and_the_notice_is_in_sight(
    driven: dict[str, Any],
) -> None:
    assert (driven["foreign"], driven["errors"]) == ([], [])
    assert not driven["isolated"]
    assert driven["offline"]["isolated"]  # by the service worker
    assert driven["notice"]
