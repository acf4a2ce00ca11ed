import inspect
import io
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.data.isic2016 import Label
from dermfuse.errors import ConfigError, ImageError, ReleaseError
from dermfuse.folders import NOTICE
from dermfuse.imaging.quality import LIMITS
from dermfuse.release.cards import digest_file, read_card, write_card

from ..small_release import CALIBRATION, skin, write_small_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("gated"), with_gate=True)


@pytest.fixture(scope="module")
def tilted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("tilted"), tilted=True, looks=4)


@pytest.fixture(scope="module")
def noise() -> np.ndarray:
    """What is no dermoscopy."""
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)


@pytest.fixture
def halves() -> np.ndarray:
    """160 red above, 96 below: looks turned by a quarter see 128."""
    image = np.full((32, 32, 3), 120, np.uint8)
    image[:16, :, 0], image[16:, :, 0] = 160, 96
    return image


def _even(red: int) -> np.ndarray:
    image = np.empty((40, 60, 3), np.uint8)
    image[:] = (red, 120, 110)
    return image


def _sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def test_an_image_of_more_pixels_than_allowed_is_refused(release: Path) -> None:
    analyzer = Analyzer(release, max_pixels=2_399)
    with pytest.raises(ImageError, match=r"60 x 40 pixels. Expected: 2,399 pixels or fewer\."):
        analyzer.analyze(_even(160))
    assert Analyzer(release, max_pixels=2_400).max_pixels == 2_400
    with pytest.raises(ConfigError, match="the limit is 255 pixels"):
        Analyzer(release, max_pixels=255)


def test_pictures_of_a_large_image_are_shrunk(release: Path) -> None:
    image = np.repeat(np.repeat(_even(160), 50, axis=0), 50, axis=1)  # (2000, 3000, 3)
    analysis = Analyzer(release).analyze(image)
    for drawn in (analysis.contour_overlay(), analysis.activation_overlay()):
        assert drawn is not None
        assert drawn.shape[1] == 2_560
        assert 1_707 < drawn.shape[0] < 2_000  # with a line or two below


def test_the_probability_is_the_calibrated_mean_of_the_scores(release: Path) -> None:
    analysis = Analyzer(release).analyze(_even(160), name="even")
    a, b = _sigmoid((160 - 128) / 16), _sigmoid((160 - 144) / 16)  # logits 2 and 1
    assert analysis.scores == pytest.approx({"reds-a": a, "reds-b": b}, abs=1e-5)
    fused = 0.25 * a + 0.75 * b
    expected = _sigmoid(np.log(fused / (1 - fused)) / 2 - 0.5)
    assert analysis.malignant_probability == pytest.approx(expected, abs=1e-5)
    each = CALIBRATION([a, b])
    assert analysis.uncertainty == pytest.approx(
        np.sqrt(0.25 * 0.75) * abs(each[0] - each[1]), abs=1e-5
    )
    assert analysis.predicted is (Label.MALIGNANT if expected >= 0.5 else Label.BENIGN)


def test_the_operating_point_moves_the_call_and_nothing_else(release: Path) -> None:
    image = _even(140)
    balanced = Analyzer(release).analyze(image)
    sensitive = Analyzer(release, operating_point="sensitivity95").analyze(image)
    assert balanced.malignant_probability == sensitive.malignant_probability
    assert (balanced.predicted, sensitive.predicted) == (Label.BENIGN, Label.MALIGNANT)


def test_the_mask_has_the_size_of_the_image_and_is_measured(release: Path) -> None:
    analysis = Analyzer(release).analyze(skin())
    assert analysis.mask.shape == (48, 64)
    assert analysis.mask.mean() == pytest.approx(24 * 32 / (48 * 64), abs=0.03)
    assert analysis.measures.asymmetry == pytest.approx(0.0, abs=0.05)
    assert analysis.to_dict()["lesion_area_fraction"] == pytest.approx(0.25, abs=0.03)
    assert len(analysis.to_dict()["outline"]) == 1


def test_the_activation_has_one_scale_for_all_images(release: Path) -> None:
    analyzer = Analyzer(release)
    image = _even(100)
    image[:20, :30, 0] = 200  # the upper left quarter
    activation = analyzer.analyze(image).activation
    assert activation.shape == (2, 2)
    assert activation[0, 0] == pytest.approx(200, abs=2)
    assert activation[1, 1] == pytest.approx(100, abs=1)
    np.testing.assert_allclose(analyzer.analyze(_even(90)).activation, 90, atol=1)


