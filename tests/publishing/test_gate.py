from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.errors import DependencyError
from dermfuse.publishing import gate as module
from dermfuse.publishing.measured import FoldAnswers
from dermfuse.release.gate import join_embeddings, read_dermoscopy
from dermfuse.release.networks import load_network

from ..small_release import skin, write_small_release


def _fold(lesions: list[Lesion], back: slice, fit: slice) -> FoldAnswers:
    pixels = [np.asarray(Image.open(lesion.image_path)) for lesion in lesions]
    seen = np.stack([image.mean(axis=(0, 1)) for image in pixels]).astype(np.float32)
    held_back, scores = tuple(lesions[back]), np.full((20, 1, 3), 0.5)
    seen = join_embeddings([seen])
    return FoldAnswers(held_back, scores, (), seen[back], tuple(lesions[fit]), seen[fit])


def test_held_back_dermoscopy_sets_the_threshold_and_other_images_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng, lesions = np.random.default_rng(0), []
    for number in range(40):
        path = tmp_path / f"I{number:02}.png"
        Image.fromarray(skin(int(rng.integers(0, 40)), rng=rng)).save(path)
        lesions.append(Lesion(path.stem, path, None, Label(number % 2)))
    noise = [rng.integers(0, 256, (40, 60, 3)).astype(np.uint8) for _ in range(10)]
    monkeypatch.setattr(module, "other_images", lambda seed: {"noise": noise})
    release = write_small_release(tmp_path / "release", members=1)
    network = load_network(release / "reds-a.json", threads=1)
    halves = (slice(0, 20), slice(20, 40))
    folds = [_fold(lesions, back, fit) for back, fit in (halves, halves[::-1])]
    gate, withheld = module.fit_gate(folds, [network], lesions, release, looks=4)
    held_back = gate.measured["dermoscopy held back"]
    assert held_back == {"images": 40, "flagged": np.mean(list(withheld.values()))}
    assert held_back["flagged"] < 0.2
    assert withheld.keys() == {lesion.image_id for lesion in lesions}
    assert gate.measured["noise"] == {"images": 10, "flagged": 1.0}
    assert read_dermoscopy(release, gate).embedding.mean.shape == (3,)


def _held_back(benign: Sequence[float], malignant: Sequence[float]) -> module._HeldBack:
    labels = np.array([False] * len(benign) + [True] * len(malignant))
    return module._HeldBack(np.array([*benign, *malignant]), labels, np.ones(2))


def test_the_share_is_that_at_which_both_classes_lie_equally_far() -> None:
    near, far = [1.0] * 50, [2.0] * 50
    fair = [_held_back(near, [1.1] * 50)]
    found = {0.3: [_held_back(near, far)], 0.5: fair, 0.7: [_held_back(far, near)]}
    assert module._fairest(found) == 0.5
    assert np.mean(module._limits(fair)) == pytest.approx(1.05)
    lesions = [Lesion(str(n), Path("none"), None, Label(int(n == 0))) for n in range(5)]
    weights = module._weigh(lesions, 0.8)
    assert weights.tolist() == pytest.approx([0.8, 0.05, 0.05, 0.05, 0.05])
    assert module._weigh(lesions[1:], 0.8).tolist() == [1.0] * 4


def test_what_is_withheld_is_decided_by_the_other_folds() -> None:
    # Of its own fold the first image would be within the threshold, of the other it is beyond.
    folds = [_held_back([5.0] * 25, [5.0] * 25), _held_back([1.0] * 25, [1.0] * 25)]
    ids = [[Lesion(f"{f}-{n}", Path("none"), None, None) for n in range(50)] for f in range(2)]
    withheld = module._withhold({0.5: folds}, ids)
    assert [all(withheld[x.image_id] for x in fold) for fold in ids] == [True, False]
    assert sum(withheld.values()) == 50


def test_other_images_can_be_analysed_and_a_seed_draws_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found, again = module.other_images(seed=3), module.other_images(seed=3)
    assert list(found) == ["photographs", "documents", "noise", "clinical views"]
    for kind, images in found.items():
        assert len(images) >= 40
        assert all(image.dtype == np.uint8 for image in images)
        assert all(image.ndim == 3 and min(image.shape[:2]) >= 16 for image in images)
        assert all(np.array_equal(a, b) for a, b in zip(images, again[kind], strict=True))
    assert not np.array_equal(*found["clinical views"][:2])
    monkeypatch.setattr(module, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match="scikit-image"):
        module.other_images()
