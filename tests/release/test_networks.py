from pathlib import Path

import numpy as np
import pytest

from dermfuse.release import networks
from dermfuse.release.folder import read_release

from ..small_release import write_small_release


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