def test_files_bytes_images_and_pixels_are_analysed_alike(release: Path, tmp_path: Path) -> None:
    image, path = skin(), tmp_path / "lesion.png"
    Image.fromarray(image).save(path)
    analyzer = Analyzer(release)
    with Image.open(path) as opened:
        sources = [path, path.read_bytes(), io.BytesIO(path.read_bytes()), opened, image]
        found = list(analyzer.analyze_many(sources))
    assert len({analysis.malignant_probability for analysis in found}) == 1
    assert found[0].name == str(path)
    assert all(np.array_equal(analysis.mask, found[0].mask) for analysis in found)


def test_many_threads_may_ask_one_analyzer(release: Path) -> None:
    analyzer = Analyzer(release)
    images = [_even(red) for red in range(100, 180, 4)] * 3
    alone = [analyzer.analyze(image).malignant_probability for image in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda x: analyzer.analyze(x).malignant_probability, images))
    assert together == alone


def test_what_is_no_dermoscopy_is_reported_and_neither_scored_nor_outlined(
    gated: Path, noise: np.ndarray
) -> None:
    analyzer = Analyzer(gated)
    known, other = analyzer.analyze(skin(10)), analyzer.analyze(noise)
    assert (known.is_dermoscopy, other.is_dermoscopy) == (True, False)
    assert not known.is_withheld
    assert other.is_withheld
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
    assert (record["dermoscopy"], record["width_px"], record["height_px"]) == (False, 80, 60)
    score = analyzer.score(noise)
    assert score.to_dict() == {key: record[key] for key in score.to_dict()} | {
        "warnings": [other.warnings[0]]
    }


def test_what_is_no_dermoscopy_is_scored_if_all_are_and_the_warning_stays(gated: Path) -> None:
    page = np.full((48, 64, 3), 255, np.uint8)
    analysis = Analyzer(gated, score_all=True).analyze(page)
    assert analysis.is_dermoscopy is False
    assert not analysis.is_withheld
    assert analysis.mask is not None
    assert analysis.to_dict()["measures"]["pieces"] == 0
    assert analysis.malignant_probability == pytest.approx(0.955, abs=0.001), "logit 7.1 / 2 - 0.5"
    assert "its probability stands on nothing" in analysis.warnings[0]


def test_a_record_is_json_with_its_notice_and_operating_point(release: Path) -> None:
    record = Analyzer(release).analyze(_even(150), name="a").to_dict()
    assert record["notice"] == NOTICE
    assert (record["name"], record["release"]) == ("a", "small")
    assert (record["operating_point"], record["threshold"]) == ("balanced", 0.5)
    assert record["sensitivity"] == {"value": 0.9, "low": 0.8, "high": 0.95}
    assert record["dermoscopy"] is None, "this release has no gate"
    assert record["quality"]["too_dark"]["raised"] is False
    assert record["quality"]["blurred"]["sentence"]


def test_overlays_end_in_the_notice_and_the_legend(release: Path) -> None:
    analysis = Analyzer(release).analyze(skin())
    for drawn, lines in ((analysis.contour_overlay(), 1), (analysis.activation_overlay(), 2)):
        assert drawn.shape == (48 + 16 * lines, 64, 3)
        assert not np.array_equal(drawn[:48], analysis.image)


def test_with_one_look_of_one_network_nothing_is_uncertain(tmp_path: Path) -> None:
    analyzer = Analyzer(write_small_release(tmp_path / "one", members=1))
    analysis = analyzer.analyze(_even(150))
    assert (analysis.uncertainty, analysis.variation) == (None, "")
    assert analysis.to_dict()["uncertainty"] is None
    assert list(analyzer.digests) == ["reds-a", "greens"]
    for deviation, said in ((0.0004, "less than 0.001 ("), (0.0006, "0.001 (")):
        told = replace(analysis, uncertainty=deviation, looks=4).variation
        assert told.startswith(f"Over 4 orientations the probability varies by {said}")


def test_three_networks_score_and_three_outline(tmp_path: Path) -> None:
    folder = write_small_release(tmp_path / "six", members=3, outliners=3, with_gate=True)
    analyzer = Analyzer(folder, score_all=True)
    analysis = analyzer.analyze(_even(160))
    scores = [_sigmoid((160 - middle) / 16) for middle in (128, 144, 160)]
    expected = CALIBRATION(np.dot([0.2, 0.3, 0.5], scores))
    assert analysis.malignant_probability == pytest.approx(expected, abs=1e-5)
    assert list(analysis.scores) == ["reds-a", "reds-b", "reds-c"]
    assert analysis.variation.startswith("Over 3 networks the probability varies by 0.")
    assert len(analyzer.digests) == 6
    assert Analyzer(folder, looks=8, score_all=True).analyze(skin()).mask.any()


