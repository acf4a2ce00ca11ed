from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.data.isic2016 import Lesion
from dermfuse.data.labels import Label
from dermfuse.errors import ExportError
from dermfuse.imaging.preprocess import write_mask
from dermfuse.publishing import measured as masks
from dermfuse.publishing.measured import FoldNetwork, make_mask_release

from .test_classes import make_card


class _Maps:
    """A network that answers given maps, a look each."""

    def __init__(self, *looks: np.ndarray, card: str = "x") -> None:
        self.looks = np.stack(looks).astype(np.float32)
        self.card = card


@pytest.fixture(autouse=True)
def answer_maps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        masks, "look_at", lambda network, image, looks: {"lesion": network.looks[:looks]}
    )


@pytest.fixture
def lesions(tmp_path: Path) -> tuple[Lesion, ...]:
    mask = np.zeros((32, 32), bool)
    mask[:, :16] = True
    write_mask(tmp_path / "mask.png", mask)
    Image.new("RGB", (32, 32)).save(tmp_path / "image.png")
    return tuple(
        Lesion(f"I{number}", tmp_path / "image.png", tmp_path / "mask.png", Label.BENIGN)
        for number in range(2)
    )


def _fold(lesions: tuple[Lesion, ...], network: _Maps, exact: _Maps | None = None) -> FoldNetwork:
    return FoldNetwork(lesions, (), network, exact or network)  # type: ignore[arg-type]


def test_maps_of_several_sizes_are_averaged_at_the_size_of_the_mask(
    lesions: tuple[Lesion, ...],
) -> None:
    left = np.zeros((32, 32))
    left[:, :16] = 1.0
    everywhere = np.full((16, 16), 0.9)
    found = make_mask_release(
        [
            (make_card("left"), [_fold(lesions, _Maps(left), _Maps(1 - left, card="y"))]),
            (make_card("all"), [_fold(lesions[:1], _Maps(everywhere)),
                                _fold(lesions[1:], _Maps(everywhere))]),
        ],
        subsets={"first": frozenset({"I0"})},
    )  # fmt: skip
    measured = found.measured
    assert [member.weight for member in found.members] == [0.5, 0.5]
    assert measured["networks"]["left"]["jaccard"]["value"] == 1.0
    assert measured["networks"]["all"]["jaccard"]["value"] == 0.5
    assert measured["fusion"]["jaccard"]["value"] == 1.0, "0.95 on the left, 0.45 on the right"
    assert measured["fusion_in_float32"]["jaccard"]["value"] == 0.0, "0.45 and 0.95"
    assert (measured["images"], measured["subsets"]["first"]["images"]) == (2, 1)
    assert "one_look" not in measured


def test_the_gain_of_looks_is_paired(lesions: tuple[Lesion, ...]) -> None:
    left = np.zeros((32, 32))
    left[:, :16] = 1.0
    network = _Maps(np.ones((32, 32)), left, left, left)
    measured = make_mask_release([(make_card("a"), [_fold(lesions, network)])], looks=4).measured
    assert measured["fusion"]["jaccard"]["value"] == 1.0, "1 on the left, 0.25 on the right"
    assert measured["one_look"]["fusion"]["jaccard"]["value"] == 0.5
    assert measured["one_look"]["gain"]["jaccard"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_networks_that_held_back_other_images_are_refused(lesions: tuple[Lesion, ...]) -> None:
    network = _Maps(np.ones((32, 32)))
    folds = [(make_card("a"), [_fold(lesions[:1], network)]),
             (make_card("b"), [_fold(lesions[1:], network)])]  # fmt: skip
    with pytest.raises(ExportError, match="no image with a mask was held back by a fold of every"):
        make_mask_release(folds)
