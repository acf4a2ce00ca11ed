"""What the networks of a release say about images they were not trained on.

A network that ships has seen every training image, so nothing can be measured with it. Networks
of the same recipe were trained in folds: those are exported in the precision that ships, and each
is asked about the images it was not trained on, at as many orientations as the release will be.
From their answers come how images are scored, called and outlined, and how good that is: numbers
with their 95 % intervals, as JSON values.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
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
from dermfuse.imaging.symmetries import Answers, Looks
from dermfuse.predictions.metrics import count, expected_calibration_error, jaccard
from dermfuse.predictions.scores import ScoreTable
from dermfuse.publishing.onnx import export_network, load_calibration
from dermfuse.publishing.plan import Weights
from dermfuse.publishing.quantization import quantize_network
from dermfuse.records.folders import core_count
from dermfuse.release.cards import NetworkCard, Precision
from dermfuse.release.folder import ClassRelease, MaskRelease, Member, OperatingPoint
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

    def ask(self, lesion: Lesion, looks: Looks) -> tuple[Answers, Answers]:
        """Returns what both networks say about an image, looks apart; the exact one looks once."""
        image = Image.fromarray(read_image(lesion.image_path))
        apart = look_at(self.shipped, image, looks)
        same = self.exact.card == self.shipped.card
        return apart, apart if same else look_at(self.exact, image, 1)


@dataclass(frozen=True, slots=True, eq=False)
class FoldAnswers:
    """One fold's class network, asked.

    Attributes:
        held_back: The images it was not trained on.
        scores: With all looks and with one, in the precision that ships; with one in float32.
            (N, 3)
        embedding: Embeddings of the held-back images, the mean over looks. (N, E)
        activations: Their activation maps, the mean over looks. (N, h, w)
        trained_on: The images it was trained on.
        embeddings: Embeddings of the images it was trained on. (M, E)
    """

    held_back: tuple[Lesion, ...]
    scores: NDArray[np.float64]
    embedding: NDArray[np.float32]
    activations: NDArray[np.float32]
    trained_on: tuple[Lesion, ...]
    embeddings: NDArray[np.float32]


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


def ask_fold(fold: FoldNetwork, *, looks: Looks) -> FoldAnswers:
    """Returns what a class network says about all images of its fold.

    Args:
        fold: The network.
        looks: Number of orientations of an image it looks.
    """

    def ask(lesion: Lesion) -> tuple[list[float], NDArray[np.float32], NDArray[np.float32]]:
        apart, exact = fold.ask(lesion, looks)
        score = apart["malignant"]
        means = (apart[name].mean(axis=0) for name in ("embedding", "activation_map"))
        return [float(score.mean()), float(score[0]), float(exact["malignant"][0])], *means

    scores, embedding, activation = zip(*each_image(ask, fold.held_back), strict=True)
    return FoldAnswers(
        held_back=fold.held_back,
        scores=np.array(scores),
        embedding=np.stack(embedding),
        activations=np.stack(activation),
        trained_on=fold.trained_on,
        embeddings=embed(fold.shipped, fold.trained_on, looks=looks),
    )


def embed(
    network: Network, images: Sequence[Lesion | NDArray[np.uint8]], *, looks: Looks
) -> NDArray[np.float32]:
    """Returns a network's embedding of each image, the mean over looks, (N, E)."""

    def ask(one: Lesion | NDArray[np.uint8]) -> NDArray[np.float32]:
        pixels = read_image(one.image_path) if isinstance(one, Lesion) else one
        apart = look_at(network, Image.fromarray(pixels), looks)
        return np.asarray(apart["embedding"].mean(axis=0))

    return np.stack(each_image(ask, images))


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
    taught = [network for network in (final, fold) if network.config.train.teachers]
    if len(taught) == 1:
        other = fold if taught[0] is final else final
        raise _other_recipe(f"{taught[0].run} was trained with teachers, {other.run} without")
    wanted, given = final.config.to_mapping(), fold.config.to_mapping()
    for table in _RECIPE:
        for key, ships in wanted[table].items():
            name, has = f"{table}.{key}", given[table][key]
            if name not in _NOT_RECIPE and ships != has:
                raise _other_recipe(
                    f"{fold.run} was trained with {name} {has!r}, {final.run} with {ships!r}"
                )