class TestLooks:
    """The class networks of a tilted release see the upper half of a look alone."""

    def test_the_score_is_the_mean_over_looks(self, tilted: Path, halves: np.ndarray) -> None:
        analysis = Analyzer(tilted).analyze(halves)
        reds = np.array([160, 128, 96, 128])  # as it is, then by quarter turns
        a, b = _sigmoid((reds - 128) / 16), _sigmoid((reds - 144) / 16)
        assert analysis.scores == pytest.approx({"reds-a": a.mean(), "reds-b": b.mean()}, abs=1e-5)
        expected = CALIBRATION(0.25 * a.mean() + 0.75 * b.mean())
        assert analysis.malignant_probability == pytest.approx(expected, abs=1e-5)

        each = CALIBRATION(np.stack([a, b]))  # (networks, looks)
        middle = 0.25 * each[0].mean() + 0.75 * each[1].mean()
        variance = 0.25 * ((each[0] - middle) ** 2).mean() + 0.75 * ((each[1] - middle) ** 2).mean()
        assert analysis.uncertainty == pytest.approx(np.sqrt(variance), abs=1e-5)
        assert analysis.variation == (
            f"Over 4 orientations and 2 networks the probability varies by "
            f"{np.sqrt(variance):.3f} (standard deviation)"
        )
        assert (analysis.looks, analysis.to_dict()["looks"]) == (4, 4)

    def test_one_network_varies_over_looks(self, tmp_path: Path, halves: np.ndarray) -> None:
        folder = write_small_release(tmp_path / "one", members=1, tilted=True, looks=8)
        analysis = Analyzer(folder).score(halves)
        each = CALIBRATION(_sigmoid((np.array([160, 128, 96, 128]) - 128) / 16))
        assert analysis.uncertainty == pytest.approx(each.std(), abs=1e-5)
        assert analysis.variation.startswith("Over 8 orientations the probability varies by")

    def test_maps_are_moved_back_before_their_mean(self, tilted: Path) -> None:
        """Each quarter turn hides another half of the lesion, each pixel in two of four looks."""
        upper = slice(0, 24)
        one = Analyzer(tilted, looks=1).analyze(skin())
        assert not one.mask[upper].any()
        four = Analyzer(tilted).analyze(skin())
        assert four.mask[13:35, 17:47].all(), "all but a rim: one half is the threshold"
        assert not four.mask[:12].any()
        image = _even(100)
        image[:20, :30, 0] = 200  # the upper left quarter
        assert Analyzer(tilted).analyze(image).activation.argmax() == 0

    @pytest.mark.parametrize(("mirror", "turns"), [(False, 1), (False, 2), (True, 0), (True, 3)])
    def test_eight_looks_answer_alike_in_every_orientation(
        self, tilted: Path, mirror: bool, turns: int
    ) -> None:
        rng = np.random.default_rng(0)
        image = rng.integers(60, 200, (48, 48, 3)).astype(np.uint8)
        turned = np.ascontiguousarray(np.rot90(image[:, ::-1] if mirror else image, turns))
        analyzer = Analyzer(tilted, looks=8)
        as_is, other = analyzer.analyze(image), analyzer.analyze(turned)
        assert other.malignant_probability == pytest.approx(as_is.malignant_probability, abs=2e-3)
        assert other.uncertainty == pytest.approx(as_is.uncertainty, abs=2e-3)
        once = Analyzer(tilted, looks=1)
        apart = once.score(image).malignant_probability - once.score(turned).malignant_probability
        assert (mirror and turns == 0) or abs(apart) > 2e-3, "a single look depends on it"
        back = np.rot90(other.mask, -turns)
        assert (as_is.mask == (back[:, ::-1] if mirror else back)).mean() > 0.97

    def test_the_batch_of_looks_answers_as_each_look_alone(self, tilted: Path) -> None:
        """What eight looks say is the mean of what one look says about each orientation."""
        image = np.random.default_rng(1).integers(60, 200, (32, 32, 3)).astype(np.uint8)
        looks = [np.rot90(x, t).copy() for x in (image, image[:, ::-1]) for t in range(4)]
        once = Analyzer(tilted, looks=1)
        alone = [once.score(look).scores["reds-b"] for look in looks]
        found = Analyzer(tilted, looks=8).score(image).scores["reds-b"]
        assert found == pytest.approx(np.mean(alone), abs=1e-6)

    def test_the_gate_sees_the_mean_embedding(self, tmp_path: Path) -> None:
        """The mean over upper halves is the mean of the whole, which the level networks see."""
        image = skin(10)
        image[:24, :, 0] += 40
        folder = write_small_release(tmp_path / "gated", with_gate=True, tilted=True, looks=8)
        once, found = (
            Analyzer(folder, looks=looks).score(image).dermoscopy_distance for looks in (1, 8)
        )
        level = write_small_release(tmp_path / "level", with_gate=True)
        expected = Analyzer(level).score(image).dermoscopy_distance
        assert found == pytest.approx(expected, abs=1e-4)
        assert once > expected + 0.05

    def test_other_looks_than_the_release_s_are_told(self, tilted: Path) -> None:
        analysis = Analyzer(tilted, looks=1).analyze(skin())
        said = "Each network looked at 1 orientation; probability, operating points"
        assert [said in warning for warning in analysis.warnings].count(True) == 1
        assert "were measured with 4." in analysis.warnings[0]
        assert not any("orientation" in each for each in Analyzer(tilted).analyze(skin()).warnings)

    def test_other_numbers_of_looks_are_refused(self, tilted: Path) -> None:
        with pytest.raises(ConfigError, match=r"looks is 3\. Expected: 1 .*, 4 .* or 8"):
            Analyzer(tilted, looks=3)


