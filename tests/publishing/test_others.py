import numpy as np
import pytest

from dermfuse.errors import DependencyError
from dermfuse.publishing import gate as others
from dermfuse.publishing.gate import draw_clinical_view, draw_noise, draw_page, other_images


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
    monkeypatch.setattr(others, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match="scikit-image"):
        other_images()
