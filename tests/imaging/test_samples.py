"""Samples of decoded images, and of TIFF at its own depth, upright as Pillow turns them."""

import io

import numpy as np
import pytest
from PIL import Image

from dermfuse.imaging.formats import image_samples, turn
from dermfuse.imaging.tiff import page_samples, read_page

TRANSPOSE = Image.Transpose
HOW = {
    2: TRANSPOSE.FLIP_LEFT_RIGHT, 3: TRANSPOSE.ROTATE_180, 4: TRANSPOSE.FLIP_TOP_BOTTOM,
    5: TRANSPOSE.TRANSPOSE, 6: TRANSPOSE.ROTATE_270, 7: TRANSPOSE.TRANSVERSE,
    8: TRANSPOSE.ROTATE_90,
}  # fmt: skip


@pytest.mark.parametrize("orientation", [1, *HOW])
def test_samples_are_turned_as_images_are(orientation: int) -> None:
    stored = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(stored)
    upright = image.transpose(HOW[orientation]) if orientation in HOW else image
    turned = turn(stored.astype(np.uint16), orientation)
    assert turned.tolist() == np.asarray(upright).tolist()


def test_each_mode_says_what_it_holds() -> None:
    assert image_samples(Image.new("L", (2, 1), 7)).values.tolist() == [[[7], [7]]]
    assert image_samples(Image.new("I;16", (1, 1), 300)).values.tolist() == [[[300]]]
    rgba = image_samples(Image.new("RGBA", (1, 1), (1, 2, 3, 4)))
    assert rgba.values.tolist() == [[[1, 2, 3]]]
    assert rgba.alpha is not None
    assert rgba.alpha.tolist() == [[4]]
    palette = Image.new("P", (1, 1), 1)
    palette.putpalette([0, 0, 0, 9, 8, 7])
    samples = image_samples(palette)
    assert samples.values.tolist() == [[[9, 8, 7]]]
    assert samples.indices is not None
    assert samples.indices.tolist() == [[1]]


def _page(image: Image.Image, **options: object) -> list[int]:
    buffer = io.BytesIO()
    image.save(buffer, "TIFF", **options)
    data = buffer.getvalue()
    return page_samples(data, read_page(data), "it").values[0, :, 0].tolist()


def test_tiff_keeps_its_own_depth() -> None:
    deep = Image.fromarray(np.array([[0, 1, 4095, 65535]], np.uint16))
    assert _page(deep) == [0, 1, 4095, 65535]
    one_bit = Image.fromarray(np.array([[True, False, True]]))
    assert _page(one_bit) == [1, 0, 1]
    assert _page(one_bit, tiffinfo={262: 0}) == [1, 0, 1]  # stored as 0 1 0: white is zero
