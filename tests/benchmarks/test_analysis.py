from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks import turns
from benchmarks.analysis import bench_analysis
from benchmarks.eager import EagerEnsemble
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.errors import ConfigError, DataError
from dermfuse.release.cards import read_card, write_card

from ..small_release import skin, write_small_release

FEW = {"images": 2, "rounds": 1, "folder_images": 3, "starts": 1}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small release, said to be of networks that PyTorch can build."""
    folder = write_small_release(tmp_path_factory.mktemp("release"), with_gate=True)
    for name in ("reds-a", "reds-b", "greens"):
        write_card(folder, replace(read_card(folder / f"{name}.json"), backbone="mobilenet_v1"))
    return folder


def test_every_number_is_there(release: Path) -> None:
    record = bench_analysis(release, looks=4, **FEW)
    names = ("score", "networks", "analysis", "networks_plain", "analysis_plain")
    assert [each["threads"] for each in record["threads"]] == [1, 2]
    for each in record["threads"]:
        assert all(0 < each[f"{name}_ms"] <= each[f"{name}_ms_percentile_90"] for name in names)
        assert 0 < each["analysis_ratio_lowest"] <= each["analysis_ratio_highest"]
    start = record["cold_start"]
    assert 0 < start["import_seconds"] < start["first_analysis_seconds"]
    assert 0 < start["peak_mb"] <= start["later_peak_mb"]
    assert (record["images"], record["looks"], record["precision"]) == (2, 4, "float32")
    assert record["data"] == "2 synthetic images of 1022 x 767 px, JPEG quality 90"


def test_sides_take_turns_so_that_a_slow_spell_leaves_the_ratio_alone() -> None:
    done: list[str] = []
    tasks = {name: lambda file, name=name: done.append(f"{name}{file.decode()}") for name in "ab"}
    blocks = turns.take_turns(tasks, [b"1", b"2"], rounds=2)
    assert done == ["a1", "b1", *["a1", "a2", "b1", "b2"] * 2], "after a warm-up"
    assert [len(block) for block in blocks["a"]] == [2, 2]
    assert turns.rates([[0.1, 0.1], [0.4, 0.4]]) == [10.0, 2.5]


def test_pytorch_does_the_same_work(release: Path) -> None:
    (file,), ensemble = turns.draw_files(1), EagerEnsemble(release, looks=8)
    found, ours = ensemble.find(file), Analyzer(release, score_all=True).analyze(file)
    assert np.array_equal(found.image, ours.image)
    assert found.mask.shape == ours.mask.shape
    assert 0 <= found.activation.min() <= found.activation.max() <= 1
    assert 0 < found.malignant < 1
    spread = ensemble._spread(Image.fromarray(skin(30)), 32)
    torch.testing.assert_close(ensemble._gather(spread[:, :1]), spread[:1, :1])


def test_what_cannot_be_measured_is_refused(release: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="rounds is 0"):
        bench_analysis(release, rounds=0)
    with pytest.raises(DataError, match="holds no image"):
        bench_analysis(release, data=tmp_path, **FEW)
    with pytest.raises(ConfigError, match="there is no backbone 'none'"):
        EagerEnsemble(write_small_release(tmp_path / "release"))
