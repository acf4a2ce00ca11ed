import numpy as np
import pytest

from dermfuse.data.labels import Label
from dermfuse.data.synthetic import SyntheticLesion, draw_lesion
from dermfuse.publishing.stress import ORIENTATION, disturbances, remove_lesion

NAMES = list(disturbances())


@pytest.fixture(scope="module")
def drawn() -> SyntheticLesion:
    rng = np.random.default_rng(4)
    return draw_lesion(
        rng, label=Label.MALIGNANT, size_px=(96, 72), interferences=frozenset(), difficulty=0.0
    )


@pytest.mark.parametrize("name", NAMES)
def test_every_disturbance_changes_the_image_and_only_a_copy(
    name: str, drawn: SyntheticLesion
) -> None:
    one, before = disturbances()[name], drawn.image.copy()
    disturbed = one.apply(drawn.image, drawn.mask, np.random.default_rng(1))
    assert disturbed.dtype == np.uint8
    assert sorted(disturbed.shape) == sorted(before.shape)
    assert not np.array_equal(disturbed, before)
    assert np.array_equal(drawn.image, before), "the image itself stays"
    again = one.apply(drawn.image, drawn.mask, np.random.default_rng(1))
    assert np.array_equal(disturbed, again), "a seed draws the same"


@pytest.mark.parametrize("name", [name for name in NAMES if "rotation" in name or "mirr" in name])
def test_a_moved_mask_is_laid_back_where_it_was(name: str, drawn: SyntheticLesion) -> None:
    one = disturbances()[name]
    as_image = np.repeat(drawn.mask[:, :, None], 3, axis=2).astype(np.uint8)
    moved = one.apply(as_image, drawn.mask, np.random.default_rng(0))[:, :, 0] > 0
    assert np.array_equal(one.restore(moved), drawn.mask)


def test_the_seven_other_orientations_are_among_them(drawn: SyntheticLesion) -> None:
    family = [one for one in disturbances().values() if one.kind == ORIENTATION]
    seen = {
        one.apply(drawn.image, drawn.mask, np.random.default_rng(0)).tobytes() for one in family
    }
    assert len(seen | {drawn.image.tobytes()}) == 8
    assert [one.name for one in family][::3] == [
        "rotation by 90 degrees",
        "mirroring",
        "mirroring and rotation by 270 degrees",
    ]


@pytest.mark.parametrize("kind", ["blur", "JPEG"])
def test_strengths_of_a_kind_are_ordered(kind: str, drawn: SyntheticLesion) -> None:
    rng = np.random.default_rng(0)
    errors = [
        np.abs(one.apply(drawn.image, drawn.mask, rng).astype(float) - drawn.image).mean()
        for one in disturbances().values()
        if one.kind == kind
    ]
    assert len(errors) == 3
    assert errors == sorted(errors)


def test_where_the_lesion_was_there_is_skin(drawn: SyntheticLesion) -> None:
    removed = remove_lesion(drawn.image, drawn.mask, np.random.default_rng(0)).astype(float)
    skin = drawn.image[~drawn.mask].astype(float).mean(axis=0)
    before = np.abs(drawn.image[drawn.mask].astype(float).mean(axis=0) - skin).mean()
    after = np.abs(removed[drawn.mask].mean(axis=0) - skin).mean()
    assert after < 0.25 * before
    far = ~drawn.mask
    far[np.argwhere(drawn.mask)[:, 0].min() - 12 : np.argwhere(drawn.mask)[:, 0].max() + 12] = False
    assert np.array_equal(removed[far], drawn.image[far].astype(float)), "the rest stays"


def test_without_a_lesion_or_without_skin_nothing_is_filled(drawn: SyntheticLesion) -> None:
    rng = np.random.default_rng(0)
    for mask in (np.zeros_like(drawn.mask), np.ones_like(drawn.mask)):
        assert np.array_equal(remove_lesion(drawn.image, mask, rng), drawn.image)
