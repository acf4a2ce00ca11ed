import numpy as np
from PIL import Image

from dermfuse.imaging.geometry import Reduced, reduce_image, reduce_mask


def test_a_small_image_is_left_as_it_is() -> None:
    image = np.arange(60 * 80 * 3, dtype=np.uint8).reshape(60, 80, 3)
    reduced = reduce_image(image)
    assert reduced.image is image
    assert (reduced.height_px, reduced.width_px) == (60, 80)


def test_a_large_image_shrinks_to_its_long_side_and_keeps_its_mean() -> None:
    image = np.zeros((600, 800, 3), np.uint8)
    image[:, :400] = 200
    reduced = reduce_image(image)
    assert reduced.image.shape == (192, 256, 3)
    assert (reduced.height_px, reduced.width_px) == (600, 800)
    assert abs(float(reduced.image.mean()) - 100) < 0.5


def test_what_is_reduced_is_not_reduced_again() -> None:
    reduced = Reduced(np.zeros((300, 400, 3), np.uint8), 3000, 4000)
    assert reduce_image(reduced) is reduced


def test_a_cell_of_a_mask_is_lesion_from_one_half_on() -> None:
    mask = np.zeros((4, 512), bool)
    mask[:, :2] = True  # the first cell wholly
    mask[:2, 2:4] = True  # the second by one half
    mask[:1, 4:6] = True  # the third by less
    reduced = reduce_mask(mask)
    assert reduced.shape == (2, 256)
    assert reduced[:, :3].tolist() == [[True, True, True], [True, False, False]]


def test_the_bilevel_arrays_of_pillow_are_masks_too() -> None:
    drawn = np.full((300, 400), 255, np.uint8).view(bool)  # as np.asarray of a mode 1 image
    assert reduce_mask(drawn).all()


def test_a_sliver_keeps_a_row() -> None:
    assert reduce_mask(np.ones((1, 4000), bool)).shape == (1, 256)


def test_a_pillow_image_is_reduced_to_the_same_pixels_as_its_array() -> None:
    for size in ((300, 400), (60, 80)):
        pixels = np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)
        ours, plain = reduce_image(Image.fromarray(pixels)), reduce_image(pixels)
        assert np.array_equal(ours.image, plain.image)
        assert (ours.height_px, ours.width_px) == size
