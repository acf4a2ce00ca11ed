import inspect
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.errors import ConfigError, ImageError
from dermfuse.imaging.quality import LIMITS
from dermfuse.records.folders import NOTICE
from dermfuse.release.networks import Network

from ..small_release import CALIBRATION, WEIGHTS, skin, write_small_release
from .conftest import PAGE, even


@pytest.fixture(scope="module")
def tilted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Networks that see the upper half of a look alone."""
    folder = tmp_path_factory.mktemp("tilted")
    return write_small_release(folder, tilted=True, looks=4, outliners=3)


@pytest.mark.parametrize(
    ("members", "looks", "over"),
    [
        (1, 1, ""),
        (1, 8, "8 orientations"),
        (2, 4, "4 orientations and 2 networks"),
        (3, 1, "3 networks"),
    ],
)
def test_what_is_said_follows_from_the_mean_of_all_looks_and_networks(
    members: int, looks: int, over: str, tmp_path: Path
) -> None:
    image = even(160, height=32, width=32)
    image[16:, :, 0] = 96  # a look turned by a quarter sees 128
    release = {"members": members, "outliners": members, "with_gate": True}
    tilted = write_small_release(tmp_path / "tilted", **release, looks=looks, tilted=True)
    analyzer = Analyzer(tilted, score_all=True)
    assert len(analyzer.digests) == 2 * members
    analysis = analyzer.analyze(image)
    reds = np.array([160, 128, 96, 128] * 2)[:looks]
    logits = (reds - np.array([128, 144, 160])[:members, None]) / 16
    apart, weights = 1 / (1 + np.exp(-logits)), np.array(WEIGHTS[members])  # (networks, looks)
    assert list(analysis.scores.values()) == pytest.approx(apart.mean(axis=1), abs=1e-5)
    expected = CALIBRATION(weights @ apart.mean(axis=1))
    assert analysis.malignant_probability == pytest.approx(expected, abs=1e-5)
    if looks > 1:  # the mean over upper halves is that of the whole
        level = Analyzer(write_small_release(tmp_path / "level", **release)).score(image)
        assert analysis.dermoscopy_distance == pytest.approx(level.dermoscopy_distance, abs=1e-4)
    if not over:
        assert (analysis.uncertainty, analysis.variation) == (None, "")
        return
    each = CALIBRATION(apart)
    deviation = np.sqrt(weights @ ((each - weights @ each.mean(axis=1)) ** 2).mean(axis=1))
    assert analysis.uncertainty == pytest.approx(deviation, abs=1e-5)
    said = f"Over {over} the probability varies by {deviation:.3f} (standard deviation)"
    assert analysis.variation == said
    assert "varies by less than 0.001 (" in replace(analysis, uncertainty=0.0004).variation


def test_the_operating_point_moves_the_call_and_nothing_else(release: Path) -> None:
    balanced, sensitive = (
        Analyzer(release, operating_point=point).analyze(even(140), name="a").to_dict()
        for point in (None, "sensitivity95")
    )
    changed = {key for key in balanced if balanced[key] != sensitive[key]}
    assert changed == {"predicted", "operating_point", "threshold"}
    assert (balanced["predicted"], sensitive["predicted"]) == ("benign", "malignant")
    assert (balanced["name"], balanced["notice"]) == ("a", NOTICE)
    assert balanced["dermoscopy"] is None, "this release has no gate"


def test_the_mask_has_the_size_of_the_image_and_is_measured_and_drawn(release: Path) -> None:
    analysis = Analyzer(release).analyze(skin())
    assert analysis.mask.shape == (48, 64)
    assert analysis.mask.mean() == pytest.approx(24 * 32 / (48 * 64), abs=0.03)
    assert analysis.measures.asymmetry == pytest.approx(0.0, abs=0.05)
    assert analysis.to_dict()["lesion_area_fraction"] == pytest.approx(0.25, abs=0.03)
    assert len(analysis.to_dict()["outline"]) == 1
    for drawn, lines in ((analysis.contour_overlay(), 1), (analysis.activation_overlay(), 2)):
        assert drawn.shape == (48 + 16 * lines, 64, 3), "the notice, and the legend, below it"
        assert not np.array_equal(drawn[:48], analysis.image)


def test_pictures_of_a_large_image_are_shrunk_and_larger_ones_refused(release: Path) -> None:
    image = even(160, height=2000, width=3000)
    analysis = Analyzer(release, max_pixels=6_000_000).analyze(image)
    for drawn in (analysis.contour_overlay(), analysis.activation_overlay()):
        assert drawn.shape[1] == 2_560
        assert 1_707 < drawn.shape[0] < 2_000  # with a line or two below
    with pytest.raises(ImageError, match=r"3000 x 2000 pixels. Expected: 5,999,999 pixels"):
        Analyzer(release, max_pixels=5_999_999).analyze(image)


def test_maps_are_moved_back_before_their_mean(tilted: Path) -> None:
    """Each quarter turn hides another half of the lesion, each pixel in two of four looks."""
    one, four = (Analyzer(tilted, looks=looks).analyze(skin()) for looks in (1, 4))
    assert not one.mask[:24].any()
    assert four.mask[13:35, 17:47].all(), "all but a rim: one half is the threshold"
    assert not four.mask[:12].any()
    assert "were measured with 4." in one.warnings[0]
    assert not any("orientation" in each for each in four.warnings)


def test_the_activation_has_one_scale_for_all_images(release: Path, tilted: Path) -> None:
    image = even(100)
    image[:20, :30, 0] = 200  # the upper left quarter
    activation = Analyzer(release).analyze(image).activation
    np.testing.assert_allclose(activation, [[200, 100], [100, 100]], atol=2)
    np.testing.assert_allclose(Analyzer(release).analyze(even(90)).activation, 90, atol=1)
    assert Analyzer(tilted).analyze(image).activation.argmax() == 0, "moved back from four looks"


def test_many_threads_may_ask_one_analyzer(release: Path) -> None:
    analyzer, images = Analyzer(release), [even(red) for red in range(100, 180, 4)] * 3
    alone = [each.malignant_probability for each in analyzer.analyze_many(images)]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda x: analyzer.analyze(x).malignant_probability, images))
    assert together == alone


def test_what_is_no_dermoscopy_is_reported_and_neither_scored_nor_outlined(gated: Path) -> None:
    known, other = Analyzer(gated).analyze_many([skin(10), PAGE])
    assert (known.is_dermoscopy, known.is_withheld) == (True, False)
    assert (other.is_dermoscopy, other.is_withheld) == (False, True)
    assert other.dermoscopy_distance > known.dermoscopy_distance
    assert other.warnings[0].startswith("This image is unlike the images the networks learnt from")
    assert (other.predicted, dict(other.scores), other.uncertainty) == (None, {}, None)
    assert (other.mask, other.activation, other.measures) == (None, None, None)
    assert (other.contour_overlay(), other.activation_overlay()) == (None, None)
    assert (other.lesion_area_fraction, other.variation) == (None, "")
    assert [flag.name for flag in other.quality] == [n for n in LIMITS if n != "lesion_cut"]
    record = other.to_dict()
    assert record.keys() == known.to_dict().keys(), "the keys are the same, their values null"
    unsaid = ("malignant_probability", "predicted", "uncertainty", "lesion_area_fraction")
    assert [record[key] for key in (*unsaid, "measures", "outline")] == [None] * 6
    assert (record["dermoscopy"], record["width_px"], record["height_px"]) == (False, 64, 48)


def test_what_is_no_dermoscopy_is_scored_if_all_are_and_the_warning_stays(gated: Path) -> None:
    analysis = Analyzer(gated, score_all=True).analyze(PAGE)
    assert (analysis.is_dermoscopy, analysis.is_withheld) == (False, False)
    assert analysis.to_dict()["measures"]["pieces"] == 0
    assert analysis.malignant_probability == pytest.approx(0.955, abs=0.001), "logit 7.1 / 2 - 0.5"
    assert "its probability stands on nothing" in analysis.warnings[0]


def test_a_score_is_that_of_the_analysis_and_asks_no_mask_network(
    gated: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    analyzer, asked, ask = Analyzer(gated), list[str](), Network.ask

    def note(self: Network, squares: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(self.card.name)
        return ask(self, squares)

    for image in (skin(30), PAGE):
        whole = analyzer.analyze(image)
        with monkeypatch.context() as patched:
            patched.setattr(Network, "ask", note)
            record = analyzer.score(image).to_dict()
        expected = {key: whole.to_dict()[key] for key in record}
        assert record == expected | {"warnings": list(whole.doubts)}
    assert asked == ["reds-a", "reds-b"] * 2


@pytest.mark.parametrize("option", [{"threads": 0}, {"looks": 3}, {"max_pixels": 255}])
def test_options_that_cannot_be_used_are_refused(release: Path, option: dict[str, int]) -> None:
    with pytest.raises(ConfigError):
        Analyzer(release, **option)


def test_an_analysis_keeps_to_its_own_thread_and_this_machine_gets_no_id(
    gated: Path, tmp_path: Path
) -> None:
    script = (
        "import sys, time; import numpy as np; import dermfuse\n"
        f"{inspect.getsource(skin)}\n"
        "analyzer = dermfuse.Analyzer(sys.argv[1])\n"
        "image = np.kron(skin(10), np.ones((16, 16, 1), np.uint8))\n"
        "analyzer.analyze(image)\n"
        "all_threads, own = time.process_time(), time.thread_time()\n"
        "for _ in range(4): analyzer.analyze(image)\n"
        "print((time.process_time() - all_threads) / (time.thread_time() - own))\n"
    )
    ours = ("_NUM_THREADS", "ORT_DISABLE_TELEMETRY")
    kept = {key: value for key, value in os.environ.items() if not key.endswith(ours)}
    environment = kept | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    command = [sys.executable, "-c", script, gated]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 1.1, "BLAS threads that wait would count here"
    assert list(tmp_path.iterdir()) == [], "ONNX Runtime would keep its id here"
