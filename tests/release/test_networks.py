"""Networks a few squares at a time, and two maps to one, by hand."""

from pathlib import Path

import numpy as np
import pytest

from dermfuse.imaging.preprocess import resize_probability
from dermfuse.release import networks
from dermfuse.release.folder import MaskRelease, Member, read_release
from dermfuse.release.networks import join_activations, join_masks

from ..small_release import write_small_release

MEMBERS = (Member("a", 0.25), Member("b", 0.75))


def _lesion(values: list[list[float]]) -> dict[str, np.ndarray]:
    return {"lesion": np.array(values, np.float32)}


def test_a_pixel_is_lesion_where_the_weighted_mean_reaches_the_threshold() -> None:
    masks = MaskRelease(MEMBERS, threshold=0.5)
    answers = [_lesion([[1.0, 0.0], [1.0, 0.0]]), _lesion([[0.4, 0.6], [0.3, 0.7]])]
    found = join_masks(answers, masks, height=2, width=2)  # 0.55, 0.45; 0.475, 0.525
    assert found.tolist() == [[True, False], [False, True]]


def test_maps_of_two_sizes_are_added_at_the_size_of_the_image() -> None:
    masks = MaskRelease(MEMBERS, threshold=0.5)
    answers = [_lesion([[1.0]]), _lesion([[0.3, 0.3], [0.4, 0.4]])]
    found = join_masks(answers, masks, height=2, width=2)  # 0.475; 0.55
    assert found.tolist() == [[False, False], [True, True]]


def test_activations_keep_their_sign_and_scale_in_the_weighted_mean() -> None:
    a, b = np.array([[4.0, 0.0], [0.0, -8.0]]), np.array([[4.0, 0.0], [2.0, -4.0]])
    answers = [{"activation_map": each.astype(np.float32)} for each in (a, b)]
    np.testing.assert_allclose(join_activations(answers, MEMBERS), [[4.0, 0.0], [1.5, -5.0]])


def test_a_smaller_activation_map_is_brought_to_the_size_of_the_largest() -> None:
    answers = [{"activation_map": np.full((1, 1), -2.0, np.float32)}]
    answers.append({"activation_map": np.zeros((2, 2), np.float32)})
    np.testing.assert_allclose(join_activations(answers, MEMBERS), np.full((2, 2), -0.5))


@pytest.mark.parametrize(("height", "width"), [(767, 1022), (65, 40), (64, 64), (20, 300)])
def test_strips_are_the_whole_map_but_for_rounding(height: int, width: int) -> None:
    rng = np.random.default_rng(height)
    maps = [rng.random((side, side)).astype(np.float32) for side in (48, 32)]
    whole = 0.25 * resize_probability(maps[0], height, width)
    whole += 0.75 * resize_probability(maps[1], height, width)
    answers = [{"lesion": one} for one in maps]
    mask = join_masks(answers, MaskRelease(MEMBERS, 0.5), height=height, width=width)
    apart = mask != (whole >= 0.5)
    assert np.abs(whole[apart] - 0.5).max(initial=0.0) < 1e-5
    assert apart.mean() < 1e-4
    assert 0.2 < mask.mean() < 0.8


def test_a_batch_is_run_a_few_squares_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write_small_release(tmp_path / "release")
    network = networks.load_networks(folder, read_release(folder), threads=1)[0]
    side = network.card.input.size
    squares = np.random.default_rng(0).integers(0, 256, (8, side, side, 3), dtype=np.uint8)
    whole = network.ask(squares)
    sizes: list[int] = []
    run = networks.Network._run
    monkeypatch.setattr(
        networks.Network, "_run", lambda self, few: (sizes.append(len(few)), run(self, few))[1]
    )
    monkeypatch.setattr(networks, "_PIXELS_AT_ONCE", 3 * side**2 + 1)
    parts = network.ask(squares)
    assert sizes == [3, 3, 2]
    assert parts.keys() == whole.keys()
    for name, answer in whole.items():
        np.testing.assert_allclose(parts[name], answer, rtol=1e-5, atol=1e-6)
