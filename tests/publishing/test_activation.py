"""Where maps point, by hand."""

from pathlib import Path

import numpy as np
import pytest

from dermfuse.data.isic2016 import Lesion
from dermfuse.data.labels import Label
from dermfuse.imaging.preprocess import write_mask
from dermfuse.publishing.measured import FoldAnswers, find_peak, measure_activation
from dermfuse.release.folder import Member

from .test_classes import make_card

LEFT = np.repeat([[True] * 10 + [False] * 10], 20, axis=0)


@pytest.mark.parametrize(
    ("activation", "place"),
    [
        ([[0.1, -5.0], [-5.0, -5.0]], "inside"),
        ([[9.0, 9.5], [9.0, 9.0]], "outside"),
        ([[-0.1, -0.2], [-3.0, 0.0]], "nowhere"),
    ],
)
def test_the_place_that_adds_most_lies_in_the_lesion_or_not(
    activation: list[list[float]], place: str
) -> None:
    assert find_peak(np.array(activation, np.float32), LEFT) == place


def _lesion(folder: Path, name: str, label: Label | None, *, mask: bool = True) -> Lesion:
    path = folder / f"{name}.png"
    write_mask(path, LEFT)
    return Lesion(name, path, path if mask else None, label)


def _fold(lesions: list[Lesion], maps: list[list[list[float]]]) -> FoldAnswers:
    scores = np.zeros(len(lesions))
    embedding = np.zeros((len(lesions), 1), np.float32)
    activations = np.array(maps, np.float32)
    return FoldAnswers(
        tuple(lesions), scores, scores, scores, embedding, activations, (), embedding[:0]
    )


def test_maps_are_joined_by_their_weights_and_counted_by_class(tmp_path: Path) -> None:
    lesions = [
        _lesion(tmp_path, "a", Label.MALIGNANT),
        _lesion(tmp_path, "b", Label.BENIGN),
        _lesion(tmp_path, "no-mask", Label.BENIGN, mask=False),
        _lesion(tmp_path, "no-label", None),
    ]
    into, out, no = ([row, row] for row in ([4.0, 0.0], [0.0, 4.0], [-9.0, -9.0]))
    first = _fold(lesions, [into, no, into, into])
    second = _fold(lesions, [out, out, into, into])
    asked = [(make_card("one"), [first]), (make_card("two"), [second])]
    found = measure_activation(asked, (Member("one", 0.75), Member("two", 0.25)))
    assert found == {
        "malignant": {"images": 1, "inside": 1, "outside": 0, "nowhere": 0},
        "benign": {"images": 1, "inside": 0, "outside": 0, "nowhere": 1},
    }
    other = measure_activation(asked, (Member("one", 0.25), Member("two", 0.75)))
    assert other["malignant"]["outside"] == 1
    assert other["benign"]["outside"] == 1  # -9 / 4 + 3 is above 0


def test_without_masks_nothing_is_counted(tmp_path: Path) -> None:
    fold = _fold([_lesion(tmp_path, "a", Label.BENIGN, mask=False)], [[[1.0]]])
    assert measure_activation([(make_card("one"), [fold])], (Member("one", 1.0),)) == {}
