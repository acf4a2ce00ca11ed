"""How images are scored and outlined, measured by networks that held them back; peaks of maps."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import nn

from dermfuse.config import Config
from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.errors import ExportError
from dermfuse.imaging.preprocess import write_mask
from dermfuse.predictions.metrics import auc, average_precision
from dermfuse.predictions.scores import ScoreTable
from dermfuse.publishing import measured as module
from dermfuse.publishing.measured import FoldAnswers, FoldNetwork, find_peak, make_class_release
from dermfuse.release.cards import NetworkCard
from dermfuse.release.folder import ClassRelease, MaskRelease, Member
from dermfuse.training.prediction import TrainedNetwork

from ..small_release import CARD

COUNT = 60
LABELS = np.arange(COUNT) % 2
IDS = [f"I{number:03}" for number in range(COUNT)]
LEFT = np.repeat([[True] * 16 + [False] * 16], 32, axis=0)


def _card(name: str) -> NetworkCard:
    return replace(CARD, name=name, file=f"{name}.onnx")


def _fold(lesions: Sequence[Lesion], scores: np.ndarray, maps: Any = ()) -> FoldAnswers:
    none = np.zeros((len(lesions), 1), np.float32)
    return FoldAnswers(tuple(lesions), scores, maps or [()] * len(lesions), none, (), none)


def _release(
    *scores: np.ndarray,
    one_look: np.ndarray | None = None,
    folds: int = 3,
    withheld: frozenset[str] = frozenset(),
    **more: Any,
) -> tuple[ClassRelease, ScoreTable]:
    """Of networks called a, b, c whose folds take turns; in float32 half of the score."""
    lesions = [Lesion(i, Path("none"), None, Label(n)) for i, n in zip(IDS, LABELS, strict=True)]
    table = np.stack([[one, one if one_look is None else one_look, one / 2] for one in scores])
    table = table.transpose(2, 0, 1)  # (N, K, 3)
    options = {"looks": 1, "weights": "fitted", "subsets": {}, **more}
    return make_class_release(
        [_card(name) for name in "abc"[: len(scores)]],
        [_fold(lesions[n::folds], table[n::folds]) for n in range(folds)],
        {image_id: image_id in withheld for image_id in IDS},
        **options,
    )


def _scores(seed: int, separation: float) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(0, 0.2, COUNT)
    return np.clip(0.5 + separation * (LABELS - 0.5) + noise, 0.01, 0.99)


def test_scores_of_three_networks_are_fused_calibrated_and_measured_out_of_fold() -> None:
    scores = [_scores(1, 0.3), _scores(2, 0.2), _scores(3, 0.25)]
    found, _ = _release(*scores, subsets={"few": frozenset(IDS[:24])})
    weights = np.array([member.weight for member in found.members])
    assert (weights.sum(), weights.min() >= 0) == (pytest.approx(1.0), True)
    measured, fused = found.measured, weights @ scores
    assert (measured["images"], measured["malignant"]) == (COUNT, 30)
    whole = measured["fusion"]["auc"]["value"]
    assert whole == pytest.approx(auc(LABELS, fused), abs=0.02), "fitted elsewhere"
    alone = measured["networks"]["a"]["average_precision"]["value"]
    assert alone == pytest.approx(average_precision(LABELS, scores[0]))
    assert found.point().name == "sensitivity90"
    assert np.mean(found.calibration(fused)[LABELS == 1] >= found.point().threshold) >= 0.9
    assert measured["calibration_error"] == measured["calibration"]["error_after"]
    perfect = measured["calibration_error_if_perfect"]
    assert 0 < perfect["low"] < perfect["value"] < perfect["high"] < 0.3
    assert "one_look" not in measured
    few = measured["subsets"]["few"]
    assert (few["images"], few["malignant"]) == (24, 12)
    alike, table = _release(*scores, weights="equal")
    assert [member.weight for member in alike.members] == [1 / 3] * 3
    assert table.scores == pytest.approx(np.mean(scores, axis=0)), "in every fold"
    assert alike.measured["how"].startswith("out of fold; all weights equal")


def test_weights_and_calibration_that_flatter_one_fold_do_not_count_there() -> None:
    honest, lucky = _scores(1, 0.3), np.random.default_rng(5).uniform(0.3, 0.7, COUNT)
    lucky[::3] = np.where(LABELS[::3], 0.99, 0.01)  # right on the first fold alone
    (found, table), (alone, without) = _release(honest, lucky), _release(honest)
    assert without.scores == pytest.approx(honest), "one network has the whole weight everywhere"
    assert without.image_ids == tuple(IDS)
    called = np.empty(COUNT)
    for first in range(3):
        own = np.arange(COUNT) % 3 == first
        calibration = module.fit_calibration(LABELS[~own] == 1, honest[~own])
        called[own] = calibration(honest[own])
    error = module.expected_calibration_error(LABELS == 1, called)
    assert alone.measured["calibration_error"] == pytest.approx(error)
    both, rest = np.array([honest, lucky]).T, np.arange(COUNT) % 3 > 0
    elsewhere = module.fit_weights(LABELS[rest] == 1, both[rest])
    assert table.scores[::3] == pytest.approx(both[::3] @ elsewhere)
    assert elsewhere[1] < found.members[1].weight, "the first fold would have had it count more"


def test_a_hold_out_is_measured_in_parts_and_more_looks_beside_one() -> None:
    many, one = _scores(1, 0.5), _scores(4, 0.1)
    found = _release(many, one_look=one, folds=1, looks=8)[0].measured
    single, gain = found["one_look"]["fusion"], found["one_look"]["gain"]
    for metric in ("auc", "average_precision"):
        difference = found["fusion"][metric]["value"] - single[metric]["value"]
        assert gain[metric]["value"] == pytest.approx(difference)
        assert gain[metric]["low"] > 0
    assert (found["looks"], found["images"]) == (8, COUNT)


def test_withheld_images_are_counted_by_class_and_as_missed() -> None:
    scores = np.where(LABELS, 0.9, 0.1) + np.linspace(0, 0.05, COUNT)
    scores[[0, 1]] = scores[[1, 0]]  # one of each class on the wrong side
    found, _ = _release(scores, withheld=frozenset((IDS[3], IDS[5], IDS[7])))
    lost, point = found.measured["withheld"], found.point("balanced")
    assert lost["malignant"] == {"images": 30, "withheld": 3}
    assert lost["benign"] == {"images": 30, "withheld": 0}
    assert lost["p_value"] == pytest.approx(0.237, abs=0.001)
    rates = lost["operating_points"]["balanced"]
    assert point.sensitivity.value - rates["sensitivity"]["value"] == pytest.approx(3 / 30)
    assert rates["specificity"]["value"] == point.specificity.value


def _maps(*looks: np.ndarray, card: str = "x") -> Any:
    """A network that answers given maps, a look each."""
    return SimpleNamespace(looks=np.stack(looks).astype(np.float32), card=card)


@pytest.fixture
def lesions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Lesion, ...]:
    """Two images whose left half is the lesion; networks answer their maps."""
    monkeypatch.setattr(module, "look_at", lambda net, _, looks: {"lesion": net.looks[:looks]})
    image, mask = tmp_path / "image.png", tmp_path / "mask.png"
    write_mask(mask, LEFT)
    Image.new("RGB", (32, 32)).save(image)
    return tuple(Lesion(name, image, mask, Label.BENIGN) for name in ("I0", "I1"))


def _asked(lesions: tuple[Lesion, ...], network: Any, exact: Any = None) -> FoldNetwork:
    return FoldNetwork(lesions, (), network, exact or network)


def test_maps_of_several_sizes_are_averaged_at_the_size_of_the_mask(
    lesions: tuple[Lesion, ...],
) -> None:
    def release(*networks: Sequence[FoldNetwork], looks: Any = 1) -> MaskRelease:
        cards, subsets = [_card("left"), _card("all")], {"first": frozenset({"I0"})}
        few = cards[: len(networks)]
        return module.make_mask_release(few, networks, looks=looks, subsets=subsets)

    left, everywhere = LEFT.astype(float), _maps(np.full((16, 16), 0.9))
    one = [_asked(lesions, _maps(left), _maps(1 - left, card="y"))]
    other = [_asked(lesions[:1], everywhere), _asked(lesions[1:], everywhere)]
    found = release(one, other)
    measured = found.measured
    assert [member.weight for member in found.members] == [0.5, 0.5]
    assert measured["networks"]["left"]["jaccard"]["value"] == 1.0
    assert measured["networks"]["all"]["jaccard"]["value"] == 0.5
    assert measured["fusion"]["jaccard"]["value"] == 1.0, "0.95 on the left, 0.45 on the right"
    assert measured["fusion_in_float32"]["jaccard"]["value"] == 0.0, "0.45 and 0.95"
    assert (measured["images"], measured["subsets"]["first"]["images"]) == (2, 1)
    looked = [_asked(lesions, _maps(np.ones((32, 32)), *[left] * 3))]
    measured = release(looked, looks=4).measured
    assert measured["fusion"]["jaccard"]["value"] == 1.0, "1 on the left, 0.25 on the right"
    assert measured["one_look"]["gain"]["jaccard"] == {"value": 0.5, "low": 0.5, "high": 0.5}
    with pytest.raises(ExportError, match="no image with a mask was held back by a fold of every"):
        release(other[:1], other[1:])
    with pytest.raises(ExportError, match="the class networks held back different images"):
        module.ask_folds([other, other[::-1]], looks=1)


def test_maps_are_joined_by_their_weights_and_counted_by_class(lesions: tuple[Lesion, ...]) -> None:
    benign, _ = lesions
    asked = [
        replace(benign, image_id="a", label=Label.MALIGNANT),
        benign,
        replace(benign, image_id="no-mask", mask_path=None),
        replace(benign, image_id="no-label", label=None),
    ]
    into, out, no = (
        {"activation_map": np.array([row, row])} for row in ([4.0, 0.0], [0.0, 4.0], [-9.0, -9.0])
    )
    fold = _fold(asked, np.zeros((4, 2, 3)), [(into, out), (no, out), (into, into), (into, into)])
    for weight, malignant, place in ((0.75, "inside", "nowhere"), (0.25, "outside", "outside")):
        members = (Member("one", weight), Member("two", 1 - weight))
        found = module.measure_activation([fold], members)  # -9 / 4 + 3 is above 0
        for label, expected in (("malignant", malignant), ("benign", place)):
            counts = dict.fromkeys(module.PLACES, 0) | {"images": 1, expected: 1}
            assert found[label] == counts
    unmasked = _fold(asked[2:3], np.zeros((1, 1, 3)), [(into,)])
    assert module.measure_activation([unmasked], (Member("one", 1.0),)) == {}
    assert find_peak(np.array([[0.1, -5.0], [-5.0, -5.0]]), LEFT) == "inside"
    assert find_peak(np.array([[-0.1, -0.2], [-3.0, 0.0]]), LEFT) == "nowhere"


def _trained(name: str, *changes: str) -> TrainedNetwork:
    return TrainedNetwork(nn.Identity(), Config().override(list(changes)), 1, Path(name))


def test_folds_of_another_recipe_are_refused_and_how_images_are_split_is_none() -> None:
    final = _trained("final")
    module.require_recipe(final, _trained("fold", "train.seed=3", "data.folds=3", "data.fold=1"))
    taught, other = (_trained("taught", f'train.teachers=["{name}"]') for name in "ab")
    module.require_recipe(taught, other)
    for fold, message in (
        (_trained("fold", "train.epochs=2"), "trained with train.epochs 2, final with 50"),
        (_trained("fold", "data.input_size=320"), "with data.input_size 320, final with 224"),
        (taught, "taught was trained with teachers, final without"),
    ):
        with pytest.raises(ExportError, match=message):
            module.require_recipe(final, fold)


def test_an_image_is_held_back_by_one_fold_and_of_8_bits_no_float32_file_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cards = _card("a"), _card("a-int8")
    monkeypatch.setattr(
        module, "split_lesions", lambda *_: [Lesion("I0", Path("none"), None, None)]
    )
    monkeypatch.setattr(module, "_export", lambda *_: cards)
    monkeypatch.setattr(module, "load_network", lambda *_, **__: None)
    folds = [_trained("one"), _trained("two")]
    with pytest.raises(ExportError, match="two validated on I0, as another of the runs did"):
        module.export_folds(folds, tmp_path, tmp_path, precision="int8")
    for card in cards:
        (tmp_path / card.file).touch()
        (tmp_path / f"{card.name}.json").touch()
    found = module.export_shipped(folds[0], tmp_path, tmp_path, precision="int8")
    assert found == cards[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-int8.json", "a-int8.onnx"]