def test_what_cannot_be_used_is_refused(release: Path, tmp_path: Path) -> None:
    with pytest.raises(ReleaseError, match="no operating point"):
        Analyzer(release, operating_point="best")
    with pytest.raises(ReleaseError, match="is missing"):
        Analyzer(tmp_path / "none")
    with pytest.raises(ConfigError, match="threads is 0"):
        Analyzer(release, threads=0)
    with pytest.raises(ImageError):
        Analyzer(release).analyze(b"no image")


def test_a_network_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    folder = write_small_release(tmp_path / "broken")
    path = folder / "greens.onnx"
    card = read_card(folder / "greens.json")
    for content in (b"no network", b":\x00"):
        path.write_bytes(content)
        write_card(folder, replace(card, sha256=digest_file(path), bytes=path.stat().st_size))
        with pytest.raises(ReleaseError, match=r"greens\.onnx cannot be run"):
            Analyzer(folder)


def test_a_score_is_that_of_the_analysis(gated: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(skin(30)).save(path)
    analyzer = Analyzer(gated)
    score, analysis = analyzer.score(path), analyzer.analyze(path)
    record = score.to_dict()
    assert record == {key: analysis.to_dict()[key] for key in record} | {"warnings": []}
    assert score.predicted is analysis.predicted
    assert score.name == str(path)
    assert record["notice"] == NOTICE


def test_a_score_asks_no_mask_network(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dermfuse.release.networks import Network

    asked: list[str] = []
    ask = Network.ask

    def note(self: Network, squares: np.ndarray) -> dict[str, np.ndarray]:
        asked.append(self.card.name)
        return ask(self, squares)

    monkeypatch.setattr(Network, "ask", note)
    Analyzer(release).score(skin())
    assert asked == ["reds-a", "reds-b"]


def test_an_analysis_keeps_to_its_own_thread(gated: Path) -> None:
    script = (
        "import sys, time; import numpy as np; from pathlib import Path; import dermfuse\n"
        "from tests_skin import skin\n"
        "analyzer = dermfuse.Analyzer(Path(sys.argv[1]))\n"
        "image = np.kron(skin(10), np.ones((16, 16, 1), np.uint8))\n"
        "analyzer.analyze(image)\n"
        "all_threads, own = time.process_time(), time.thread_time()\n"
        "for _ in range(4): analyzer.analyze(image)\n"
        "print((time.process_time() - all_threads) / (time.thread_time() - own))\n"
    ).replace("from tests_skin import skin\n", inspect.getsource(skin))
    environment = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    ran = subprocess.run(
        [sys.executable, "-c", script, str(gated)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert float(ran.stdout) < 1.1, "BLAS threads that wait would count here"


def test_onnx_runtime_reports_nothing_and_makes_no_id_of_this_machine(
    release: Path, tmp_path: Path
) -> None:
    kept = {key: value for key, value in os.environ.items() if key != "ORT_DISABLE_TELEMETRY"}
    environment = kept | {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    script = "import sys, dermfuse; dermfuse.Analyzer(sys.argv[1])"
    subprocess.run([sys.executable, "-c", script, release], env=environment, check=True)
    assert list(tmp_path.iterdir()) == []
