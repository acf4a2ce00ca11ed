"""From predictions to numbers: each metric, its bootstrap draws, and the mean over seeds.

All models that predict the same images see the same draws, so that two of them are compared
draw by draw, and the seeds of one are averaged draw by draw. What can be said of a difference
follows from the errors of measured and published numbers, and from Holm's rule.
"""

import csv
from collections.abc import Collection, Sequence
from dataclasses import astuple, dataclass, fields
from math import sqrt
from pathlib import Path
from statistics import stdev

import numpy as np

from dermfuse.config import Task
from dermfuse.data.folders import Truth
from dermfuse.errors import DataError
from dermfuse.evaluation.bootstrap import DRAWS, Drawn, Z, draw_calls, draw_ranking, paired_test
from dermfuse.evaluation.bootstrap import draw_masks as draw_counts
from dermfuse.evaluation.matching import (
    Coverage,
    ScoredImages,
    SegmentedImages,
    match_masks,
    match_scores,
)
from dermfuse.predictions.folder import MANIFEST_NAME, read_predictions
from dermfuse.predictions.metrics import Counts
from dermfuse.records import Estimate, PairedTest
from dermfuse.records.folders import is_fresh, write_text
from dermfuse.reproduction.paper import TEST_IMAGES, TEST_MALIGNANT, Metric

_THRESHOLD = 0.5


def holm(p_values: Sequence[float]) -> tuple[float, ...]:
    """Returns Holm's corrected p-values of one family of tests, in the order given.

    The smallest of m is multiplied by m, the next by m - 1 and so on; none is below the one
    before it, none above 1. Below 0.05 they keep the chance of one false finding in the whole
    family below 0.05, whatever the tests have in common.

    Example:
        >>> holm([0.25, 0.125, 0.5])
        (0.5, 0.375, 0.5)
    """
    values = np.array(p_values, dtype=np.float64)
    order = np.argsort(values, kind="stable")
    factors = np.arange(values.size, 0, -1)
    corrected = np.empty_like(values)
    corrected[order] = np.minimum(np.maximum.accumulate(factors * values[order]), 1.0)
    return tuple(corrected.tolist())


def auc_error(auc: float, *, malignant: int, benign: int) -> float:
    """Returns the standard error of a published AUC, which is all there is to know it from.

    Hanley and McNeil (Radiology 1982): with Q1 = A / (2 - A) and Q2 = 2 A^2 / (1 + A),
    the variance is (A (1 - A) + (m - 1)(Q1 - A^2) + (n - 1)(Q2 - A^2)) / (m n).

    Args:
        auc: In [0, 1].
        malignant: m, 1 or more.
        benign: n, 1 or more.

    Example:
        >>> round(auc_error(0.845, malignant=75, benign=304), 4)
        0.0293
    """
    q1, q2 = auc / (2 - auc), 2 * auc**2 / (1 + auc)
    parts = auc * (1 - auc) + (malignant - 1) * (q1 - auc**2) + (benign - 1) * (q2 - auc**2)
    return sqrt(max(parts, 0.0) / (malignant * benign))


def noise_margin(*errors: float | None) -> float:
    """Returns how far apart two numbers may lie by chance: 1.96 times their errors' root sum.

    Example:
        >>> round(noise_margin(0.03, None, 0.04), 3)
        0.098
    """
    return Z * sqrt(sum(error**2 for error in errors if error is not None))


@dataclass(frozen=True, slots=True, eq=False)
class Replicate(Drawn):
    """One model's metrics on one set of images, and in every bootstrap draw of them.

    Attributes:
        image_ids: The images, sorted.
        malignant_count: How many are malignant; None where masks are measured.
    """

    image_ids: tuple[str, ...]
    malignant_count: int | None


@dataclass(frozen=True, slots=True)
class Measurement(Estimate):
    """One metric of one row: the mean over the seeds, and its interval over images.

    Attributes:
        standard_error: Standard deviation of the draws: what other images would change.
        single_error: The same of one seed alone, mean over the seeds.
        deviation: Standard deviation between seeds; None of one.
        seeds: How many.
    """

    standard_error: float
    single_error: float
    deviation: float | None
    seeds: int


def paper_error(metric: Metric, paper: float, ours: Measurement, drawn: Replicate) -> float:
    """Returns the standard error of a published number, from the size of the paper's test set.

    An AUC's by Hanley and McNeil, a share of right classes by the binomial; what has no such
    formula (AP, metrics of masks) varies from image set to image set as ours does, rescaled to
    the paper's 75 malignant, or 379, images.
    """
    if metric == "auc":
        return auc_error(paper, malignant=TEST_MALIGNANT, benign=TEST_IMAGES - TEST_MALIGNANT)
    if drawn.malignant_count is None:
        return ours.single_error * sqrt(len(drawn.image_ids) / TEST_IMAGES)
    if metric == "accuracy":
        return sqrt(paper * (1 - paper) / TEST_IMAGES)
    return ours.single_error * sqrt(drawn.malignant_count / TEST_MALIGNANT)


