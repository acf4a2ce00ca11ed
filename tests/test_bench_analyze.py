import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.bench import Comparison, analysis, drawn
from dermfuse.bench.analysis import AnalysisOptions, bench_analysis
from dermfuse.bench.eager import EagerEnsemble, limit_threads
from dermfuse.bench.fresh import measure_cold_start
from dermfuse.bench.reports import ThreadReport
from dermfuse.bench.rounds import Clock, take_rounds
from dermfuse.cli import main
from dermfuse.errors import ConfigError, DataError, ReleaseError
from dermfuse.folders import NOTICE
from dermfuse.release.cards import read_card, write_card

from .small_release import skin, write_small_release

FEW = AnalysisOptions(images=2, rounds=1, folder_images=3, starts=1, later_images=1)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small release, said to be of networks that PyTorch can build."""
    folder = write_small_release(tmp_path_factory.mktemp("release"), with_gate=True)
    for name in ("reds-a", "reds-b", "greens"):
        card = read_card(folder / f"{name}.json")
        write_card(folder, replace(card, backbone="mobilenet_v1"))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(3):
        Image.fromarray(skin(10 * number)).save(folder / f"{number}.jpg")
    return folder


class TestReport:
    def test_it_has_every_number(self, release: Path, data: Path) -> None:
        seen: list[tuple[int, int]] = []
        report = bench_analysis(
            release, data=data, options=FEW, progress=lambda done, all_: seen.append((done, all_))
        )
        assert seen == [(done, 3) for done in range(1, 4)]
        assert [each.threads for each in report.by_threads] == [1, 2]
        for each in report.by_threads:
            assert set(each.latencies) == {
                "analysis", "networks", "score", "analysis_plain", "networks_plain",
            }  # fmt: skip
            for latency in each.latencies.values():
                assert 0 < latency.milliseconds <= latency.percentile_90
            for found in (each.analysis, each.networks):
                assert found is not None
                assert 0 < found.lowest_ratio <= found.ratio <= found.highest_ratio
        assert 0 < report.cold_start.import_seconds < report.cold_start.first_analysis_seconds
        assert report.folder.images_per_second > 0
        assert (report.images, report.precision, report.plain_left_out) == (2, "float32", "")
        assert report.networks == ("reds-a (32 px)", "reds-b (32 px)", "greens (32 px)")
        record = json.loads(json.dumps(report.to_dict(), allow_nan=False))
        assert record["threads"][1]["threads"] == 2
        assert record["threads"][0]["analysis_ratio"] > 0
        assert record["folder"]["images"] == 3
        assert record["machine"]["cores"] >= 1
        assert record["machine"]["torch"]

    def test_both_sides_look_as_often_as_is_asked(self, release: Path, data: Path) -> None:
        report = bench_analysis(release, data=data, options=replace(FEW, looks=4))
        assert (report.looks, report.to_dict()["looks"]) == (4, 4)
        assert report.by_threads[0].analysis is not None

    def test_without_torch_it_says_so_and_measures_the_rest(
        self, release: Path, data: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(analysis, "find_spec", lambda name: None)
        report = bench_analysis(release, data=data, options=FEW)
        assert "pip install -e '.[train]'" in report.plain_left_out
        assert report.machine.torch == ""
        assert set(report.by_threads[0].latencies) == {"analysis", "networks", "score"}
        assert report.by_threads[0].analysis is None
        assert "analysis_ratio" not in report.to_dict()["threads"][0]

    def test_the_command_prints_a_table_and_writes_what_it_printed(
        self,
        release: Path,
        data: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        few = bench_analysis(release, data=data, options=replace(FEW, plain=False))
        monkeypatch.setattr(analysis, "bench_analysis", lambda *_, **__: few)
        out = tmp_path / "speed.json"
        asked = ["bench", "analyze", "--release", str(release), "--no-plain", "--out", str(out)]
        assert main(asked) == 0
        said = capsys.readouterr().out
        assert "full analysis" in said
        assert "PyTorch was left out: it was not asked for." in said
        assert NOTICE in said
        assert json.loads(out.read_text()) == few.to_dict()
        assert main([*asked, "--json"]) == 0
        assert json.loads(capsys.readouterr().out) == {**few.to_dict(), "notice": NOTICE}


class TestRounds:
    def test_tasks_take_turns_round_by_round_after_a_warm_up(self) -> None:
        done: list[str] = []
        tasks = {
            "a": lambda file: done.append(f"a{file.decode()}"),
            "b": lambda file: done.append(f"b{file.decode()}"),
        }
        clocks = take_rounds(tasks, [b"1", b"2"], rounds=2)
        assert done == ["a1", "b1", *["a1", "a2", "b1", "b2"] * 2]
        assert [len(block) for block in clocks["a"].blocks] == [2, 2]

    def test_the_median_and_the_ninetieth_percentile_are_over_all_blocks(self) -> None:
        clock = Clock([[0.001 * (1 + number) for number in range(5)], [0.006] * 4 + [0.1]])
        assert clock.latency.milliseconds == pytest.approx(5.5)
        assert clock.latency.percentile_90 == pytest.approx(6)
        assert clock.rates == pytest.approx([5 / 0.015, 5 / 0.124])

    def test_sides_are_compared_block_by_block(self) -> None:
        clocks = {
            "analysis": Clock([[0.1], [0.4]]),
            "networks": Clock([[0.1], [0.1]]),
            "score": Clock([[0.1], [0.1]]),
            "analysis_plain": Clock([[0.3], [1.6]]),  # a slow spell hits both in block 2
            "networks_plain": Clock([[0.5], [0.5]]),
        }
        report = ThreadReport.from_clocks(1, clocks)
        assert report.analysis is not None
        assert report.networks is not None
        assert report.analysis.lowest_ratio == pytest.approx(3)
        assert report.analysis.ratio == pytest.approx(3.5)
        assert report.networks.ratio == pytest.approx(5)
        assert isinstance(report.analysis, Comparison)


class TestSides:
    def test_pytorch_does_the_same_work(self, release: Path, data: Path) -> None:
        file = (data / "0.jpg").read_bytes()
        found = EagerEnsemble(release).find(file)
        ours = Analyzer(release, score_all=True).analyze(file)
        assert np.array_equal(found.image, ours.image)
        assert found.mask.shape == ours.mask.shape
        assert found.mask.dtype == ours.mask.dtype
        assert found.activation.ndim == ours.activation.ndim
        assert 0 <= found.activation.min() <= found.activation.max() <= 1
        assert 0 < found.malignant < 1

    def test_pytorch_s_looks_are_moved_back_onto_the_image(self, release: Path) -> None:
        """A sum over symmetries of what sees the image alone is what the eight of it see."""
        import torch

        ensemble = EagerEnsemble(release, looks=8)
        picture = Image.fromarray(skin(30))
        spread = ensemble._spread(picture, 32)
        assert spread.shape == (8, 3, 32, 32)
        red = ensemble._gather(spread[:, :1])
        torch.testing.assert_close(red, spread[:1, :1])

    def test_the_number_of_threads_is_restored(self) -> None:
        import torch

        before = torch.get_num_threads()
        with limit_threads(before + 1):
            assert torch.get_num_threads() == before + 1
        assert torch.get_num_threads() == before

    def test_a_network_that_pytorch_cannot_build_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigError, match="there is no backbone 'none'"):
            EagerEnsemble(write_small_release(tmp_path / "release"))

    def test_drawn_files_are_jpeg_of_the_common_size(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(drawn, "SIZE_PX", (80, 64))
        first, second = drawn.draw_files(2)
        assert first[:2] == second[:2] == b"\xff\xd8"
        assert first != second
        assert drawn.describe_drawn(2) == "2 synthetic images of 80 x 64 px, JPEG quality 90"

    def test_a_folder_is_filled_from_the_start_again(self, tmp_path: Path) -> None:
        folder = drawn.write_files(tmp_path / "new", [b"a", b"b"], 3)
        assert [path.read_bytes() for path in sorted(folder.iterdir())] == [b"a", b"b", b"a"]


class TestColdStart:
    def test_a_child_that_fails_is_no_measurement(self, release: Path, tmp_path: Path) -> None:
        from subprocess import CalledProcessError

        with pytest.raises(CalledProcessError):
            measure_cold_start(release, tmp_path / "none.jpg", looks=1, starts=1, later_images=0)


class TestRefusals:
    @pytest.mark.parametrize("name", ["images", "rounds", "folder_images", "starts"])
    def test_counts_out_of_range_are_refused(self, name: str) -> None:
        with pytest.raises(ConfigError, match=f"{name} is 0"):
            AnalysisOptions(**{name: 0})

    def test_other_looks_than_three_are_refused(self) -> None:
        with pytest.raises(ConfigError, match="looks is 2"):
            AnalysisOptions(looks=2)

    def test_an_empty_folder_and_a_missing_release_are_refused(
        self, release: Path, tmp_path: Path
    ) -> None:
        with pytest.raises(DataError, match="holds no image"):
            bench_analysis(release, data=tmp_path, options=FEW)
        with pytest.raises(ReleaseError):
            bench_analysis(tmp_path / "none", data=tmp_path, options=FEW)
