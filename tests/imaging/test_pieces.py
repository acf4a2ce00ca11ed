import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from dermfuse.imaging.geometry import corner_pieces, largest_piece

masks = hnp.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def mask(*rows: str) -> np.ndarray:
    return np.array([[cell == "#" for cell in row] for row in rows])


def test_an_empty_mask_has_no_piece() -> None:
    assert largest_piece(mask("..", "..")) is None


def test_pixels_that_touch_at_a_corner_are_one_piece() -> None:
    piece = largest_piece(mask("#..", ".#.", "#.."))
    assert piece is not None
    assert (piece.count, piece.kept_share, piece.mask.sum()) == (1, 1.0, 3)


def test_the_larger_of_two_pieces_is_kept() -> None:
    piece = largest_piece(mask("#.##", "#.##"))
    assert piece is not None
    assert piece.mask.tolist() == mask("..##", "..##").tolist()
    assert (piece.count, piece.kept_share) == (2, 4 / 6)


def test_a_hole_is_filled_and_a_bay_is_not() -> None:
    piece = largest_piece(mask("#####", "#.#.#", "###.#"))
    assert piece is not None
    assert piece.mask.tolist() == mask("#####", "###.#", "###.#").tolist()


def test_a_comb_is_one_piece() -> None:
    comb = np.zeros((40, 81), bool)
    comb[:, ::2] = True
    comb[-1] = True
    piece = largest_piece(comb)
    assert piece is not None
    assert piece.count == 1


def test_only_pieces_with_a_corner_are_corner_pieces() -> None:
    found = corner_pieces(mask("##.#.", ".....", ".#..#"))
    assert found.tolist() == mask("##...", ".....", "....#").tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (4, 1)])
def test_corners_of_slivers_are_corners(shape: tuple[int, int]) -> None:
    assert corner_pieces(np.ones(shape, bool)).all()
    assert not corner_pieces(np.zeros(shape, bool)).any()


@settings(deadline=None, max_examples=60)
@given(masks)
def test_pieces_are_those_of_scipy(drawn: np.ndarray) -> None:
    labels, count = ndimage.label(drawn, np.ones((3, 3)))
    piece = largest_piece(drawn)
    if count == 0:
        assert piece is None
        return
    assert piece is not None
    areas = np.bincount(labels.ravel())[1:]
    first = labels == 1 + areas.argmax()
    assert piece.count == count
    assert piece.kept_share == pytest.approx(areas.max() / areas.sum())
    assert np.array_equal(piece.mask, ndimage.binary_fill_holes(first))
