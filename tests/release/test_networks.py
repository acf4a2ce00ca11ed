from pathlib import Path

import numpy as np
import pytest

from dermfuse.imaging.preprocess import resize_probability
from dermfuse.release import networks
from dermfuse.release.folder import MaskRelease, Member, read_release

from ..small_release import write_small_release

MEMBERS = (Member("a", 0.25), Member("b", 0.75))
MASKS = MaskRelease(MEMBERS, threshold=0.5)


def test_a_pixel_is_lesion_where_the_weighted_mean_reaches_the_threshold() -> None:
    for *maps, mask in (
        # 0.55, 0.45; 0.475, 0.525
        ([[1.0, 0.0], [1.0, 0.0]], [[0.4, 0.6], [0.3, 0.7]], [[True, False], [False, True]]),
        # 0.475; 0.55, of maps of two sizes
        ([[1.0]], [[0.3, 0.3], [0.4, 0.4]], [[False, False], [True, True]]),
    ):
        answers = [{"lesion": np.array(values, np.float32)} for values in maps]
        assert networks.join_masks(answers, MASKS, height=2, width=2).tolist() == mask


def test_activations_keep_their_sign_and_scale_in_the_weighted_mean_at_the_largest_size() -> None:
    a, b = np.array([[4.0, 0.0], [0.0, -8.0]]), np.array([[4.0, 0.0], [2.0, -4.0]])
    for one, joined in ((a, [[4.0, 0.0], [1.5, -5.0]]), (a[:1, :1], [[4.0, 1.0], [2.5, -2.0]])):
        answers = [{"activation_map": each.astype(np.float32)} for each in (one, b)]
        np.testing.assert_allclose(networks.join_activations(answers, MEMBERS), joined)


@pytest.mark.parametrize(("height", "width"), [(767, 1022), (64, 64), (20, 300)])
def test_strips_are_the_whole_map_but_for_rounding(height: int, width: int) -> None:
    maps = [np.random.default_rng(n).random((n, n)).astype(np.float32) for n in (48, 32)]
    whole = 0.25 * resize_probability(maps[0], height, width)
    whole += 0.75 * resize_probability(maps[1], height, width)
    answers = [{"lesion": one} for one in maps]
    mask = networks.join_masks(answers, MASKS, height=height, width=width)
    apart = mask != (whole >= 0.5)
    assert np.abs(whole[apart] - 0.5).max(initial=0.0) < 1e-5
    assert apart.mean() < 1e-4
    assert 0.2 < mask.mean() < 0.8


def test_a_batch_is_run_a_few_squares_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, sizes, run = write_small_release(tmp_path), list[int](), networks.Network._run
    network = networks.load_networks(folder, read_release(folder), threads=1)[0]
    squares = np.random.default_rng(0).integers(0, 256, (8, 32, 32, 3), dtype=np.uint8)
    whole = network.ask(squares)
    watch = lambda self, few: (sizes.append(len(few)), run(self, few))[1]  # noqa: E731
    monkeypatch.setattr(networks.Network, "_run", watch)
    monkeypatch.setattr(networks, "_PIXELS_AT_ONCE", 3 * 32**2 + 1)
    parts = network.ask(squares)
    assert sizes == [3, 3, 2]
    for name, answer in whole.items():
        np.testing.assert_allclose(parts[name], answer, rtol=1e-5, atol=1e-6)
