import io

import numpy as np
import pytest
from PIL import Image

from dermfuse.errors import DataError
from dermfuse.figures.inside import Space, draw_embeddings, project, silhouette
from dermfuse.figures.style import DPI, WIDTH_IN, Basis

MALIGNANT = np.arange(20) < 8
BASIS = Basis("validation", 20, ("a",), malignant=8)


def blobs(distance: float) -> np.ndarray:
    noise = np.random.default_rng(0).normal(0, 1, (20, 6))
    return noise + distance * MALIGNANT[:, None]


def test_two_blobs_far_apart_have_a_silhouette_near_one() -> None:
    assert silhouette(blobs(100.0), MALIGNANT) > 0.98


def test_classes_through_each_other_have_a_silhouette_near_zero() -> None:
    assert abs(silhouette(blobs(0.0), MALIGNANT)) < 0.1


def test_a_silhouette_is_as_by_hand() -> None:
    points = np.array([[0.0], [2.0], [4.0], [6.0]])  # a = 2 each; b = 5, 3, 3, 5
    expected = np.mean([3 / 5, 1 / 3, 1 / 3, 3 / 5])
    labels = np.array([False, False, True, True])
    assert silhouette(points, labels) == pytest.approx(expected)


def test_a_class_of_one_image_has_no_silhouette() -> None:
    with pytest.raises(DataError, match="fewer than two images"):
        silhouette(blobs(1.0), np.arange(20) < 1)


def test_equal_seeds_give_equal_planes_that_keep_blobs_apart() -> None:
    plane, again = (project(blobs(100.0), seed=4) for _ in range(2))
    assert plane.shape == (20, 2)
    assert np.array_equal(plane, again)
    assert silhouette(plane, MALIGNANT) > 0.5


def test_three_images_make_no_plane() -> None:
    with pytest.raises(DataError, match="3 images for t-SNE"):
        project(np.zeros((3, 2)), seed=0)


def test_embeddings_are_a_picture_that_says_where_the_number_is_from() -> None:
    spaces = [Space("raw pixels", blobs(0.0)), Space("a", blobs(5.0))]
    picture = draw_embeddings(spaces, MALIGNANT, basis=BASIS, seed=2)
    assert Image.open(io.BytesIO(picture.png)).width == WIDTH_IN * DPI
    assert "seed 2" in picture.caption
    assert "silhouette is taken in the space itself" in picture.caption


def test_nothing_and_unequal_numbers_of_images_are_refused() -> None:
    with pytest.raises(DataError, match="no embeddings to draw"):
        draw_embeddings([], MALIGNANT, basis=BASIS)
    with pytest.raises(DataError, match="labels and features of lengths 20, 19"):
        draw_embeddings([Space("a", blobs(1.0)[:19])], MALIGNANT, basis=BASIS)
