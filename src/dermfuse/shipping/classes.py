"""How an image becomes a probability: networks fused, calibrated, measured out of fold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dermfuse.evaluation.calibrate import calibrate, draw_folds, fit_calibration
from dermfuse.evaluation.fisher import fisher_p_value
from dermfuse.evaluation.operating import choose_points
from dermfuse.evaluation.weights import fit_weights
from dermfuse.metrics import expected_calibration_error
from dermfuse.release.cards import NetworkCard
from dermfuse.release.folder import ClassRelease, Member
from dermfuse.release.operating import OperatingPoint
from dermfuse.scores import ScoreTable
from dermfuse.shipping.activation import measure_activation
from dermfuse.shipping.out_of_fold import FoldAnswers
from dermfuse.shipping.rates import gain_in_ranking, mean, rank

DEFAULT_POINT = "sensitivity90"
"""Missing a melanoma costs more than a needless look."""

_PARTS = 5  # of a hold-out, to fit weights and calibration on the rest

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
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
        "calibration": calibration.to_dict(),
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
