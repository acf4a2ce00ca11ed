"""What the networks of a release say about images they were not trained on.

A network that ships has seen every training image, so nothing can be measured with it. Networks
of the same recipe were trained in folds: those are exported in the precision that ships, and each
is asked about the images it was not trained on, at as many orientations as the release will be.

Where activation maps point, of images that the networks were not trained on.

Numbers of a release with their 95 % intervals, as JSON values.

How an image becomes a probability: networks fused, calibrated, measured out of fold.

How an image becomes an outline: maps averaged, and measured out of fold.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.data.folders import DataFolders
from dermfuse.data.isic2016 import Lesion
from dermfuse.data.labels import Label
from dermfuse.errors import ExportError
from dermfuse.evaluation.bootstrap import (
    Interval,
    ResampledRanking,
    fisher_p_value,
    percentile_interval,
    resample,
)
from dermfuse.evaluation.calibrate import (
    calibrate,
    choose_points,
    draw_folds,
    fit_calibration,
    fit_weights,
)
from dermfuse.folders import core_count
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import read_image, resize_probability, squeeze_mask
from dermfuse.imaging.symmetries import Answers, Looks
from dermfuse.predictions.metrics import (
    auc,
    average_precision,
    count,
    expected_calibration_error,
    jaccard,
)
from dermfuse.predictions.scores import ScoreTable
from dermfuse.publishing.onnx import export_network, load_calibration
from dermfuse.publishing.quantization import quantize_network
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


@dataclass(frozen=True, slots=True, eq=False)
class FoldAnswers:
    """One fold's class network, asked.

    Attributes:
        held_back: The images it was not trained on.
        malignant: Their scores with all looks, in the precision that ships. (N,)
        one_look: The same of the image as it is. (N,)
        exact: The scores of one look in float32. (N,)
        embedding: Of the held-back images, the mean over looks. (N, E)
        activations: Their activation maps, the mean over looks. (N, h, w)
        trained_on: The images it was trained on.
        embeddings: Of those. (M, E)
    """

    held_back: tuple[Lesion, ...]
    malignant: NDArray[np.float64]
    one_look: NDArray[np.float64]
    exact: NDArray[np.float64]
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
        looks: At how many orientations of an image it looks.
    """

    def ask(lesion: Lesion) -> tuple[float, float, float, NDArray[np.float32], NDArray[np.float32]]:
        image = Image.fromarray(read_image(lesion.image_path))
        apart = look_at(fold.shipped, image, looks)
        one = float(apart["malignant"][0])
        exact = one
        if fold.exact.card != fold.shipped.card:
            exact = float(look_at(fold.exact, image, 1)["malignant"][0])
        embedding, activation = (
            apart[name].mean(axis=0) for name in ("embedding", "activation_map")
        )
        return float(apart["malignant"].mean()), one, exact, embedding, activation

    rows = each_image(ask, fold.held_back)
    malignant, one_look, exact, embedding, activation = zip(*rows, strict=True)
    return FoldAnswers(
        held_back=fold.held_back,
        malignant=np.array(malignant),
        one_look=np.array(one_look),
        exact=np.array(exact),
        embedding=np.stack(embedding),
        activations=np.stack(activation),
        trained_on=fold.trained_on,
        embeddings=embed(fold.shipped, fold.trained_on, looks=looks),
    )


def embed(network: Network, lesions: Sequence[Lesion], *, looks: Looks) -> NDArray[np.float32]:
    """Returns a network's embedding of each image, the mean over looks, (N, E)."""

    def ask(lesion: Lesion) -> NDArray[np.float32]:
        image = Image.fromarray(read_image(lesion.image_path))
        return np.asarray(look_at(network, image, looks)["embedding"].mean(axis=0))

    return np.stack(each_image(ask, lesions))


def look_at(network: Network, image: Image.Image, looks: Looks) -> Answers:
    """Returns what one network says about one image, looks apart: each output (looks, ...)."""
    return ask_all([network], image, looks=looks)[0]


def each_image(ask: Callable[[Lesion], _T], lesions: Iterable[Lesion]) -> list[_T]:
    """Returns what ``ask`` returns for each image, in their order; one per processor at once."""
    with ThreadPoolExecutor(core_count()) as pool:
        return list(pool.map(ask, lesions))