def measure_activation(
    asked: Sequence[tuple[NetworkCard, Sequence[FoldAnswers]]], members: Sequence[Member]
) -> dict[str, Any]:
    """Returns how many maps of each class point into the lesion, out of it, and nowhere.

    Args:
        asked: The card of each network, and what its folds answered.
        members: Their weights, in this order.

    Returns:
        For ``malignant`` and ``benign`` the number of ``images``, and of each of ``PLACES``; images
        that have no true mask are not counted, and a class without any is left out.
    """
    maps = [
        {
            lesion.image_id: {"activation_map": activation}
            for fold in folds
            for lesion, activation in zip(fold.held_back, fold.activations, strict=True)
        }
        for _, folds in asked
    ]
    lesions = [
        lesion
        for fold in asked[0][1]
        for lesion in fold.held_back
        if lesion.mask_path and lesion.label is not None
        if all(lesion.image_id in of_network for of_network in maps)
    ]

    def place(lesion: Lesion) -> str:
        mask = squeeze_mask(read_mask(cast("Path", lesion.mask_path)), _GRID_PX)
        each = [of_network[lesion.image_id] for of_network in maps]
        return find_peak(join_activations(each, members), mask)

    places = each_image(place, lesions)
    counts = {}
    for label in (Label.MALIGNANT, Label.BENIGN):
        own = [found for found, x in zip(places, lesions, strict=True) if x.label == label]
        if own:
            counts[label.name.lower()] = {"images": len(own)} | {
                name: own.count(name) for name in PLACES
            }
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


def rank(malignant: Flags, scores: Values) -> dict[str, Any]:
    """Returns AUC and AP of scores, each with its interval.

    Args:
        malignant: Labels. (N,)
        scores: Scores of malignancy. (N,)
    """
    return _ranking(draw_ranking(malignant, scores))


def gain_in_ranking(malignant: Flags, scores: Values, before: Values) -> dict[str, Any]:
    """Returns by how much scores rank the same images better than others do, paired.

    Args:
        malignant: Labels. (N,)
        scores: Scores of malignancy. (N,)
        before: The scores to compare with. (N,)
    """
    return _ranking(draw_ranking(malignant, scores).less(draw_ranking(malignant, before)))


def mean(values: Values) -> dict[str, float]:
    """Returns the mean over images with its interval; of differences the paired difference.

    Args:
        values: One of each image. (N,)
    """
    drawn = draw_shares({"mean": (values, np.ones(values.size))}, np.zeros(values.size))
    return asdict(drawn.estimates()["mean"])


Asked = tuple[NetworkCard, Sequence[FoldAnswers]]

_Weigh = Callable[[Flags, Values], Values]
_HOW: Mapping[Weights, str] = {
    "fitted": "out of fold; weights and calibration were fitted to the images of other folds",
    "equal": "out of fold; all weights equal, calibration was fitted to the images of other folds",
}


def make_class_release(
    asked: Sequence[Asked],
    *,
    looks: int = 1,
    weights: Weights = "fitted",
    subsets: Mapping[str, frozenset[str]] | None = None,
    withheld: Mapping[str, bool] | None = None,
) -> tuple[ClassRelease, ScoreTable]:
    """Returns how the networks' scores are fused, calibrated and called, and how good that is.

    Weights, calibration and thresholds that ship are fitted to all images. What is measured of
    them is not: the image of a fold is scored with weights and a calibration that were fitted to
    the other folds.

    Args:
        asked: The card of each network, and what its folds answered; any number of networks.
        looks: Number of orientations of an image they looked.
        weights: How the networks are weighed.
        subsets: Names and image ids that are measured apart as well.
        withheld: Whether the gate withholds each image, by id; None where there is no gate.

    Returns:
        The part of the release, and the mean score of each image by weights of the other folds.
    """
    images = _join(asked)
    malignant = images.malignant
    many, one_look, exact = images.scores
    weigh = fit_weights if weights == "fitted" else _weigh_alike
    weighed = weigh(malignant, many)
    fused = many @ weighed
    found = _cross_fit(images, many, weigh)
    calibration = calibrate(malignant, fused, found[1])
    called = calibration.calibration(fused)
    points = choose_points(malignant, called)
    single = _cross_fit(images, one_look, weigh) if looks > 1 else None
    members = _members([card for card, _ in asked], weighed)
    measured: dict[str, Any] = {
        "how": _HOW[weights],
        "looks": looks,
        **_measure(malignant, found, single),
        "fusion_in_float32": rank(malignant, _cross_fit(images, exact, weigh)[0]),
        "networks": {
            member.name: rank(malignant, column)
            for member, column in zip(members, many.T, strict=True)
        },
        "calibration": asdict(calibration),
        "subsets": {
            name: _measure(
                malignant[own], found[:, own], None if single is None else single[:, own]
            )
            for name, own in _subsets(images.ids, subsets)
        },
    }
    if withheld is not None:
        lost = np.array([withheld[image_id] for image_id in images.ids])
        measured["withheld"] = _measure_withheld(malignant, called, points, lost)
    measured["activation"] = measure_activation(asked, members)
    release = ClassRelease(members, calibration.calibration, points, DEFAULT_POINT, measured)
    return release, ScoreTable(images.ids, found[0])


