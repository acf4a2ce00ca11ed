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
from dermfuse.errors import ConfigError, ImageError, ReleaseError
from dermfuse.release.cards import digest_file, read_card, write_card
from dermfuse.runs import NOTICE
from dermfuse.scores import Label

from ..small_release import CALIBRATION, skin, write_small_release


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="module")
def gated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("gated"), with_gate=True)


def _even(red: int) -> np.ndarray:
    image = np.empty((40, 60, 3), np.uint8)
    image[:] = (red, 120, 110)
    return image


def _sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x))


def test_the_probability_is_the_calibrated_mean_of_the_scores(release: Path) -> None:
    analysis = Analyzer(release).analyze(_even(160), name="even")
    a, b = _sigmoid((160 - 128) / 16), _sigmoid((160 - 144) / 16)  # logits 2 and 1
    assert analysis.scores == pytest.approx({"reds-a": a, "reds-b": b}, abs=1e-5)
    fused = 0.25 * a + 0.75 * b
    expected = _sigmoid(np.log(fused / (1 - fused)) / 2 - 0.5)
    assert analysis.malignant_probability == pytest.approx(expected, abs=1e-5)
    each = CALIBRATION([a, b])
    assert analysis.disagreement == pytest.approx(
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


def test_the_activation_speaks_where_the_map_is_above_its_mean(release: Path) -> None:
    image = _even(100)
    image[:20, :30, 0] = 200  # the upper left quarter
    activation = Analyzer(release).analyze(image).activation
    assert activation.shape == (2, 2)
    assert activation[0, 0] == pytest.approx(1.0)
    assert activation[1, 1] == 0.0
    assert not Analyzer(release).analyze(_even(90)).activation.any(), "an even map speaks nowhere"


def test_files_bytes_images_and_pixels_are_analysed_alike(release: Path, tmp_path: Path) -> None:
    image, path = skin(), tmp_path / "lesion.png"
    Image.fromarray(image).save(path)
    analyzer = Analyzer(release)
    sources = [path, path.read_bytes(), io.BytesIO(path.read_bytes()), Image.open(path), image]
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


def test_what_is_no_dermoscopy_is_said_and_not_scored(gated: Path) -> None:
    analyzer = Analyzer(gated)
    known = analyzer.analyze(skin(10))
    assert known.is_dermoscopy is True
    assert known.malignant_probability is not None
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3)).astype(np.uint8)
    other = analyzer.analyze(noise)
    assert other.is_dermoscopy is False
    assert other.dermoscopy_distance > known.dermoscopy_distance
    assert (other.malignant_probability, other.predicted, dict(other.scores)) == (None, None, {})
    assert "does not look like a dermoscopy image" in other.warnings[0]
    record = other.to_dict()
    assert (record["malignant_probability"], record["predicted"]) == (None, None)
    assert record["dermoscopy"] is False


def test_what_is_no_dermoscopy_is_scored_if_all_are_and_the_warning_stays(gated: Path) -> None:
    page = np.full((48, 64, 3), 255, np.uint8)
    analysis = Analyzer(gated, score_all=True).analyze(page)
    assert analysis.is_dermoscopy is False
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


def test_overlays_have_the_size_of_the_image(release: Path) -> None:
    analysis = Analyzer(release).analyze(skin())
    for drawn in (analysis.contour_overlay(), analysis.activation_overlay()):
        assert drawn.shape == (48, 64, 3)
        assert not np.array_equal(drawn, analysis.image)


def test_one_network_alone_agrees_with_itself(tmp_path: Path) -> None:
    analyzer = Analyzer(write_small_release(tmp_path / "one", members=1))
    assert analyzer.analyze(_even(150)).disagreement == 0.0
    assert list(analyzer.digests) == ["reds-a", "greens"]


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
    path.write_bytes(b"no network")
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


def test_what_is_not_dermoscopy_has_no_score(gated: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (48, 64, 3)).astype(np.uint8)
    score = Analyzer(gated).score(noise)
    assert score.is_dermoscopy is False
    assert (score.malignant_probability, score.predicted, score.scores) == (None, None, {})
    assert "does not look like a dermoscopy image" in score.warnings[0]


def test_a_score_asks_no_mask_network(release: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dermfuse.analysis.networks import Network

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