def require_recipe(final: TrainedNetwork, fold: TrainedNetwork) -> None:
    """Refuses a fold that was trained in another way than the network that ships.

    How images were split, seeds, threads and devices are not the recipe; whether there are
    teachers is, and which is not: each fold has teachers that never saw it.

    Raises:
        ExportError: Names the first setting that differs.
    """
    wanted, given = final.config.to_mapping(), fold.config.to_mapping()
    if bool(final.config.train.teachers) != bool(fold.config.train.teachers):
        taught, other = (final, fold) if final.config.train.teachers else (fold, final)
        raise ExportError(
            f"{taught.run} was trained with teachers, {other.run} without",
            expected="folds of the recipe that ships",
            action="Train the folds again, or name others",
        )
    for table in _RECIPE:
        for key, ships in wanted[table].items():
            name, other = f"{table}.{key}", given[table][key]
            if name not in _NOT_RECIPE and ships != other:
                raise ExportError(
                    f"{fold.run} was trained with {name} {other!r}, {final.run} with {ships!r}",
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


Map = NDArray[np.float32]

PLACES = ("inside", "outside", "nowhere")
"""Where what speaks most for malignancy lies, beside the lesion; nowhere if all speaks against."""

_GRID_PX = 96  # maps have 6 x 6 places: finer than that


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
    maps = [_by_image(folds) for _, folds in asked]
    lesions = [
        lesion
        for fold in asked[0][1]
        for lesion in fold.held_back
        if lesion.mask_path
        and lesion.label is not None
        and all(lesion.image_id in of_network for of_network in maps)
    ]

    def place(lesion: Lesion) -> str:
        each = [{"activation_map": of_network[lesion.image_id]} for of_network in maps]
        mask = squeeze_mask(read_mask(cast("Path", lesion.mask_path)), _GRID_PX)
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


def find_peak(activation: Map, mask: NDArray[np.bool_]) -> str:
    """Returns where the place lies that adds most to the log-odds: one of ``PLACES``.

    Args:
        activation: (h, w)
        mask: Of the lesion, (S, S).

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


def _by_image(folds: Sequence[FoldAnswers]) -> Mapping[str, Map]:
    return {
        lesion.image_id: activation
        for fold in folds
        for lesion, activation in zip(fold.held_back, fold.activations, strict=True)
    }


Values = NDArray[np.float64]
Flags = NDArray[np.bool_]


def rank(malignant: Flags, scores: Values) -> dict[str, Any]:
    """Returns AUC and AP of scores.

    Args:
        malignant: (N,)
        scores: (N,)
    """
    return _named(_ranked(malignant, scores), _draw_ranking(malignant, scores))


def gain_in_ranking(malignant: Flags, scores: Values, before: Values) -> dict[str, Any]:
    """Returns by how much scores rank the same images better than others do, paired.

    Args:
        malignant: (N,)
        scores: (N,)
        before: (N,)
    """
    values = _ranked(malignant, scores) - _ranked(malignant, before)
    drawn = _draw_ranking(malignant, scores) - _draw_ranking(malignant, before)
    return _named(values, drawn)


def mean(values: Values) -> dict[str, float]:
    """Returns the mean over images; of differences it is the paired difference.

    Args:
        values: (N,)
    """

    def statistic(draw: Values) -> Values:
        return np.asarray(draw @ values / draw.sum(axis=1))[:, None]

    drawn = resample(statistic, np.zeros(values.size, dtype=np.int64))
    return _rate(float(values.mean()), percentile_interval(drawn[:, 0]))


def _ranked(malignant: Flags, scores: Values) -> Values:
    return np.array([auc(malignant, scores), average_precision(malignant, scores)])


def _draw_ranking(malignant: Flags, scores: Values) -> Values:
    def statistic(draw: Values) -> Values:
        ranking = ResampledRanking(malignant, scores, draw)
        return np.stack([ranking.auc(), ranking.average_precision()], axis=1)

    return resample(statistic, malignant.astype(np.int64))


def _named(values: Values, drawn: Values) -> dict[str, Any]:
    return {
        name: _rate(float(values[index]), percentile_interval(drawn[:, index]))
        for index, name in enumerate(("auc", "average_precision"))
    }


def _rate(value: float, interval: Interval) -> dict[str, float]:
    return {"value": value, "low": interval.low, "high": interval.high}


DEFAULT_POINT = "sensitivity90"
"""Missing a melanoma costs more than a needless look."""

_PARTS = 5  # of a hold-out, to fit weights and calibration on the rest

Asked = tuple[NetworkCard, Sequence[FoldAnswers]]


@dataclass(frozen=True, slots=True, eq=False)
class FusedClasses:
    """How images are scored, and how those were that all networks held back.

    Attributes:
        release: The part of the release.
        out_of_fold: The mean score of each image, by weights of the other folds.
    """

    release: ClassRelease
    out_of_fold: ScoreTable


@dataclass(frozen=True, slots=True, eq=False)
class _Answers:
    """What all class networks say about the images that all of them held back.

    Attributes:
        ids: Sorted. N
        malignant: (N,)
        part: The fold of each image: what is fitted to the others is measured on it. (N,)
        scores: With all looks, a column per network. (N, K)
        one_look: The same with one. (N, K)
        exact: The same with one, in float32. (N, K)
    """

    ids: tuple[str, ...]
    malignant: Flags
    part: NDArray[np.int64]
    scores: Values
    one_look: Values
    exact: Values


@dataclass(frozen=True, slots=True, eq=False)
class _Fused:
    """What weights and a calibration of the other folds make of each image.

    Attributes:
        scores: The weighted mean. (N,)
        probabilities: The same, calibrated. (N,)
    """

    scores: Values
    probabilities: Values

    def only(self, chosen: Flags) -> "_Fused":
        return _Fused(self.scores[chosen], self.probabilities[chosen])


def make_class_release(
    asked: Sequence[Asked],
    *,
    looks: int = 1,
    subsets: Mapping[str, frozenset[str]] | None = None,
    withheld: Mapping[str, bool] | None = None,
) -> FusedClasses:
    """Returns how the networks' scores are fused, calibrated and called, and how good that is.

    Weights, calibration and thresholds that ship are fitted to all images. What is measured of
    them is not: the image of a fold is scored with weights and a calibration that were fitted to
    the other folds.

    Args:
        asked: The card of each network, and what its folds answered; any number of networks.
        looks: At how many orientations of an image they looked.
        subsets: Names and image ids that are measured apart as well.
        withheld: Of every image whether the gate withholds it; None where there is no gate.
    """
    answers = _join(asked)
    malignant = answers.malignant
    weights = fit_weights(malignant, answers.scores)
    fused = answers.scores @ weights
    found = _cross_fit(answers, answers.scores)
    calibration = calibrate(malignant, fused)
    calibration = replace(
        calibration,
        error_after=expected_calibration_error(malignant, found.probabilities),
        mean_after=float(found.probabilities.mean()),
    )
    points = choose_points(malignant, calibration.calibration(fused))
    single = _cross_fit(answers, answers.one_look) if looks > 1 else None
    measured: dict[str, Any] = {
        "how": "out of fold; weights and calibration were fitted to the images of other folds",
        "looks": looks,
        **_measure(malignant, found, single),
        "fusion_in_float32": rank(malignant, _cross_fit(answers, answers.exact).scores),
        "networks": {
            card.name: rank(malignant, column)
            for (card, _), column in zip(asked, answers.scores.T, strict=True)
        },
        "calibration": asdict(calibration),
        "subsets": {
            name: _measure(malignant[chosen], found.only(chosen), single and single.only(chosen))
            for name, ids in (subsets or {}).items()
            if (chosen := np.isin(answers.ids, sorted(ids))).any()
        },
    }
    if withheld is not None:
        lost = np.array([withheld[image_id] for image_id in answers.ids])
        called = calibration.calibration(fused)
        measured["withheld"] = _measure_withheld(malignant, called, points, lost)
    members = tuple(
        Member(card.name, float(weight)) for (card, _), weight in zip(asked, weights, strict=True)
    )
    measured["activation"] = measure_activation(asked, members)
    return FusedClasses(
        ClassRelease(members, calibration.calibration, points, DEFAULT_POINT, measured),
        ScoreTable(answers.ids, found.scores),
    )


def _join(asked: Sequence[Asked]) -> _Answers:
    rows: list[dict[str, tuple[float, float, float]]] = []
    for _, folds in asked:
        rows.append({})
        for fold in folds:
            ids = [lesion.image_id for lesion in fold.held_back]
            each = zip(fold.malignant, fold.one_look, fold.exact, strict=True)
            rows[-1] |= dict(zip(ids, each, strict=True))
    labels = {
        lesion.image_id: (bool(lesion.label), number)
        for number, fold in enumerate(asked[0][1])
        for lesion in fold.held_back
        if lesion.label is not None
    }
    ids = sorted(set.intersection(*(set(row) for row in rows)) & labels.keys())
    malignant = np.array([labels[image_id][0] for image_id in ids])
    part = np.array([labels[image_id][1] for image_id in ids])
    if len(asked[0][1]) == 1:
        part = draw_folds(malignant, folds=_PARTS)
    table = np.array([[row[image_id] for row in rows] for image_id in ids])  # (N, K, 3)
    return _Answers(tuple(ids), malignant, part, *np.moveaxis(table, 2, 0))


def _cross_fit(answers: _Answers, scores: Values) -> _Fused:
    """Returns the mean score of each image by weights of the other folds, and by their line."""
    fused, probabilities = np.empty(len(scores)), np.empty(len(scores))
    for number in np.unique(answers.part):
        own = answers.part == number
        labels, others = answers.malignant[~own], scores[~own]
        weights = fit_weights(labels, others)
        fused[own] = scores[own] @ weights
        probabilities[own] = fit_calibration(labels, others @ weights)(fused[own])
    return _Fused(fused, probabilities)


def _measure(malignant: Flags, found: _Fused, single: _Fused | None) -> dict[str, Any]:
    measured: dict[str, Any] = {
        "images": int(malignant.size),
        "malignant": int(malignant.sum()),
        "fusion": rank(malignant, found.scores),
        "calibration_error": expected_calibration_error(malignant, found.probabilities),
    }
    if single is not None:
        measured["one_look"] = {
            "fusion": rank(malignant, single.scores),
            "calibration_error": expected_calibration_error(malignant, single.probabilities),
            "gain": gain_in_ranking(malignant, found.scores, single.scores),
        }
    return measured


def _measure_withheld(
    malignant: Flags, probabilities: Values, points: Sequence[OperatingPoint], withheld: Flags
) -> dict[str, Any]:
    """Returns how many of each class the gate withholds, and what is called nevertheless.

    A withheld image is called nothing: a malignant one counts as missed, a benign one as benign.
    """
    counts = {
        name: {"images": int(of.sum()), "withheld": int(withheld[of].sum())}
        for name, of in (("malignant", malignant), ("benign", ~malignant))
    }
    pairs = [(each["withheld"], each["images"]) for each in counts.values()]
    rates = {}
    for point in points:
        called = (probabilities >= point.threshold) & ~withheld
        rates[point.name] = {
            "sensitivity": mean(called[malignant].astype(np.float64)),
            "specificity": mean((~called)[~malignant].astype(np.float64)),
        }
    return {**counts, "p_value": fisher_p_value(*pairs[0], *pairs[1]), "operating_points": rates}


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
        looks: At how many orientations of an image they look.
        subsets: Names and image ids that are measured apart as well.
    """
    keepers = [
        {x.image_id: fold for fold in folds for x in fold.held_back} for _, folds in networks
    ]
    lesions = _held_back_by_all(networks)

    def measure(lesion: Lesion) -> list[float]:
        return _overlaps([keeper[lesion.image_id] for keeper in keepers], lesion, looks)

    overlaps = np.array(each_image(measure, lesions))
    ids = [lesion.image_id for lesion in lesions]
    measured = {
        "how": "out of fold; maps are averaged with equal weights",
        "looks": int(looks),
        **_measure_masks(overlaps, looks),
        "fusion_in_float32": {"jaccard": mean(overlaps[:, 2])},
        "networks": {
            card.name: {"jaccard": mean(overlaps[:, 3 + index])}
            for index, (card, _) in enumerate(networks)
        },
        "subsets": {
            name: _measure_masks(overlaps[chosen], looks)
            for name, wanted in (subsets or {}).items()
            if (chosen := np.isin(ids, sorted(wanted))).any()
        },
    }
    weight = 1.0 / len(networks)
    members = tuple(Member(card.name, weight) for card, _ in networks)
    return MaskRelease(members, MASK_THRESHOLD, measured)


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
        folds: Of each network the one that held the image back.
        lesion: The image; it has a mask.
        looks: At how many orientations they look.
    """
    image = Image.fromarray(read_image(lesion.image_path))
    truth = read_mask(cast("Path", lesion.mask_path))
    maps: list[list[NDArray[np.float32]]] = []
    for fold in folds:
        apart = look_at(fold.shipped, image, looks)["lesion"]
        same = fold.exact.card == fold.shipped.card
        exact = apart[0] if same else look_at(fold.exact, image, 1)["lesion"][0]
        maps.append(
            [resize_probability(one, *truth.shape) for one in (apart.mean(axis=0), apart[0], exact)]
        )
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