Folds = tuple[NetworkCard, Sequence[FoldNetwork]]


def make_mask_release(
    networks: Sequence[Folds],
    *,
    looks: Looks = 1,
    subsets: Mapping[str, frozenset[str]] | None = None,
) -> MaskRelease:
    """Returns how the networks' maps are averaged, and how well that outlines.

    Every map counts alike. Each image is outlined by the networks that held it back, and what was
    asked is forgotten at once: the maps of all images would not fit in memory.

    Args:
        networks: The card of each network, and its folds; any number of networks.
        looks: Number of orientations of an image they look.
        subsets: Names and image ids that are measured apart as well.
    """
    keepers = [
        {x.image_id: fold for fold in folds for x in fold.held_back} for _, folds in networks
    ]
    lesions = _held_back_by_all(networks)

    def measure(lesion: Lesion) -> list[float]:
        return _overlaps([keeper[lesion.image_id] for keeper in keepers], lesion, looks)

    overlaps = np.array(each_image(measure, lesions))
    members = _members([card for card, _ in networks], [1.0 / len(networks)] * len(networks))
    measured = {
        "how": "out of fold; maps are averaged with equal weights",
        "looks": int(looks),
        **_measure_masks(overlaps, looks),
        "fusion_in_float32": {"jaccard": mean(overlaps[:, 2])},
        "networks": {
            member.name: {"jaccard": mean(column)}
            for member, column in zip(members, overlaps.T[3:], strict=True)
        },
        "subsets": {
            name: _measure_masks(overlaps[own], looks)
            for name, own in _subsets([lesion.image_id for lesion in lesions], subsets)
        },
    }
    return MaskRelease(members, MASK_THRESHOLD, measured)


def _other_recipe(found: str) -> ExportError:
    return ExportError(
        found,
        expected="folds of the recipe that ships",
        action="Train the folds again, or name others",
    )


def _export(
    trained: TrainedNetwork, data: DataFolders, out: Path, precision: Precision
) -> tuple[NetworkCard, NetworkCard]:
    """Returns the cards of a network in float32 and in the precision that ships."""
    seen = load_calibration(trained, data)
    exact = export_network(trained, out, images=seen[:_PARITY_IMAGES])
    if precision == "float32":
        return exact, exact
    return exact, quantize_network(out / f"{exact.name}.json", out, seen, precision=precision)


def _ranking(drawn: Drawn) -> dict[str, Any]:
    found = drawn.estimates()
    return {name: asdict(found[name]) for name in ("auc", "average_precision")}


@dataclass(frozen=True, slots=True, eq=False)
class _SharedImages:
    """The images that all class networks held back, and what each network says about them.

    Attributes:
        ids: Sorted. N
        malignant: (N,)
        part: The fold of each image: what is fitted to the others is measured on it. (N,)
        scores: The three scores of ``FoldAnswers``, by K networks. (3, N, K)
    """

    ids: tuple[str, ...]
    malignant: Flags
    part: NDArray[np.int64]
    scores: Values


def _members(cards: Sequence[NetworkCard], weights: Iterable[float]) -> tuple[Member, ...]:
    pairs = zip(cards, weights, strict=True)
    return tuple(Member(card.name, float(weight)) for card, weight in pairs)


def _subsets(
    ids: Sequence[str], subsets: Mapping[str, frozenset[str]] | None
) -> Iterator[tuple[str, Flags]]:
    """Yields the name of each subset that has images, and which they are."""
    for name, wanted in (subsets or {}).items():
        own = np.isin(ids, sorted(wanted))
        if own.any():
            yield name, own


