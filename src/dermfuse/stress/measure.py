"""Measuring how far an analysis moves when its image is disturbed."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dermfuse.errors import DataError
from dermfuse.looks import SYMMETRIES
from dermfuse.metrics import count, jaccard
from dermfuse.runs import NOTICE
from dermfuse.stress.disturbances import ORIENTATION, Disturbance, Pixels, disturbances

ORIENTATIONS = "orientations"
"""Name of the row about all eight orientations of an image."""


class Answer(Protocol):
    """What is asked of an analysis: ``dermfuse.Analysis`` has it."""

    @property
    def is_dermoscopy(self) -> bool | None:
        """Whether the image is like those the networks learnt from; False refuses it."""

    @property
    def malignant_probability(self) -> float | None:
        """Calibrated; what is said of an image that is refused is not looked at."""

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """Where the lesion is."""


Ask = Callable[[Pixels], Answer]
"""From an image to its analysis."""


@dataclass(frozen=True, slots=True)
class StressRow:
    """What one disturbance does; shares and probabilities in [0, 1].

    The row ``ORIENTATIONS`` sums up the image as it is and its seven others: there a shift is the
    largest less the smallest probability of an image, a call has changed if the calls of an image
    are not all the same, and an image is refused if it is in one orientation or more. Orientations
    that are refused have no probability and no call; means are over the seven others.

    Args:
        name: Of the disturbance.
        kind: Of it.
        images: That were scored before they were disturbed.
        refused: Share of them that is then unlike the images learnt from, and withheld.
        median_shift: Median of the absolute change of the probability, of those still scored.
        largest_shift: Its 95th percentile.
        mean_change: Mean of the change itself: above 0 the disturbance speaks for melanoma.
        calls_changed: Share whose call at the operating point changed.
        mask_agreement: Mean Jaccard of the masks before and after, laid over each other; None
            for the control.
        still_outlined: Mean area of the mask after, as a share of the area before.
    """

    name: str
    kind: str
    images: int
    refused: float
    median_shift: float | None
    largest_shift: float | None
    mean_change: float | None
    calls_changed: float | None
    mask_agreement: float | None
    still_outlined: float


@dataclass(frozen=True, slots=True)
class StressReport:
    """What disturbances do to analyses.

    Args:
        release: Of the networks.
        images: That were looked at.
        refused: Of them, withheld before any disturbance; they are left out.
        threshold: At which a probability becomes a call.
        seed: Of the disturbances.
        looks: At how many orientations of an image each network looked.
        rows: One per disturbance, and one that sums up the orientations.
    """

    release: str
    images: int
    refused: int
    threshold: float
    seed: int
    looks: int
    rows: tuple[StressRow, ...]

    @property
    def orientations(self) -> StressRow | None:
        """The row about all eight orientations of an image; None where they were not looked at."""
        return next((row for row in self.rows if row.name == ORIENTATIONS), None)

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values."""
        return {**asdict(self), "notice": NOTICE}


@dataclass(slots=True)
class _Seen:
    """What was found under one disturbance, image by image."""

    before: list[float]
    after: list[float | None]
    agreement: list[float]
    area: list[float]


