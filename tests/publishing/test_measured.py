"""How images are scored and outlined, measured by networks that held them back; peaks of maps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from dermfuse.config import Config, TrainConfig
from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.errors import ExportError
from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.metrics import auc, average_precision
from dermfuse.publishing import measured as measured_module
from dermfuse.publishing.measured import (
    FoldAnswers,
    FoldNetwork,
    export_folds,
    export_shipped,
    find_peak,
    make_class_release,
    make_mask_release,
    measure_activation,
    require_recipe,
)
from dermfuse.release.cards import NetworkCard, NetworkInput, Parity
from dermfuse.release.folder import ClassRelease, Member
from dermfuse.training.prediction import TrainedNetwork

COUNT = 60
LABELS = np.arange(COUNT) % 2
LEFT = np.repeat([[True] * 16 + [False] * 16], 32, axis=0)


def _card(name: str) -> NetworkCard:
    return NetworkCard(
        name=name,
        task="classification",
        file=f"{name}.onnx",
        sha256="0" * 64,
        bytes=1,
        precision="int8",
        input=NetworkInput(size=32),
        outputs={},
        preset=name,
        backbone="none",
        parameters=1,
        epoch=1,
        training={},
        weights_licence="none",
        parity=Parity(against="itself", images=1, largest_difference={}),
    )


def _answers(
    lesions: Sequence[Lesion], scores: np.ndarray, activations: np.ndarray | None = None
) -> FoldAnswers:
    embedding = np.zeros((len(lesions), 1), np.float32)
    maps = np.zeros((len(lesions), 1, 1)) if activations is None else activations
    return FoldAnswers(
        tuple(lesions), scores, embedding, maps.astype(np.float32), (), embedding[:0]
    )


def _folds(
    scores: np.ndarray, one_look: np.ndarray | None = None, *, count: int = 3
) -> tuple[FoldAnswers, ...]:
    """Folds that take turns; in float32 half of the score."""
    single = scores if one_look is None else one_look
    lesions = [
        Lesion(f"I{number:03}", Path("none"), None, Label(LABELS[number]))
        for number in range(COUNT)
    ]
    table = np.stack([scores, single, scores / 2], axis=1)
    return tuple(_answers(lesions[n::count], table[n::count]) for n in range(count))


def _scores(seed: int, separation: float) -> np.ndarray:
    rng = np.random.default_rng(seed)
    noisy = 0.5 + separation * (LABELS - 0.5) + rng.normal(0, 0.2, COUNT)
    return np.clip(noisy, 0.01, 0.99)


def _asked(scores: Sequence[np.ndarray]) -> list[tuple[NetworkCard, tuple[FoldAnswers, ...]]]:
    return [(_card(name), _folds(one)) for name, one in zip("abcd", scores, strict=False)]


def _fuse(asked: Sequence[tuple[NetworkCard, Sequence[FoldAnswers]]], **more: Any) -> ClassRelease:
    return make_class_release(asked, **more)[0]


def test_scores_of_three_networks_are_fused_calibrated_and_measured_out_of_fold() -> None:
    scores = [_scores(1, 0.3), _scores(2, 0.2), _scores(3, 0.25)]
    found = _fuse(_asked(scores))
    weights = np.array([member.weight for member in found.members])
    assert [member.name for member in found.members] == ["a", "b", "c"]
    assert weights.sum() == pytest.approx(1.0)
    assert (weights >= 0).all()
    measured = found.measured
    assert (measured["images"], measured["malignant"]) == (COUNT, 30)
    fused = weights @ scores
    whole = measured["fusion"]["auc"]
    assert whole["low"] <= whole["value"] <= whole["high"]
    assert whole["value"] == pytest.approx(auc(LABELS, fused), abs=0.02), "fitted elsewhere"
    assert measured["networks"]["a"]["average_precision"]["value"] == pytest.approx(
        average_precision(LABELS, scores[0])
    )
    assert found.point().name == "sensitivity90"
    assert np.mean(found.calibration(fused)[LABELS == 1] >= found.point().threshold) >= 0.9
    assert measured["calibration_error"] == measured["calibration"]["error_after"]
    assert "one_look" not in measured
    assert "withheld" not in measured


def test_weights_that_flatter_one_fold_do_not_count_there() -> None:
    """A network that is right on the first fold alone gets no weight from the others."""
    honest, lucky = _scores(1, 0.3), np.random.default_rng(5).uniform(0.3, 0.7, COUNT)
    lucky[::3] = np.where(LABELS[::3], 0.99, 0.01)
    found = _fuse(_asked([honest, lucky])).measured["fusion"]["auc"]["value"]
    everywhere = _fuse(_asked([honest])).measured["fusion"]["auc"]["value"]
    first = auc(LABELS[::3], lucky[::3])
    assert first == 1.0
    assert found < everywhere + 0.1, "the other folds' weights decide"


def test_more_looks_are_measured_beside_one_on_the_same_images() -> None:
    many, one = _scores(1, 0.5), _scores(4, 0.1)
    found = _fuse([(_card("a"), _folds(many, one))], looks=8).measured
    single, gain = found["one_look"]["fusion"], found["one_look"]["gain"]
    for metric in ("auc", "average_precision"):
        difference = found["fusion"][metric]["value"] - single[metric]["value"]
        assert gain[metric]["value"] == pytest.approx(difference)
        assert gain[metric]["low"] > 0
    assert found["looks"] == 8


def test_a_subset_is_measured_apart() -> None:
    ids = frozenset(f"I{number:03}" for number in range(24))
    found = _fuse(_asked([_scores(1, 0.3)]), subsets={"few": ids}).measured
    few = found["subsets"]["few"]
    assert (few["images"], few["malignant"]) == (24, 12)
    assert 0.0 <= few["calibration_error"] <= 1.0
    assert few["fusion"]["auc"]["value"] != found["fusion"]["auc"]["value"]


def test_withheld_images_are_counted_by_class_and_as_missed() -> None:
    scores = np.where(LABELS, 0.9, 0.1) + np.linspace(0, 0.05, COUNT)
    scores[[0, 1]] = scores[[1, 0]]  # one of each class on the wrong side
    withheld = {f"I{number:03}": number in (3, 5, 7) for number in range(COUNT)}
    found = _fuse(_asked([scores]), withheld=withheld)
    lost = found.measured["withheld"]
    assert lost["malignant"] == {"images": 30, "withheld": 3}
    assert lost["benign"] == {"images": 30, "withheld": 0}
    assert lost["p_value"] == pytest.approx(0.237, abs=0.001)
    point = found.point("balanced")
    rates = lost["operating_points"]["balanced"]
    assert point.sensitivity.value - rates["sensitivity"]["value"] == pytest.approx(3 / 30)
    assert rates["specificity"]["value"] == point.specificity.value


def test_a_hold_out_is_measured_in_parts() -> None:
    found = _fuse([(_card("a"), _folds(_scores(1, 0.3), count=1))])
    assert found.measured["images"] == COUNT
    assert found.measured["fusion"]["auc"]["value"] > 0.6


def test_the_scores_out_of_fold_are_kept_for_pupils() -> None:
    scores = _scores(1, 0.3)
    _, table = make_class_release(_asked([scores]))
    assert table.image_ids == tuple(f"I{number:03}" for number in range(COUNT))
    assert table.scores == pytest.approx(scores), "one network has the whole weight in every fold"


class _Maps:
    """A network that answers given maps, a look each."""

    def __init__(self, *looks: np.ndarray, card: str = "x") -> None:
        self.looks = np.stack(looks).astype(np.float32)
        self.card = card


@pytest.fixture
def lesions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Lesion, ...]:
    """Two images whose left half is the lesion; networks answer their maps."""
    monkeypatch.setattr(
        measured_module, "look_at", lambda network, image, looks: {"lesion": network.looks[:looks]}
    )
    write_mask(tmp_path / "mask.png", LEFT)
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
    left = LEFT.astype(float)
    everywhere = np.full((16, 16), 0.9)
    found = make_mask_release(
        [
            (_card("left"), [_fold(lesions, _Maps(left), _Maps(1 - left, card="y"))]),
            (_card("all"), [_fold(lesions[:1], _Maps(everywhere)),
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
    left = LEFT.astype(float)
    network = _Maps(np.ones((32, 32)), left, left, left)
    measured = make_mask_release([(_card("a"), [_fold(lesions, network)])], looks=4).measured
    assert measured["fusion"]["jaccard"]["value"] == 1.0, "1 on the left, 0.25 on the right"
    assert measured["one_look"]["fusion"]["jaccard"]["value"] == 0.5
    assert measured["one_look"]["gain"]["jaccard"] == {"value": 0.5, "low": 0.5, "high": 0.5}


def test_networks_that_held_back_other_images_are_refused(lesions: tuple[Lesion, ...]) -> None:
    network = _Maps(np.ones((32, 32)))
    folds = [(_card("a"), [_fold(lesions[:1], network)]),
             (_card("b"), [_fold(lesions[1:], network)])]  # fmt: skip
    with pytest.raises(ExportError, match="no image with a mask was held back by a fold of every"):
        make_mask_release(folds)


NO_SCORES = np.zeros((4, 3))


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


def test_maps_are_joined_by_their_weights_and_counted_by_class(tmp_path: Path) -> None:
    lesions = [
        _lesion(tmp_path, "a", Label.MALIGNANT),
        _lesion(tmp_path, "b", Label.BENIGN),
        _lesion(tmp_path, "no-mask", Label.BENIGN, mask=False),
        _lesion(tmp_path, "no-label", None),
    ]
    into, out, no = ([row, row] for row in ([4.0, 0.0], [0.0, 4.0], [-9.0, -9.0]))
    first = _answers(lesions, NO_SCORES, np.array([into, no, into, into]))
    second = _answers(lesions, NO_SCORES, np.array([out, out, into, into]))
    asked = [(_card("one"), [first]), (_card("two"), [second])]
    found = measure_activation(asked, (Member("one", 0.75), Member("two", 0.25)))
    assert found == {
        "malignant": {"images": 1, "inside": 1, "outside": 0, "nowhere": 0},
        "benign": {"images": 1, "inside": 0, "outside": 0, "nowhere": 1},
    }
    other = measure_activation(asked, (Member("one", 0.25), Member("two", 0.75)))
    assert other["malignant"]["outside"] == 1
    assert other["benign"]["outside"] == 1  # -9 / 4 + 3 is above 0


def test_without_masks_nothing_is_counted(tmp_path: Path) -> None:
    fold = _answers([_lesion(tmp_path, "a", Label.BENIGN, mask=False)], NO_SCORES[:1])
    assert measure_activation([(_card("one"), [fold])], (Member("one", 1.0),)) == {}


def _trained(name: str, **train: Any) -> TrainedNetwork:
    return TrainedNetwork(nn.Identity(), Config(train=TrainConfig(**train)), 1, Path(name))


def test_whether_there_are_teachers_is_the_recipe_and_which_is_not() -> None:
    taught, other = _trained("taught", teachers=("a",)), _trained("other")
    require_recipe(taught, _trained("fold", teachers=("b",)))
    for final, fold in ((taught, other), (other, taught)):
        with pytest.raises(ExportError, match="taught was trained with teachers, other without"):
            require_recipe(final, fold)


def test_an_image_is_held_back_by_one_fold_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    image = Lesion("I0", Path("none"), None, None)
    monkeypatch.setattr(measured_module, "split_lesions", lambda *_: [image])
    monkeypatch.setattr(measured_module, "_export", lambda *_: (_card("a"), _card("a")))
    monkeypatch.setattr(measured_module, "load_network", lambda *_, **__: None)
    with pytest.raises(ExportError, match="two validated on I0, as another of the runs did"):
        export_folds(
            [_trained("one"), _trained("two")], Path("data"), Path("out"), precision="float32"
        )


def test_of_a_network_in_eight_bits_the_float32_file_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact, shipped = _card("a"), _card("a-int8")
    for name in ("a.onnx", "a.json", "a-int8.onnx", "a-int8.json"):
        (tmp_path / name).touch()
    monkeypatch.setattr(measured_module, "_export", lambda *_: (exact, shipped))
    found = export_shipped(_trained("a"), Path("data"), tmp_path, precision="int8")
    assert found == shipped
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-int8.json", "a-int8.onnx"]