def _join(asked: Sequence[Asked]) -> _SharedImages:
    rows = [
        {
            lesion.image_id: scores
            for fold in folds
            for lesion, scores in zip(fold.held_back, fold.scores, strict=True)
        }
        for _, folds in asked
    ]
    known = {
        lesion.image_id: (bool(lesion.label), number)
        for number, fold in enumerate(asked[0][1])
        for lesion in fold.held_back
        if lesion.label is not None
    }
    ids = sorted(set.intersection(*(set(row) for row in rows)) & known.keys())
    malignant, part = (np.array([known[image_id][at] for image_id in ids]) for at in (0, 1))
    if len(asked[0][1]) == 1:
        part = draw_folds(malignant, folds=_PARTS)
    table = np.array([[row[image_id] for row in rows] for image_id in ids])  # (N, K, 3)
    return _SharedImages(tuple(ids), malignant, part, np.moveaxis(table, 2, 0))


def _weigh_alike(_: Flags, scores: Values) -> Values:
    return np.full(scores.shape[1], 1.0 / scores.shape[1])


def _cross_fit(images: _SharedImages, scores: Values, weigh: _Weigh) -> Values:
    """Returns each image's mean score by weights of the other folds, and the same calibrated.

    Args:
        images: Whose labels and folds count.
        scores: Scores by each network. (N, K)
        weigh: Returns weights (K,) by labels and scores.

    Returns:
        The scores, and the probabilities. (2, N)
    """
    found = np.empty((2, len(scores)))
    for number in np.unique(images.part):
        own = images.part == number
        labels, others = images.malignant[~own], scores[~own]
        weights = weigh(labels, others)
        found[0, own] = scores[own] @ weights
        found[1, own] = fit_calibration(labels, others @ weights)(found[0, own])
    return found


def _measure(malignant: Flags, found: Values, single: Values | None) -> dict[str, Any]:
    """Returns how well images are ranked and calibrated; ``found`` as ``_cross_fit`` returns it."""
    measured: dict[str, Any] = {
        "images": int(malignant.size),
        "malignant": int(malignant.sum()),
        "fusion": rank(malignant, found[0]),
        **_calibration_error(malignant, found[1]),
    }
    if single is not None:
        measured["one_look"] = {
            "fusion": rank(malignant, single[0]),
            **_calibration_error(malignant, single[1]),
            "gain": gain_in_ranking(malignant, found[0], single[0]),
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
            "sensitivity": mean(called[malignant].astype(np.float64)),
            "specificity": mean((~called)[~malignant].astype(np.float64)),
        }
    return {**counts, "p_value": fisher_p_value(*pairs), "operating_points": rates}


def _held_back_by_all(networks: Sequence[Folds]) -> list[Lesion]:
    """Returns the images with a mask that a fold of every network held back, by id."""
    each = [
        {x.image_id: x for fold in folds for x in fold.held_back if x.mask_path}
        for _, folds in networks
    ]
    shared = set.intersection(*(set(one) for one in each))
    if not shared:
        raise ExportError(
            "no image with a mask was held back by a fold of every network that outlines",
            expected="folds of the same images",
            action="Train them with equal data.folds, seeds and images",
        )
    return [each[0][image_id] for image_id in sorted(shared)]


def _overlaps(folds: Sequence[FoldNetwork], lesion: Lesion, looks: Looks) -> list[float]:
    """Returns the Jaccard of the mean map, with one look, in float32 with one, of each network.

    Args:
        folds: The fold of each network that held the image back.
        lesion: The image; it has a mask.
        looks: Number of orientations they look.
    """
    truth = read_mask(cast("Path", lesion.mask_path))
    maps = []
    for fold in folds:
        apart, exact = (answers["lesion"] for answers in fold.ask(lesion, looks))
        each = (apart.mean(axis=0), apart[0], exact[0])
        maps.append([resize_probability(one, *truth.shape) for one in each])
    joined = [np.mean(of_all, axis=0) for of_all in zip(*maps, strict=True)]
    found = [*joined, *(full for full, _, _ in maps)]
    return [jaccard(count(one >= MASK_THRESHOLD, truth)) for one in found]


def _measure_masks(overlaps: Values, looks: int) -> dict[str, Any]:
    measured: dict[str, Any] = {
        "images": len(overlaps),
        "fusion": {"jaccard": mean(overlaps[:, 0])},
    }
    if looks > 1:
        measured["one_look"] = {
            "fusion": {"jaccard": mean(overlaps[:, 1])},
            "gain": {"jaccard": mean(overlaps[:, 0] - overlaps[:, 1])},
        }
    return measured