def stress(  # noqa: PLR0913 — what stands in the report
    ask: Ask,
    images: Iterable[Pixels],
    *,
    release: str,
    threshold: float,
    looks: int = 1,
    chosen: Mapping[str, Disturbance] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> StressReport:
    """Returns how far analyses move under disturbances; no truth is needed.

    The lesion that a disturbance keeps clear of, or removes, is the one outlined before.

    Args:
        ask: Analyses an image, and outlines it even if it is withheld
            (``Analyzer(score_all=True)``).
        images: RGB, (H, W, 3) each.
        release: Name of the networks.
        threshold: Calibrated probability from which on an image is called malignant.
        looks: At how many orientations of an image each network looks, for the report.
        chosen: The disturbances; all if left out.
        seed: Each image and disturbance has a generator of its own, made from it.
        progress: Called with the number of images done.

    Raises:
        DataError: All images are withheld.
    """
    kinds = disturbances() if chosen is None else chosen
    seen = {name: _Seen([], [], [], []) for name in kinds}
    looked = refused = 0
    for index, image in enumerate(images):
        looked += 1
        before = ask(image)
        if _probability(before) is None:
            refused += 1
        else:
            for number, (name, one) in enumerate(kinds.items()):
                rng = np.random.default_rng((seed, index, number))
                disturbed = ask(one.apply(image, _mask(before), rng))
                _note(seen[name], one, before, disturbed)
        if progress:
            progress(looked)
    if looked == refused:
        raise DataError(
            f"all of {looked} images are unlike those the networks learnt from",
            expected="dermoscopy images",
        )
    rows = [_row(one, seen[name], threshold) for name, one in kinds.items()]
    turned = [name for name, one in kinds.items() if one.kind == ORIENTATION]
    if len(turned) == len(SYMMETRIES) - 1:
        place = list(kinds).index(turned[-1]) + 1
        rows.insert(place, _orientations([seen[name] for name in turned], threshold))
    return StressReport(release, looked, refused, threshold, seed, looks, tuple(rows))


def _note(seen: _Seen, one: Disturbance, before: Answer, after: Answer) -> None:
    seen.before.append(_probability(before) or 0.0)
    seen.after.append(_probability(after))
    known, mask = _mask(before), one.restore(_mask(after))
    if known.any():  # without an outline before, there is none to keep
        seen.agreement.append(jaccard(count(mask, known)))
        seen.area.append(float(mask.mean() / known.mean()))


def _probability(answer: Answer) -> float | None:
    return None if answer.is_dermoscopy is False else answer.malignant_probability


def _mask(answer: Answer) -> NDArray[np.bool_]:
    if answer.mask is None:
        raise DataError(
            "an analysis without a mask",
            expected="one for every image, also where it is withheld",
            action="Ask an Analyzer with score_all=True",
        )
    return answer.mask


def _row(one: Disturbance, seen: _Seen, threshold: float) -> StressRow:
    pairs = [(b, a) for b, a in zip(seen.before, seen.after, strict=True) if a is not None]
    before, after = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    change = after - before
    flipped = (after >= threshold) != (before >= threshold)
    scored = bool(pairs)
    return StressRow(
        name=one.name,
        kind=one.kind,
        images=len(seen.before),
        refused=1.0 - len(pairs) / len(seen.before),
        median_shift=float(np.median(np.abs(change))) if scored else None,
        largest_shift=float(np.quantile(np.abs(change), 0.95)) if scored else None,
        mean_change=float(change.mean()) if scored else None,
        calls_changed=float(flipped.mean()) if scored else None,
        mask_agreement=None if one.removes_lesion else _mean(seen.agreement),
        still_outlined=_mean(seen.area),
    )


def _orientations(seen: Sequence[_Seen], threshold: float) -> StressRow:
    """Returns the row about all orientations.

    Args:
        seen: Of each orientation but the image as it is; the same images in each.
        threshold: Of a call.
    """
    before = np.array(seen[0].before)
    others = np.array([one.after for one in seen], dtype=np.float64)  # (7, images); refused: NaN
    values = np.vstack([before, others])
    called = values >= threshold  # of a refused one False, which is left out of both counts
    most, least = called.any(axis=0), (called | np.isnan(values)).all(axis=0)
    span = np.nanmax(values, axis=0) - np.nanmin(values, axis=0)
    change = (others - before)[~np.isnan(others)]
    return StressRow(
        name=ORIENTATIONS,
        kind=ORIENTATION,
        images=len(before),
        refused=float(np.isnan(others).any(axis=0).mean()),
        median_shift=float(np.median(span)),
        largest_shift=float(np.quantile(span, 0.95)),
        mean_change=float(change.mean()) if change.size else None,
        calls_changed=float((most & ~least).mean()),
        mask_agreement=_mean([value for one in seen for value in one.agreement]),
        still_outlined=_mean([value for one in seen for value in one.area]),
    )


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if values else 0.0
