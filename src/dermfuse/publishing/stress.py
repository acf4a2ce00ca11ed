"""Measuring how far an analysis moves when its image is disturbed.

Disturbances of a dermoscopy image, mild to strong, each drawn from a seed.

The lesion stays what it is, so score and mask should stay too; what they move is error. Seven are
the other orientations of the whole file: a dermatoscope has no up and no down. One is a control:
where the lesion is removed, the score should fall and the mask should be empty.

A stress report as JSON, CSV and a page.
"""

import csv
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dermfuse.data.synthetic import Interference, make_frame, paint_interference
from dermfuse.errors import DataError, RunError
from dermfuse.folders import NOTICE, new_folder, read_json, write_json, write_text
from dermfuse.imaging.symmetries import SYMMETRIES, describe_looks
from dermfuse.predictions.metrics import count, jaccard
from dermfuse.records import build_record
from dermfuse.report import Finding, Page, Table, render_page

Pixels = NDArray[np.uint8]
"""RGB, (H, W, 3)."""
Mask = NDArray[np.bool_]
"""Lesion, (H, W)."""


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One way to disturb an image.

    Args:
        name: Of it, with its strength.
        kind: What it is of; the strengths of a kind share it.
        apply: From the image, its lesion and a generator to the disturbed image.
        restore: From a mask of the disturbed image to the same mask of the image itself.
        removes_lesion: Whether it is the control without a lesion.
    """

    name: str
    kind: str
    apply: Callable[[Pixels, Mask, np.random.Generator], Pixels]
    restore: Callable[[Mask], Mask] = lambda mask: mask
    removes_lesion: bool = False


ORIENTATION = "orientation"
"""The kind of the seven that turn or mirror an image; the image as it is would be the eighth."""


def disturbances() -> Mapping[str, Disturbance]:
    """Returns all of them by name, kind by kind, mild before strong."""
    listed = [
        *(_drawn(kind.value.replace("_", " "), kind) for kind in _DRAWN),
        *(_blurred(share) for share in (0.004, 0.008, 0.016)),
        *(_compressed(quality) for quality in (50, 20, 8)),
        *(_brightened(factor) for factor in (0.6, 0.8, 1.2, 1.4)),
        *(_tinted(name, gains) for name, gains in _TINTS.items()),
        *(_oriented(mirror=mirror, turns=turns) for mirror, turns in SYMMETRIES[1:]),
        Disturbance("lesion removed", "control", remove_lesion, removes_lesion=True),
    ]
    return MappingProxyType({one.name: one for one in listed})


def remove_lesion(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
    """Returns the image with skin in place of the lesion, grown by a margin.

    The hole is filled from its rim inwards, coarse to fine: each level of an image pyramid takes
    what is missing from the level below. The grain of the skin around is laid over it.

    Args:
        image: RGB, (H, W, 3).
        mask: The lesion, (H, W); without one the image stays as it is, and where the lesion fills
            the frame nothing is left to fill from.
        rng: Of the grain.
    """
    hole = _grown(mask, margin=max(2, round(0.03 * min(mask.shape))))
    if not hole.any() or hole.all():
        return image.copy()
    pixels = image.astype(np.float32)
    filled = _fill(pixels, ~hole)
    skin = pixels[~hole]
    grain = skin.std(axis=0).mean() * 0.25
    noise = rng.normal(0, grain, mask.shape).astype(np.float32)[:, :, None]
    soft = _softened(hole)[:, :, None]
    return _to_pixels(pixels * (1 - soft) + (filled + noise) * soft)


_DRAWN = (
    Interference.HAIR,
    Interference.INK,
    Interference.RULER,
    Interference.GEL_BUBBLES,
    Interference.DARK_CORNERS,
)
_TINTS: Mapping[str, tuple[float, float, float]] = MappingProxyType(
    {"reddish": (1.12, 0.97, 0.92), "bluish": (0.92, 0.98, 1.12), "yellowish": (1.06, 1.02, 0.84)}
)


def _drawn(name: str, interference: Interference) -> Disturbance:
    def apply(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        height, width = mask.shape
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
        planes /= np.float32(255)
        paint_interference(rng, make_frame((width, height)), planes, mask, interference)
        return _to_pixels(planes.transpose(1, 2, 0) * np.float32(255))

    return Disturbance(name, name, apply)


def _blurred(share: float) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        radius = share * min(image.shape[:2])
        return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))

    return Disturbance(f"blur, {100 * share:.1f} % of the short side", "blur", apply)


def _compressed(quality: int) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        buffer = io.BytesIO()
        Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
        return np.array(Image.open(buffer).convert("RGB"))

    return Disturbance(f"JPEG, quality {quality}", "JPEG", apply)


def _brightened(factor: float) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        return _to_pixels(image.astype(np.float32) * np.float32(factor))

    return Disturbance(f"brightness x {factor:g}", "brightness", apply)


def _tinted(name: str, gains: tuple[float, float, float]) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        return _to_pixels(image.astype(np.float32) * np.array(gains, dtype=np.float32))

    return Disturbance(f"colour cast, {name}", "colour cast", apply)


def _oriented(*, mirror: bool, turns: int) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirror else image, turns))

    def restore(mask: Mask) -> Mask:
        back = np.rot90(mask, -turns)
        return back[:, ::-1] if mirror else back

    steps = ["mirroring"] * mirror + [f"rotation by {90 * turns} degrees"] * (turns > 0)
    return Disturbance(" and ".join(steps), ORIENTATION, apply, restore)


def _to_pixels(values: NDArray[np.float32]) -> Pixels:
    rounded: Pixels = (np.clip(values, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(rounded)


def _grown(mask: Mask, *, margin: int) -> Mask:
    grey = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    return np.asarray(grey.filter(ImageFilter.MaxFilter(2 * margin + 1))) > 127


def _softened(hole: Mask) -> NDArray[np.float32]:
    """Returns the hole with a soft rim, in [0, 1]: no edge may be left to outline."""
    radius = max(1.0, 0.01 * min(hole.shape))
    grey = Image.fromarray(hole.view(np.uint8) * np.uint8(255))
    soft = np.asarray(grey.filter(ImageFilter.GaussianBlur(radius)), dtype=np.float32) / 255
    return np.asarray(np.maximum(soft, hole), dtype=np.float32)


def _fill(pixels: NDArray[np.float32], known: Mask) -> NDArray[np.float32]:
    """Returns pixels with the unknown ones filled, smoothly, from the known around them."""
    height, width = known.shape
    if known.all() or min(height, width) <= 1:
        return pixels
    half = ((width + 1) // 2, (height + 1) // 2)
    weight = _shrunk(known.astype(np.float32), half)
    colour = np.stack([_shrunk(pixels[..., c] * known, half) for c in range(3)], axis=-1)
    there = weight > 1e-3
    colour = np.where(there[..., None], colour / np.maximum(weight, 1e-3)[..., None], 0)
    coarse = _fill(colour.astype(np.float32), there)
    fine = np.stack([_stretched(coarse[..., c], (width, height)) for c in range(3)], axis=-1)
    return np.where(known[..., None], pixels, fine)


def _shrunk(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    return np.asarray(Image.fromarray(plane).resize(size, Image.Resampling.BOX))


def _stretched(plane: NDArray[np.float32], size: tuple[int, int]) -> NDArray[np.float32]:
    contiguous = np.ascontiguousarray(plane)
    return np.asarray(Image.fromarray(contiguous).resize(size, Image.Resampling.BILINEAR))


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


JSON_NAME, CSV_NAME, PAGE_NAME = "stress.json", "stress.csv", "report.html"

COLUMNS = (
    "disturbance",
    "median shift",
    "95 % below",
    "mean change",
    "calls changed",
    "mask agreement",
    "refused",
)
"""Heads of the table."""


def write_stress(report: StressReport, out: Path) -> Path:
    """Writes the report into a new folder and returns its page.

    Raises:
        RunError: The folder holds something.
        StorageError: It cannot be written.
    """
    new_folder(out, what="stress report")
    write_json(out / JSON_NAME, report.to_dict())
    write_text(out / CSV_NAME, _render_csv(report))
    page = out / PAGE_NAME
    write_text(page, render_page(build_page(report)))
    return page


def read_stress(path: Path) -> StressReport:
    """Returns the report in a ``stress.json``.

    Raises:
        RunError: The file is missing, damaged, or holds no such report.
    """
    kept = {key: value for key, value in read_json(path).items() if key != "notice"}
    kept = {"looks": 1, **kept}  # a report from before there were looks is of one
    return build_record(StressReport, kept, str(path), error=RunError)


def build_page(report: StressReport) -> Page:
    """Returns the page of a report."""
    scored = [
        row for row in report.rows if row.mask_agreement is not None and row.name != ORIENTATIONS
    ]
    worst_call = max(scored, key=lambda row: row.calls_changed or 0.0)
    worst_mask = min(scored, key=lambda row: row.mask_agreement or 0.0)
    return Page(
        title="What disturbances do",
        lead=(
            f"{report.images} images were analysed with {report.release}, disturbed and analysed "
            "again. The lesions stayed what they are, so whatever moved is error; where the "
            "lesion was removed, the probability should fall and the outline should vanish."
        ),
        findings=(
            Finding(
                "Most calls changed by",
                worst_call.name,
                note=f"{_share(worst_call.calls_changed)} of calls; an image is called malignant "
                f"from a probability of {report.threshold:.3f} on.",
            ),
            Finding(
                "Outlines moved most by",
                worst_mask.name,
                note=f"Jaccard {worst_mask.mask_agreement:.2f} with the outline before; 1 where "
                "both are the same.",
            ),
            *_orientation_findings(report),
        ),
        tables=(
            Table(
                title="Each disturbance",
                note=(
                    f"{report.images - report.refused} images"
                    + (
                        f"; {report.refused} more were withheld to begin with"
                        if report.refused
                        else ""
                    )
                    + ". Shift: absolute change of the probability; of the orientations together, "
                    f"the largest less the smallest. Seed {report.seed}."
                ),
                columns=COLUMNS,
                rows=tuple(tuple((cell, "") for cell in table_row(row)) for row in report.rows),
                paragraphs=(),
            ),
        ),
        charts=(),
        examples=(),
        examples_note="",
        facts=(
            ("Networks", report.release),
            ("Threshold", f"{report.threshold:.3f}"),
            ("Looks", f"Each network looks at {describe_looks(report.looks)} of an image"),
        ),
    )


def say_orientations(report: StressReport) -> str:
    """Returns how often the orientation of an image decides its call; empty if not measured."""
    row = report.orientations
    if row is None:
        return ""
    return (
        "The call changes between the eight orientations in "
        f"{_share(row.calls_changed)} of scored images."
    )


def _orientation_findings(report: StressReport) -> tuple[Finding, ...]:
    row = report.orientations
    if row is None:
        return ()
    return (
        Finding(
            "Calls that depend on the orientation",
            _share(row.calls_changed),
            note=f"{say_orientations(report)} Half of them move by {_number(row.median_shift)} "
            "or more from the least to the most suspicious orientation.",
        ),
    )


def table_row(row: StressRow) -> tuple[str, ...]:
    """Returns a row of the table as text, as ``COLUMNS``."""
    return (
        row.name,
        _number(row.median_shift),
        _number(row.largest_shift),
        "-" if row.mean_change is None else f"{row.mean_change:+.3f}",
        _share(row.calls_changed),
        f"area x {row.still_outlined:.2f}"
        if row.mask_agreement is None
        else f"{row.mask_agreement:.3f}",
        _share(row.refused),
    )


def _render_csv(report: StressReport) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL)
    names = [field.name for field in fields(StressRow)]
    writer.writerow(names)
    for row in report.rows:
        values = [getattr(row, name) for name in names]
        writer.writerow(["" if value is None else value for value in values])
    return text.getvalue()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
