from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.errors import DependencyError, ExportError
from dermfuse.publishing import gate as gate_module
from dermfuse.publishing.gate import (
    draw_clinical_view,
    draw_noise,
    draw_page,
    fit_gate,
    other_images,
)
from dermfuse.publishing.measured import FoldAnswers
from dermfuse.release.gate import read_dermoscopy
from dermfuse.release.networks import load_network

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


def _fold(lesions: list[Lesion], back: slice, fit: slice) -> FoldAnswers:
    embeddings = np.stack(
        [np.asarray(Image.open(lesion.image_path)).mean(axis=(0, 1)) for lesion in lesions]
    ).astype(np.float32)
    scores = np.full((len(lesions[back]), 3), 0.5)
    maps = np.zeros((len(scores), 1, 1), np.float32)
    return FoldAnswers(
        tuple(lesions[back]), scores, embeddings[back], maps, tuple(lesions[fit]), embeddings[fit]
    )


HALVES = (slice(0, 20), slice(20, 40))


def test_held_back_dermoscopy_sets_the_threshold_and_other_images_are_told_apart(
    lesions: list[Lesion], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    noise = [rng.integers(0, 256, (40, 60, 3)).astype(np.uint8) for _ in range(10)]
    monkeypatch.setattr(gate_module, "other_images", lambda seed: {"noise": noise})
    release = write_small_release(tmp_path / "release", members=1)
    network = load_network(release / "reds-a.json", threads=1)
    folds = [_fold(lesions, back, fit) for back, fit in (HALVES, HALVES[::-1])]
    fitted = fit_gate([folds], [network], lesions, release, looks=4)
    held_back = fitted.gate.measured["dermoscopy held back"]
    assert held_back["images"] == 40
    assert held_back["flagged"] == np.mean(list(fitted.withheld.values()))
    assert held_back["flagged"] < 0.2
    assert fitted.withheld.keys() == {lesion.image_id for lesion in lesions}
    assert fitted.gate.measured["noise"] == {"images": 10, "flagged": 1.0}
    assert read_dermoscopy(release, fitted.gate).embedding.mean.shape == (3,)


def test_networks_with_other_folds_are_refused(lesions: list[Lesion], tmp_path: Path) -> None:
    one, other = ([_fold(lesions, back, fit)] for back, fit in (HALVES, HALVES[::-1]))
    with pytest.raises(ExportError, match="the class networks held back different images"):
        fit_gate([one, other], [], lesions, tmp_path)


def _held_back(benign: list[float], malignant: list[float]) -> gate_module._HeldBack:
    labels = np.array([False] * len(benign) + [True] * len(malignant))
    return gate_module._HeldBack(np.array(benign + malignant), labels, np.ones(2))


def test_the_share_is_that_at_which_both_classes_lie_equally_far() -> None:
    near, far = [1.0] * 50, [2.0] * 50
    measured = {
        0.3: [_held_back(near, far)],
        0.5: [_held_back(near, [1.1] * 50)],
        0.7: [_held_back(far, near)],
    }
    assert gate_module._fairest(measured) == 0.5
    assert np.mean(gate_module._limits(measured[0.5])) == pytest.approx(1.05)


def test_what_is_withheld_is_decided_by_the_other_folds() -> None:
    # Of its own fold the first image would be within the threshold, of the other it is beyond.
    folds = [_held_back([5.0] * 25, [5.0] * 25), _held_back([1.0] * 25, [1.0] * 25)]
    ids = [[Lesion(f"{f}-{n}", Path("none"), None, None) for n in range(50)] for f in range(2)]
    withheld = gate_module._withhold({0.5: folds}, ids)
    assert all(withheld[lesion.image_id] for lesion in ids[0])
    assert not any(withheld[lesion.image_id] for lesion in ids[1])


def test_a_class_counts_by_its_share_however_many_images_it_has() -> None:
    lesions = [Lesion(str(n), Path("none"), None, Label(int(n == 0))) for n in range(5)]
    weights = gate_module._weigh(lesions, 0.8)
    assert weights.tolist() == pytest.approx([0.8, 0.05, 0.05, 0.05, 0.05])
    assert gate_module._weigh(lesions[1:], 0.8).tolist() == [1.0] * 4


def test_every_kind_has_images_that_can_be_analysed() -> None:
    found = other_images()
    assert list(found) == ["photographs", "documents", "noise", "clinical views"]
    for images in found.values():
        assert len(images) >= 40
        assert all(image.dtype == np.uint8 for image in images)
        assert all(image.ndim == 3 and min(image.shape[:2]) >= 16 for image in images)


def test_a_seed_draws_the_same() -> None:
    a, b = (other_images(seed=3)["photographs"] for _ in range(2))
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not np.array_equal(*(draw_page(np.random.default_rng(seed)) for seed in (1, 2)))


def test_noise_is_fine_coarse_or_flat() -> None:
    rng = np.random.default_rng(0)
    steps = [np.abs(np.diff(draw_noise(rng).astype(int), axis=1)).mean() for _ in range(30)]
    assert min(steps) == 0.0
    assert max(steps) > 30.0


def test_a_clinical_view_shows_skin_before_a_background() -> None:
    view = draw_clinical_view(np.random.default_rng(5)).astype(int)
    middle, corners = view[130:170, 150:250], np.concatenate([view[:5, :5], view[-5:, -5:]])
    assert np.abs(middle.mean(axis=(0, 1)) - corners.mean(axis=(0, 1))).max() > 20


def test_photographs_need_scikit_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate_module, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match="scikit-image"):
        other_images()
