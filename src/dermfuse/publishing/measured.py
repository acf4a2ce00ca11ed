"""What the networks of a release say about images they were not trained on.

A network that ships has seen every training image, so nothing can be measured with it. Networks
of the same recipe were trained in folds: those are exported in the precision that ships, and each
is asked about the images it was not trained on, at as many orientations as the release will be.
From their answers come how images are scored, called and outlined, and how good that is: numbers
with their 95 % intervals, as JSON values.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.data.folders import DataFolders
from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.errors import ExportError
from dermfuse.evaluation.bootstrap import Drawn, draw_ranking, draw_shares, fisher_p_value
from dermfuse.evaluation.calibrate import (
    calibrate,
    choose_points,
    draw_folds,
    error_if_perfect,
    fit_calibration,
    fit_weights,
)
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, resize_probability, squeeze_mask
from dermfuse.imaging.symmetries import Answers, Looks, mean_looks
from dermfuse.predictions.metrics import count, expected_calibration_error, jaccard
from dermfuse.predictions.scores import ScoreTable
from dermfuse.publishing.onnx import export_network, load_calibration
from dermfuse.publishing.plan import Weights
from dermfuse.publishing.quantization import quantize_network
from dermfuse.records.folders import core_count
from dermfuse.release.cards import NetworkCard, Precision
from dermfuse.release.folder import ClassRelease, MaskRelease, Member, OperatingPoint
from dermfuse.release.gate import join_embeddings
from dermfuse.release.networks import Network, ask_all, join_activations, load_network
from dermfuse.training.prediction import MASK_THRESHOLD, TrainedNetwork, split_lesions

_PARITY_IMAGES = 16
_RECIPE = ("data", "augment", "model", "loss", "train")
_NOT_RECIPE = frozenset(
    {
        *("data.split", "data.validation_fraction", "data.folds", "data.fold"),
        *("data.outer_folds", "data.outer_fold", "train.teachers", "train.seed"),
        *("train.threads", "train.device", "train.compile"),
    }
)

_T = TypeVar("_T")
_Image = TypeVar("_Image")

PLACES = ("inside", "outside", "nowhere")
"""Where what speaks most for malignancy lies, beside the lesion; nowhere if all speaks against."""

_GRID_PX = 96  # maps have 6 x 6 places: finer than that
Values = NDArray[np.float64]
Flags = NDArray[np.bool_]

DEFAULT_POINT = "sensitivity90"
"""Missing a melanoma costs more than a needless look."""

_PARTS = 5  # of a hold-out, to fit weights and calibration on the rest

_Weigh = Callable[[Flags, Values], Values]
_HOW: Mapping[Weights, str] = {
    "fitted": "out of fold; weights and calibration were fitted to the images of other folds",
    "equal": "out of fold; all weights equal, calibration was fitted to the images of other folds",
}


@dataclass(frozen=True, slots=True, eq=False)
class FoldNetwork:
    """One fold's network, exported.

    Attributes:
        held_back: The images it was not trained on.
        trained_on: The images it was trained on.
        shipped: In the precision that ships.
        exact: In float32; the same where that is what ships.
    """

    held_back: tuple[Lesion, ...]
    trained_on: tuple[Lesion, ...]
    shipped: Network
    exact: Network

    def ask(self, image: Image.Image, looks: Looks) -> tuple[Answers, Answers]:
        """Returns what both networks say about an image, looks apart; the exact one looks once."""
        apart = look_at(self.shipped, image, looks)
        same = self.exact.card == self.shipped.card
        return apart, apart if same else look_at(self.exact, image, 1)


@dataclass(frozen=True, slots=True, eq=False)
class FoldAnswers:
    """What the class networks of one fold answer; K networks that held back the same images.

    Attributes:
        held_back: The images they were not trained on.
        scores: Of each network with all looks and with one, in the precision that ships; with one
            in float32. (N, K, 3)
        means: Of each image what each network answers, the mean over looks.
        new: Joined embeddings of the held-back images, the mean over looks. (N, E)
        trained_on: The images they were trained on.
        seen: Joined embeddings of the images they were trained on. (M, E)
    """

    held_back: tuple[Lesion, ...]
    scores: Values
    means: Sequence[Sequence[Answers]]
    new: NDArray[np.float32]
    trained_on: tuple[Lesion, ...]
    seen: NDArray[np.float32]


def export_shipped(
    trained: TrainedNetwork, data: DataFolders, out: Path, *, precision: Precision
) -> NetworkCard:
    """Writes a network in the precision that ships, and returns its card.

    Args:
        trained: The network.
        data: The dataset folder; 8 bits are calibrated on the run's training images.
        out: The folder; of a network in 8 bits the float32 file is not kept.
        precision: ``float32``, ``int8`` or ``int8-weights``.
    """
    exact, shipped = _export(trained, data, out, precision)
    if shipped != exact:
        (out / f"{exact.name}.json").unlink()
        (out / exact.file).unlink()
    return shipped


def export_folds(
    folds: Sequence[TrainedNetwork], data: DataFolders, folder: Path, *, precision: Precision
) -> tuple[FoldNetwork, ...]:
    """Returns each fold's network, exported, with the images it was and was not trained on.

    Args:
        folds: Networks of one recipe, whose validation images differ.
        data: The dataset folder, or several.
        folder: For the exported networks.
        precision: That ships.

    Raises:
        ExportError: Two runs validated on the same image.
        DermfuseError: A run or the data cannot be used.
    """
    seen: set[str] = set()
    found = []
    for trained in folds:
        held_back, trained_on = (
            tuple(split_lesions(trained, data, split)) for split in ("validation", "train")
        )
        ids = {lesion.image_id for lesion in held_back}
        if twice := sorted(seen & ids):
            raise ExportError(
                f"{trained.run} validated on {twice[0]}, as another of the runs did",
                expected="one run per fold",
                action="Name each fold once",
            )
        seen |= ids
        exact, shipped = (
            load_network(folder / f"{card.name}.json", threads=1)
            for card in _export(trained, data, folder, precision)
        )
        found.append(FoldNetwork(held_back, trained_on, shipped, exact))
    return tuple(found)


def ask_folds(
    networks: Sequence[Sequence[FoldNetwork]], *, looks: Looks
) -> tuple[FoldAnswers, ...]:
    """Returns what class networks say about all images of their folds, a fold after the other.

    Args:
        networks: The folds of each network.
        looks: Number of orientations of an image they look.

    Raises:
        ExportError: The networks' folds differ.
    """
    held_back = [[[x.image_id for x in fold.held_back] for fold in folds] for folds in networks]
    if any(ids != held_back[0] for ids in held_back):
        raise ExportError(
            "the class networks held back different images",
            expected="the same folds for all of them, in one order",
            action="Train them with equal data.folds, seeds and images",
        )
    return tuple(_ask_fold(of_all, looks) for of_all in zip(*networks, strict=True))


def embed(
    networks: Sequence[Network], images: Sequence[Lesion | NDArray[np.uint8]], *, looks: Looks
) -> NDArray[np.float32]:
    """Returns the joined embeddings of each image, the mean over looks, (N, E)."""

    def ask(one: Lesion | NDArray[np.uint8]) -> list[Answers]:
        pixels = read_image(one.image_path) if isinstance(one, Lesion) else one
        apart = ask_all(networks, Image.fromarray(pixels), looks=looks)
        return [{"embedding": mean_looks(answers)["embedding"]} for answers in apart]

    return _join(each_image(ask, images))


def look_at(network: Network, image: Image.Image, looks: Looks) -> Answers:
    """Returns what one network says about one image, looks apart: each output (looks, ...)."""
    return ask_all([network], image, looks=looks)[0]


def each_image(ask: Callable[[_Image], _T], images: Iterable[_Image]) -> list[_T]:
    """Returns what ``ask`` returns for each image, in their order; one per processor at once."""
    with ThreadPoolExecutor(core_count()) as pool:
        return list(pool.map(ask, images))


def require_recipe(final: TrainedNetwork, fold: TrainedNetwork) -> None:
    """Refuses a fold that was trained in another way than the network that ships.

    How images were split, seeds, threads and devices are not the recipe; whether there are
    teachers is, and which is not: each fold has teachers that never saw it.

    Raises:
        ExportError: Names the first setting that differs.
    """
    differs = ""
    taught = [network for network in (final, fold) if network.config.train.teachers]
    if len(taught) == 1:
        other = fold if taught[0] is final else final
        differs = f"{taught[0].run} was trained with teachers, {other.run} without"
    wanted, given = final.config.to_mapping(), fold.config.to_mapping()
    for table in _RECIPE:
        for key, ships in wanted[table].items():
            name, has = f"{table}.{key}", given[table][key]
            if name not in _NOT_RECIPE and ships != has:
                found = f"{fold.run} was trained with {name} {has!r}, {final.run} with {ships!r}"
                differs = differs or found
    if differs:
        raise ExportError(
            differs,
            expected="folds of the recipe that ships",
            action="Train the folds again, or name others",
        )


def measure_activation(folds: Sequence[FoldAnswers], members: Sequence[Member]) -> dict[str, Any]:
    """Returns how many maps of each class point into the lesion, out of it, and nowhere.

    Args:
        folds: What the networks answered.
        members: Their weights, in this order.

    Returns:
        For ``malignant`` and ``benign`` the number of ``images``, and of each of ``PLACES``; images
        that have no true mask are not counted, and a class without any is left out.
    """
    pairs = [pair for fold in folds for pair in zip(fold.held_back, fold.means, strict=True)]
    shown = [(x, means) for x, means in pairs if x.mask_path and x.label is not None]

    def place(one: tuple[Lesion, Sequence[Answers]]) -> str:
        mask = squeeze_mask(read_mask(cast("Path", one[0].mask_path)), _GRID_PX)
        return find_peak(join_activations(one[1], members), mask)

    places = each_image(place, shown)
    counts = {}
    for label in (Label.MALIGNANT, Label.BENIGN):
        own = Counter(at for at, (x, _) in zip(places, shown, strict=True) if x.label == label)
        if own:
            each = {name: own[name] for name in PLACES}
            counts[label.name.lower()] = {"images": own.total(), **each}
    return counts


def find_peak(activation: NDArray[np.float32], mask: NDArray[np.bool_]) -> str:
    """Returns where the place lies that adds most to the log-odds: one of ``PLACES``.

    Args:
        activation: (h, w)
        mask: True in the lesion. (S, S)

    Example:
        >>> lesion = np.array([[True, False], [True, False]])
        >>> find_peak(np.array([[2.0, 1.0], [0.0, -1.0]], np.float32), lesion)
        'inside'
    """
    if activation.max() <= 0:
        return "nowhere"
    row, column = np.unravel_index(activation.argmax(), activation.shape)
    height, width = mask.shape
    rows, columns = activation.shape
    at = int((row + 0.5) * height / rows), int((column + 0.5) * width / columns)
    return "inside" if mask[at] else "outside"


def make_class_release(
    cards: Sequence[NetworkCard],
    folds: Sequence[FoldAnswers],
    withheld: Mapping[str, bool],
    *,
    looks: Looks,
    weights: Weights,
    subsets: Mapping[str, frozenset[str]],
) -> tuple[ClassRelease, ScoreTable]:
    """Returns how the networks' scores are fused, calibrated and called, and how good that is.

    Weights, calibration and thresholds that ship are fitted to all images. What is measured of
    them is not: the image of a fold is scored with weights and a calibration that were fitted to
    the other folds.

    Args:
        cards: Of any number of networks.
        folds: What they answered.
        withheld: Whether the gate withholds each image, by id.
        looks: Number of orientations of an image they looked.
        weights: How the networks are weighed.
        subsets: Names and image ids that are measured apart as well.

    Returns:
        The part of the release, and the mean score of each image by weights of the other folds.
    """
    ids, malignant, part, (many, one_look, exact) = _gather(folds)
    weigh = fit_weights if weights == "fitted" else _weigh_alike
    cross_fit = partial(_cross_fit, malignant, part, weigh)
    weighed = weigh(malignant, many)
    fused = many @ weighed
    found, single = cross_fit(many), cross_fit(one_look)
    calibration = calibrate(malignant, fused, found[1])
    called = calibration.calibration(fused)
    points = choose_points(malignant, called)
    members = _members(cards, weighed)
    measured: dict[str, Any] = {
        "how": _HOW[weights],
        "looks": looks,
        **_measure(malignant, found, single, looks),
        "fusion_in_float32": _rank(draw_ranking(malignant, cross_fit(exact)[0])),
        "networks": {
            member.name: _rank(draw_ranking(malignant, column))
            for member, column in zip(members, many.T, strict=True)
        },
        "calibration": asdict(calibration),
        "subsets": {
            name: _measure(malignant[own], found[:, own], single[:, own], looks)
            for name, own in _subsets(ids, subsets)
        },
        "withheld": _measure_withheld(
            malignant, called, points, np.array([withheld[image_id] for image_id in ids])
        ),
        "activation": measure_activation(folds, members),
    }
    release = ClassRelease(members, calibration.calibration, points, DEFAULT_POINT, measured)
    return release, ScoreTable(ids, found[0])


def make_mask_release(
    cards: Sequence[NetworkCard],
    networks: Sequence[Sequence[FoldNetwork]],
    *,
    looks: Looks,
    subsets: Mapping[str, frozenset[str]],
) -> MaskRelease:
    """Returns how the networks' maps are averaged, and how well that outlines.

    Every map counts alike. Each image is outlined by the networks that held it back, and what was
    asked is forgotten at once: the maps of all images would not fit in memory.

    Args:
        cards: Of any number of networks.
        networks: The folds of each.
        looks: Number of orientations of an image they look.
        subsets: Names and image ids that are measured apart as well.

    Raises:
        ExportError: No image was held back by all of them.
    """
    keepers = [{x.image_id: fold for fold in folds for x in fold.held_back} for folds in networks]
    masked = {x.image_id: x for fold in networks[0] for x in fold.held_back if x.mask_path}
    ids = sorted(masked.keys() & set.intersection(*map(set, keepers)))
    if not ids:
        raise ExportError(
            "no image with a mask was held back by a fold of every network that outlines",
            expected="folds of the same images",
            action="Train them with equal data.folds, seeds and images",
        )

    def measure(image_id: str) -> list[float]:
        return _overlaps([keeper[image_id] for keeper in keepers], masked[image_id], looks)

    overlaps = np.array(each_image(measure, ids))
    members = _members(cards, [1.0 / len(cards)] * len(cards))
    measured = {
        "how": "out of fold; maps are averaged with equal weights",
        "looks": int(looks),
        **_measure_masks(overlaps, looks),
        "fusion_in_float32": _jaccard(overlaps[:, 2]),
        "networks": {
            member.name: _jaccard(column)
            for member, column in zip(members, overlaps.T[3:], strict=True)
        },
        "subsets": {
            name: _measure_masks(overlaps[own], looks) for name, own in _subsets(ids, subsets)
        },
    }
    return MaskRelease(members, MASK_THRESHOLD, measured)


def _export(
    trained: TrainedNetwork, data: DataFolders, out: Path, precision: Precision
) -> tuple[NetworkCard, NetworkCard]:
    """Returns the cards of a network in float32 and in the precision that ships."""
    seen = load_calibration(trained, data)
    exact = export_network(trained, out, images=seen[:_PARITY_IMAGES])
    if precision == "float32":
        return exact, exact
    return exact, quantize_network(out / f"{exact.name}.json", out, seen, precision=precision)


def _ask_fold(networks: Sequence[FoldNetwork], looks: Looks) -> FoldAnswers:
    def ask(lesion: Lesion) -> tuple[list[list[float]], list[Answers]]:
        image = Image.fromarray(read_image(lesion.image_path))
        both = [network.ask(image, looks) for network in networks]
        means: list[Answers] = [mean_looks(apart) for apart, _ in both]
        scores = [
            [
                float(one)
                for one in (mean["malignant"], apart["malignant"][0], exact["malignant"][0])
            ]
            for mean, (apart, exact) in zip(means, both, strict=True)
        ]
        return scores, means

    held_back, trained_on = networks[0].held_back, networks[0].trained_on
    scores, means = zip(*each_image(ask, held_back), strict=True)
    seen = embed([network.shipped for network in networks], trained_on, looks=looks)
    return FoldAnswers(held_back, np.array(scores), means, _join(means), trained_on, seen)


def _join(answers: Sequence[Sequence[Answers]]) -> NDArray[np.float32]:
    """Returns the joined embeddings of images, each of which has an answer of each network."""
    by_network = zip(*answers, strict=True)
    return join_embeddings([np.stack([one["embedding"] for one in of]) for of in by_network])


def _rank(drawn: Drawn) -> dict[str, Any]:
    found = drawn.estimates()
    return {name: asdict(found[name]) for name in ("auc", "average_precision")}


def _jaccard(values: Values) -> dict[str, Any]:
    return {"jaccard": _mean(values)}


def _mean(values: Values) -> dict[str, float]:
    """Returns the mean over images with its interval; of differences the paired difference."""
    drawn = draw_shares({"mean": (values, np.ones(values.size))}, np.zeros(values.size))
    return asdict(drawn.estimates()["mean"])


def _members(cards: Sequence[NetworkCard], weights: Iterable[float]) -> tuple[Member, ...]:
    pairs = zip(cards, weights, strict=True)
    return tuple(Member(card.name, float(weight)) for card, weight in pairs)


def _subsets(
    ids: Sequence[str], subsets: Mapping[str, frozenset[str]]
) -> Iterator[tuple[str, Flags]]:
    """Yields the name of each subset that has images, and which they are."""
    for name, wanted in subsets.items():
        own = np.isin(ids, sorted(wanted))
        if own.any():
            yield name, own


def _gather(
    folds: Sequence[FoldAnswers],
) -> tuple[tuple[str, ...], Flags, NDArray[np.int64], Values]:
    """Returns the images that have a label: ids in order, labels, folds (N,), scores (3, N, K)."""
    lesions = [lesion for fold in folds for lesion in fold.held_back]
    labelled = [at for at, lesion in enumerate(lesions) if lesion.label is not None]
    order = sorted(labelled, key=lambda at: lesions[at].image_id)
    malignant = np.array([bool(lesions[at].label) for at in order])
    part = np.repeat(np.arange(len(folds)), [len(fold.held_back) for fold in folds])[order]
    if len(folds) == 1:
        part = draw_folds(malignant, folds=_PARTS)
    scores = np.concatenate([fold.scores for fold in folds])[order]
    ids = tuple(lesions[at].image_id for at in order)
    return ids, malignant, part, np.moveaxis(scores, 2, 0)


def _weigh_alike(_: Flags, scores: Values) -> Values:
    return np.full(scores.shape[1], 1.0 / scores.shape[1])


def _cross_fit(malignant: Flags, part: NDArray[np.int64], weigh: _Weigh, scores: Values) -> Values:
    """Returns each image's mean score by weights of the other folds, and the same calibrated.

    Args:
        malignant: Labels. (N,)
        part: The fold of each image: what is fitted to the others is measured on it. (N,)
        weigh: Returns weights (K,) by labels and scores.
        scores: Scores by each network. (N, K)

    Returns:
        The scores, and the probabilities. (2, N)
    """
    found = np.empty((2, len(scores)))
    for number in np.unique(part):
        own = part == number
        labels, others = malignant[~own], scores[~own]
        weights = weigh(labels, others)
        found[0, own] = scores[own] @ weights
        found[1, own] = fit_calibration(labels, others @ weights)(found[0, own])
    return found


def _measure(malignant: Flags, found: Values, single: Values, looks: Looks) -> dict[str, Any]:
    """Returns how well images are ranked and calibrated, with all looks and with one.

    Args:
        malignant: Labels. (N,)
        found: As ``_cross_fit`` returns it, with all looks. (2, N)
        single: The same with one. (2, N)
        looks: How many.
    """
    many, one = (draw_ranking(malignant, scores) for scores in (found[0], single[0]))
    measured: dict[str, Any] = {
        "images": int(malignant.size),
        "malignant": int(malignant.sum()),
        "fusion": _rank(many),
        **_calibration_error(malignant, found[1]),
    }
    if looks > 1:
        measured["one_look"] = {
            "fusion": _rank(one),
            **_calibration_error(malignant, single[1]),
            "gain": _rank(many.less(one)),
        }
    return measured


def _calibration_error(malignant: Flags, probabilities: Values) -> dict[str, Any]:
    return {
        "calibration_error": expected_calibration_error(malignant, probabilities),
        "calibration_error_if_perfect": asdict(error_if_perfect(probabilities)),
    }


def _measure_withheld(
    malignant: Flags, probabilities: Values, points: Sequence[OperatingPoint], withheld: Flags
) -> dict[str, Any]:
    """Returns how many of each class the gate withholds, and what is still called.

    A withheld image is called nothing: a malignant one counts as missed, a benign one as benign.
    """
    counts = {
        name: {"images": int(of.sum()), "withheld": int(withheld[of].sum())}
        for name, of in (("malignant", malignant), ("benign", ~malignant))
    }
    pairs = [number for each in counts.values() for number in (each["withheld"], each["images"])]
    rates = {}
    for point in points:
        called = (probabilities >= point.threshold) & ~withheld
        rates[point.name] = {
            "sensitivity": _mean(called[malignant].astype(np.float64)),
            "specificity": _mean((~called)[~malignant].astype(np.float64)),
        }
    return {**counts, "p_value": fisher_p_value(*pairs), "operating_points": rates}


def _overlaps(folds: Sequence[FoldNetwork], lesion: Lesion, looks: Looks) -> list[float]:
    """Returns the Jaccard of the mean map, with one look, in float32 with one, of each network.

    Args:
        folds: The fold of each network that held the image back.
        lesion: The image; it has a mask.
        looks: Number of orientations they look.
    """
    image = Image.fromarray(read_image(lesion.image_path))
    truth = read_mask(cast("Path", lesion.mask_path))
    maps = []
    for fold in folds:
        apart, exact = (answers["lesion"] for answers in fold.ask(image, looks))
        each = (apart.mean(axis=0), apart[0], exact[0])
        maps.append([resize_probability(one, *truth.shape) for one in each])
    joined = [np.mean(of_all, axis=0) for of_all in zip(*maps, strict=True)]
    found = [*joined, *(full for full, _, _ in maps)]
    return [jaccard(count(one >= MASK_THRESHOLD, truth)) for one in found]


def _measure_masks(overlaps: Values, looks: int) -> dict[str, Any]:
    measured: dict[str, Any] = {
        "images": len(overlaps),
        "fusion": _jaccard(overlaps[:, 0]),
    }
    if looks > 1:
        measured["one_look"] = {
            "fusion": _jaccard(overlaps[:, 1]),
            "gain": _jaccard(overlaps[:, 0] - overlaps[:, 1]),
        }
    return measured
