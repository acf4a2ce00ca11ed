from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.gate import read_dermoscopy
from dermfuse.analysis.networks import load_network
from dermfuse.data.isic2016 import Lesion
from dermfuse.scores import Label
from dermfuse.shipping import gate as gate_module
from dermfuse.shipping.gate import FLAGGED_DERMOSCOPY, fit_gate
from dermfuse.shipping.out_of_fold import FoldAnswers

from ..small_release import skin, write_small_release


@pytest.fixture
def lesions(tmp_path: Path) -> list[Lesion]:
    rng = np.random.default_rng(0)
    found = []
    for number in range(40):
        path = tmp_path / f"I{number:02}.png"
        Image.fromarray(skin(int(rng.integers(0, 40)), rng=rng)).save(path)
        found.append(Lesion(path.stem, path, None, Label(number % 2)))
    return found


def test_held_back_dermoscopy_sets_the_threshold_and_other_images_are_told_apart(
    lesions: list[Lesion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (40, 60, 3)).astype(np.uint8) for _ in range(10)]
    monkeypatch.setattr(gate_module, "other_images", lambda seed: {"noise": noise})
    release = write_small_release(tmp_path / "release", members=1)
    network = load_network(release / "reds-a.json", threads=1)
    embeddings = np.stack(
        [np.asarray(Image.open(lesion.image_path)).mean(axis=(0, 1)) for lesion in lesions]
    ).astype(np.float32)
    halves = (slice(0, 20), slice(20, 40))
    folds = [
        FoldAnswers(
            tuple(lesions[back]), {"embedding": embeddings[back]}, {}, tuple(lesions[fit]),
            embeddings[fit],
        )
        for back, fit in (halves, halves[::-1])
    ]  # fmt: skip
    gate = fit_gate([folds], [network], lesions, release)
    held_back = gate.measured["dermoscopy held back"]
    assert held_back["images"] == 40
    assert held_back["flagged"] == pytest.approx(FLAGGED_DERMOSCOPY, abs=0.03)
    assert gate.measured["noise"] == {"images": 10, "flagged": 1.0}
    assert read_dermoscopy(release, gate).embedding.mean.shape == (3,)
