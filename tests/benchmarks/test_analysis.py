from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from benchmarks import turns
from benchmarks.analysis import bench_analysis
from benchmarks.eager import EagerEnsemble
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.errors import ConfigError, DataError, ReleaseError
from dermfuse.release.cards import read_card, write_card

from ..small_release import skin, write_small_release

FEW: dict[str, Any] = {"images": 2, "rounds": 1, "folder_images": 3, "starts": 1}


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


def test_it_has_every_number(release: Path, data: Path) -> None:
    record = bench_analysis(release, data=data, looks=4, **FEW)
    assert [each["threads"] for each in record["threads"]] == [1, 2]
    for each in record["threads"]:
        for name in ("score", "networks", "networks_plain", "analysis", "analysis_plain"):
            assert 0 < each[f"{name}_ms"] <= each[f"{name}_ms_percentile_90"]
        for name in ("analysis", "networks"):
            ratios = [each[f"{name}_ratio{end}"] for end in ("_lowest", "", "_highest")]
            assert 0 < ratios[0] <= ratios[1] <= ratios[2]
    start = record["cold_start"]
    assert 0 < start["import_seconds"] < start["first_analysis_seconds"]
    assert 0 < start["peak_mb"] <= start["later_peak_mb"]
    assert record["folder"]["images"] == 3
    assert record["folder"]["two_threads_ratio"] > 0
    assert (record["images"], record["looks"], record["precision"]) == (2, 4, "float32")
    assert record["networks"] == ["reds-a (32 px)", "reds-b (32 px)", "greens (32 px)"]
    assert record["machine"]["torch"]


def test_without_pytorch_the_rest_is_measured(release: Path, data: Path) -> None:
    record = bench_analysis(release, data=data, plain=False, **FEW)
    assert record["precision_plain"] is None
    assert "torch" not in record["machine"]
    assert not [name for name in record["threads"][0] if "plain" in name or "ratio" in name]


def test_tasks_take_turns_round_by_round_after_a_warm_up() -> None:
    done: list[str] = []
    tasks: dict[str, turns.Task] = {
        name: lambda file, name=name: done.append(f"{name}{file.decode()}")  # type: ignore[misc]
        for name in "ab"
    }
    blocks = turns.take_turns(tasks, [b"1", b"2"], rounds=2)
    assert done == ["a1", "b1", *["a1", "a2", "b1", "b2"] * 2]
    assert [len(block) for block in blocks["a"]] == [2, 2]


def test_a_slow_spell_that_hits_both_sides_leaves_the_ratio_alone() -> None:
    ours, plain = [[0.1, 0.1], [0.4, 0.4]], [[0.3, 0.3], [1.6, 1.6]]
    found = turns.compare(turns.rates(ours), turns.rates(plain), "analysis")
    assert found == {
        "analysis_ratio": 3.5,
        "analysis_ratio_lowest": 3.0,
        "analysis_ratio_highest": 4.0,
    }


def test_pytorch_does_the_same_work(release: Path, data: Path) -> None:
    file = (data / "0.jpg").read_bytes()
    found = EagerEnsemble(release).find(file)
    ours = Analyzer(release, score_all=True).analyze(file)
    assert np.array_equal(found.image, ours.image)
    assert found.mask.shape == ours.mask.shape
    assert found.activation.ndim == ours.activation.ndim
    assert 0 <= found.activation.min() <= found.activation.max() <= 1
    assert 0 < found.malignant < 1


def test_pytorch_s_looks_are_moved_back_onto_the_image(release: Path) -> None:
    """The mean over symmetries of what sees the image alone is the image."""
    import torch

    ensemble = EagerEnsemble(release, looks=8)
    spread = ensemble._spread(Image.fromarray(skin(30)), 32)
    assert spread.shape == (8, 3, 32, 32)
    torch.testing.assert_close(ensemble._gather(spread[:, :1]), spread[:1, :1])


def test_a_network_that_pytorch_cannot_build_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no backbone 'none'"):
        EagerEnsemble(write_small_release(tmp_path / "release"))


def test_drawn_files_are_jpeg_and_fill_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(turns, "SIZE_PX", (80, 64))
    first, second = turns.draw_files(2)
    assert first[:2] == second[:2] == b"\xff\xd8"
    assert first != second
    assert turns.describe_drawn(2) == "2 synthetic images of 80 x 64 px, JPEG quality 90"
    paths = turns.write_files(tmp_path / "new", [b"a", b"b"], 3)
    assert [path.read_bytes() for path in paths] == [b"a", b"b", b"a"]


def test_what_cannot_be_measured_is_refused(release: Path, tmp_path: Path) -> None:
    for name in FEW:
        with pytest.raises(ConfigError, match=f"{name} is 0"):
            bench_analysis(release, **{name: 0})
    with pytest.raises(ConfigError, match="looks is 2"):
        bench_analysis(release, looks=2)
    with pytest.raises(DataError, match="holds no image"):
        bench_analysis(release, data=tmp_path, **FEW)
    with pytest.raises(ReleaseError):
        bench_analysis(tmp_path / "none", data=tmp_path, **FEW)