def draw_folder(
    folder: Path,
    truth: Truth,
    task: Task,
    *,
    draws: int = DRAWS,
    only: Collection[str] | None = None,
) -> Replicate:
    """Returns the metrics of a predictions folder, in every draw.

    Counts of masks are kept in ``<folder>-counts.csv``, as reading large masks twice is slow, and
    read from there while that is younger than the predictions.

    Args:
        folder: A predictions folder of scores or of masks.
        truth: Labels or masks.
        task: Which of the two is measured.
        draws: Number of bootstrap draws.
        only: The images to measure on; None takes all.

    Raises:
        DermfuseError: The folder cannot be read or does not fit the truth.
    """
    if task == "classification":
        scored = match_scores(read_predictions(folder), truth)
        if scored is not None:
            return draw_scores(scored if only is None else scored.only(only), draws=draws)
    else:
        counted = _count_masks(folder, truth)
        if counted is not None:
            return draw_masks(counted if only is None else counted.only(only), draws=draws)
    raise DataError(
        f"{folder} and {truth.source} have no {task} in common",
        expected="scores and labels, or masks and masks",
    )


def draw_scores(images: ScoredImages, *, draws: int = DRAWS) -> Replicate:
    """Returns accuracy (at a score above 0.5), AUC and AP of scores, in every draw.

    Raises:
        DataError: A class is missing.
    """
    malignant, scores = images.malignant, images.scores
    ranking = draw_ranking(malignant, scores, draws=draws)
    calls = draw_calls(malignant, scores, scores > _THRESHOLD, draws=draws)
    return Replicate(
        names=ranking.names + calls.names,
        values=np.append(ranking.values, calls.values),
        draws=np.hstack([ranking.draws, calls.draws]),
        image_ids=images.coverage.evaluated,
        malignant_count=int(malignant.sum()),
    )


def draw_masks(images: SegmentedImages, *, draws: int = DRAWS) -> Replicate:
    """Returns the challenge's metrics of masks, means over the images, in every draw."""
    drawn = draw_counts(images.counts, draws=draws)
    return Replicate(drawn.names, drawn.values, drawn.draws, images.coverage.evaluated, None)


def measure(seeds: Sequence[Drawn], metric: Metric) -> Measurement:
    """Returns a metric's mean over seeds, with interval and errors."""
    values, columns = zip(*(drawn.column(metric) for drawn in seeds), strict=True)
    mean = _mean(seeds)
    found = mean.estimates()[metric]
    return Measurement(
        value=found.value,
        low=found.low,
        high=found.high,
        standard_error=float(mean.column(metric)[1].std()),
        single_error=float(np.mean([column.std() for column in columns])),
        deviation=stdev(values) if len(values) > 1 else None,
        seeds=len(seeds),
    )


def compare_drawn(
    a: Sequence[Replicate], b: Sequence[Replicate], metric: Metric
) -> PairedTest | None:
    """Returns the paired bootstrap of two rows, seed by seed; None unless the images are equal.

    Where one row has several replicates for each of the other's (a network per fold, against
    their ensemble), each of the other's stands for as many.
    """
    count = max(len(a), len(b))
    if not a or not b or count % len(a) or count % len(b):
        return None
    a, b = ([each for each in row for _ in range(count // len(row))] for row in (a, b))
    if any(one.image_ids != other.image_ids for one, other in zip(a, b, strict=True)):
        return None
    return paired_test(_mean(a), _mean(b), metric)


def _mean(seeds: Sequence[Drawn]) -> Drawn:
    """Returns the mean over the seeds, draw by draw."""
    values, draws = ([getattr(one, name) for one in seeds] for name in ("values", "draws"))
    return Drawn(seeds[0].names, np.mean(values, axis=0), np.mean(draws, axis=0))


def _count_masks(folder: Path, truth: Truth) -> SegmentedImages | None:
    kept = folder.with_name(f"{folder.name}-counts.csv")
    if is_fresh(kept, [folder / MANIFEST_NAME]):
        _, *lines = csv.reader(kept.read_text(encoding="utf-8").splitlines())
        counts = tuple(Counts(*map(int, line[1:])) for line in lines)
        coverage = Coverage(tuple(line[0] for line in lines), (), (), len(truth.masks))
        return SegmentedImages(coverage, counts)
    counted = match_masks(read_predictions(folder), truth)
    if counted is not None:
        pairs = zip(counted.coverage.evaluated, counted.counts, strict=True)
        rows = [("image_id", *(field.name for field in fields(Counts)))]
        rows += [(image_id, *map(str, astuple(count))) for image_id, count in pairs]
        write_text(kept, "".join(f"{','.join(row)}\n" for row in rows))
    return counted
