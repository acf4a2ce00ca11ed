from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dermfuse.errors import DataError, DependencyError
from dermfuse.figures import inside
from dermfuse.figures.inside import draw_activation_maps, draw_embeddings, look, project, silhouette
from dermfuse.figures.sources import Sources, read_sources

from .conftest import Make

MALIGNANT = np.arange(20) < 8


@pytest.fixture(scope="module")
def sources(make_run: Make, drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Sources:
    """One class network with random weights."""
    run = make_run(tmp_path_factory.mktemp("runs") / "c", "dc-mobilenetv1")
    return read_sources([run], [], data=drawn)


def test_a_network_is_looked_into_and_drawn(sources: Sources) -> None:
    looked = look(sources, seed=0)
    assert looked.basis.sentence() == (
        "validation: n = 12 images (3 malignant); dc-mobilenetv1, seed 0."
    )
    assert looked.insights[0].embeddings.shape == (12, 1024)
    assert draw_activation_maps(looked).name == "fig-09-activation-maps"
    picture = draw_embeddings(looked, seed=2)
    assert picture.name == "fig-10-tsne"
    assert "seed 2" in picture.caption
    few = replace(looked, lesions=looked.lesions[:1])
    with pytest.raises(DataError, match="fewer than two images"):
        draw_embeddings(few, seed=0)


def test_too_many_images_are_drawn_by_lot(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "MOST_IMAGES", 5)
    one, same = (look(sources, seed=1).lesions for _ in range(2))
    assert one == same
    assert len({lesion.image_id for lesion in one}) == 5


def test_without_torch_it_says_how_to_install_it(
    sources: Sources, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inside, "find_spec", lambda _: None)
    with pytest.raises(DependencyError, match=r"pip install -e '\.\[train\]'"):
        look(sources, seed=0)


def test_planes_of_one_seed_are_equal_and_keep_classes_apart_that_are() -> None:
    apart = np.random.default_rng(0).normal(100.0 * MALIGNANT[:, None], 1, (20, 6))
    plane, again = (project(apart, seed=4) for _ in range(2))
    assert np.array_equal(plane, again)
    assert silhouette(apart, MALIGNANT) > 0.98
    assert silhouette(plane, MALIGNANT) > 0.5
