"""How far an analysis moves when its image is disturbed: a report as JSON, CSV and a page.

Disturbances are mild to strong, each drawn from a seed. The lesion stays what it is, so score and
mask should stay too; what they move is error. Seven are the other orientations of the whole file:
a dermatoscope has no up and no down. One is a control: where the lesion is removed, the score
should fall and the mask should be empty.
"""

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.records import Analysis
from dermfuse.data.synthetic import Interference, make_frame, paint_interference
from dermfuse.errors import ConfigError, DataError, RunError
from dermfuse.imaging.symmetries import SYMMETRIES, describe_looks
from dermfuse.predictions.metrics import count, jaccard
from dermfuse.records import build_record
from dermfuse.records.folders import NOTICE, new_folder, read_json, write_json, write_text
from dermfuse.report.page import Page, Table, render_page, say, template

Pixels = NDArray[np.uint8]
"""RGB, (H, W, 3)."""
Mask = NDArray[np.bool_]
"""Lesion, (H, W)."""
Planes = NDArray[np.float32]

ORIENTATION = "orientation"
"""The kind of the seven that turn or mirror an image; the image as it is would be the eighth."""

_DRAWN = (
    Interference.HAIR,
    Interference.INK,
    Interference.RULER,
    Interference.GEL_BUBBLES,
    Interference.DARK_CORNERS,
)

ORIENTATIONS = "orientations"
"""Name of the row about all eight orientations of an image."""

JSON_NAME, CSV_NAME, PAGE_NAME = "stress.json", "stress.csv", "report.html"

COLUMNS = (
    *("disturbance", "median shift", "95 % below", "mean change", "calls changed"),
    *("mask agreement", "refused"),
)
"""Heads of the table."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Disturbance:
    """One way to disturb an image.

    Args:
        name: Its name, with its strength.
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


def disturbances() -> Mapping[str, Disturbance]:
    """Returns all of them by name, kind by kind, mild before strong."""
    shares = {f"blur, {100 * one:.1f} % of the short side": one for one in (0.004, 0.008, 0.016)}
    qualities = {f"JPEG, quality {one}": one for one in (50, 20, 8)}
    lights = {f"brightness x {one:g}": (one,) for one in (0.6, 0.8, 1.2, 1.4)}
    casts = {
        "colour cast, reddish": (1.12, 0.97, 0.92),
        "colour cast, bluish": (0.92, 0.98, 1.12),
        "colour cast, yellowish": (1.06, 1.02, 0.84),
    }
    listed = [
        *map(_painted, _DRAWN),
        *_strengths("blur", _blur, shares),
        *_strengths("JPEG", _compress, qualities),
        *_strengths("brightness", _light, lights),
        *_strengths("colour cast", _light, casts),
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
        rng: Draws the grain.
    """
    margin = max(2, round(0.03 * min(mask.shape)))
    hole = _filtered(mask, ImageFilter.MaxFilter(2 * margin + 1)) > 0.5
    if not hole.any() or hole.all():
        return image.copy()
    pixels = image.astype(np.float32)
    grain = pixels[~hole].std(axis=0).mean() * 0.25
    noise = rng.normal(0, grain, mask.shape).astype(np.float32)[:, :, None]
    rim = ImageFilter.GaussianBlur(max(1.0, 0.01 * min(hole.shape)))
    soft = np.maximum(_filtered(hole, rim), hole)[:, :, None]  # no edge is left to outline
    return _to_pixels(pixels * (1 - soft) + (_fill(pixels, ~hole) + noise) * soft)


@dataclass(frozen=True, slots=True)
class StressRow:
    """What one disturbance does; shares and probabilities in [0, 1].

    The row ``ORIENTATIONS`` sums up the image as it is and its seven others: there a shift is the
    largest less the smallest probability of an image, a call has changed if the calls of an image
    are not all the same, and an image is refused if it is in one orientation or more. Orientations
    that are refused have no probability and no call; means are over the seven others. An image of
    which all seven are refused has no shift.

    Args:
        name: Name of the disturbance.
        kind: Its kind.
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
        release: Name of the networks.
        images: That were looked at.
        refused: How many of them were withheld before any disturbance, and left out.
        threshold: Probability from which an image is called malignant.
        seed: Seed of the disturbances.
        looks: Number of orientations of an image each network looked.
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


def stress(
    analyzer: Analyzer,
    images: Iterable[Pixels],
    *,
    chosen: Mapping[str, Disturbance] | None = None,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> StressReport:
    """Returns how far analyses move under disturbances; no truth is needed.

    The lesion that a disturbance keeps clear of, or removes, is the one outlined before.

    Args:
        analyzer: Outlines an image even if it is withheld (``Analyzer(score_all=True)``).
        images: RGB, (H, W, 3) each.
        chosen: The disturbances; all if left out.
        seed: Each image and disturbance has a generator of its own, made from it.
        progress: Called with the number of images done.

    Raises:
        DataError: All images are withheld.
        ConfigError: ``seed`` is below 0.
    """
    if seed < 0:
        raise ConfigError(f"seed is {seed}", expected="0 or more")
    kinds = list((disturbances() if chosen is None else chosen).values())
    before: list[float] = []
    found: list[list[tuple[float, float, float]]] = []  # (images, disturbances, 3)
    looked = 0
    for index, image in enumerate(images):
        first = analyzer.analyze(image)
        if not np.isnan(probability := _probability(first)):
            before.append(probability)
            rngs = (np.random.default_rng((seed, index, number)) for number in range(len(kinds)))
            pairs = zip(kinds, rngs, strict=True)
            found.append([_disturb(image, _mask(first), analyzer, one, rng) for one, rng in pairs])
        looked = index + 1
        if progress:
            progress(looked)
    if not before:
        raise DataError(
            f"all of {looked} images are unlike those the networks learnt from",
            expected="dermoscopy images",
        )
    values = np.array(found).transpose(1, 2, 0)  # (disturbances, 3, images)
    threshold = analyzer.operating_point.threshold
    row = partial(_row, before=np.array(before), threshold=threshold)
    rows = [row(one, values[[at]]) for at, one in enumerate(kinds)]
    turned = [at for at, one in enumerate(kinds) if one.kind == ORIENTATION]
    if len(turned) == len(SYMMETRIES) - 1:
        together = Disturbance(ORIENTATIONS, ORIENTATION, lambda image, _mask, _rng: image)
        rows.insert(turned[-1] + 1, row(together, values[turned]))
    refused = looked - len(before)
    name, looks = analyzer.release.name, analyzer.looks
    return StressReport(name, looked, refused, threshold, seed, looks, tuple(rows))


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
    calls = max(scored, key=lambda row: row.calls_changed or 0.0)
    outlines = min(scored, key=lambda row: row.mask_agreement or 0.0)
    share = _share(calls.calls_changed)
    findings = [
        ("Most calls changed by", calls.name, _say("calls", share=share, at=report.threshold)),
        ("Outlines moved most by", outlines.name, _say("outlines", of=outlines.mask_agreement)),
    ]
    if row := report.orientations:
        span = _say("span", said=say_orientations(report), shift=_number(row.median_shift))
        findings.append(("Calls that depend on the orientation", _share(row.calls_changed), span))
    note, rows = _say("note", report=report), tuple(map(table_row, report.rows))
    looks = f"Each network looks at {describe_looks(report.looks)} of an image"
    facts = (
        ("Networks", report.release),
        ("Threshold", f"{report.threshold:.3f}"),
        ("Looks", looks),
    )
    table = Table("Each disturbance", note, COLUMNS, rows)
    lead = _say("lead", report=report)
    return Page("What disturbances do", lead, (table,), facts, tuple(findings))


def say_orientations(report: StressReport) -> str:
    """Returns how often the orientation of an image decides its call; empty if not measured."""
    row = report.orientations
    return _say("orientations", share=_share(row.calls_changed)) if row else ""


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


def _painted(interference: Interference) -> Disturbance:
    def paint(image: Pixels, mask: Mask, rng: np.random.Generator) -> Pixels:
        height, width = mask.shape
        planes = np.ascontiguousarray(image.transpose(2, 0, 1)).astype(np.float32)
        planes /= np.float32(255)
        paint_interference(rng, make_frame((width, height)), planes, mask, interference)
        return _to_pixels(planes.transpose(1, 2, 0) * np.float32(255))

    name = interference.value.replace("_", " ")
    return Disturbance(name, name, paint)


def _strengths(
    kind: str, change: Callable[[Pixels, _T], Pixels], strengths: Mapping[str, _T]
) -> Iterator[Disturbance]:
    for name, strength in strengths.items():

        def apply(image: Pixels, _: Mask, __: np.random.Generator, at: _T = strength) -> Pixels:
            return change(image, at)

        yield Disturbance(name, kind, apply)


def _blur(image: Pixels, share: float) -> Pixels:
    radius = share * min(image.shape[:2])
    return np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(radius)))


def _compress(image: Pixels, quality: int) -> Pixels:
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality)
    return np.array(Image.open(buffer).convert("RGB"))


def _light(image: Pixels, gains: tuple[float, ...]) -> Pixels:
    return _to_pixels(image.astype(np.float32) * np.array(gains, dtype=np.float32))


def _oriented(*, mirror: bool, turns: int) -> Disturbance:
    def apply(image: Pixels, _mask: Mask, _rng: np.random.Generator) -> Pixels:
        return np.ascontiguousarray(np.rot90(image[:, ::-1] if mirror else image, turns))

    def restore(mask: Mask) -> Mask:
        back = np.rot90(mask, -turns)
        return back[:, ::-1] if mirror else back

    steps = ["mirroring"] * mirror + [f"rotation by {90 * turns} degrees"] * (turns > 0)
    return Disturbance(" and ".join(steps), ORIENTATION, apply, restore)


def _to_pixels(values: Planes) -> Pixels:
    rounded: Pixels = (np.clip(values, 0, 255) + np.float32(0.5)).astype(np.uint8)
    return np.ascontiguousarray(rounded)


def _filtered(mask: Mask, how: ImageFilter.Filter) -> Planes:
    grey = Image.fromarray(mask.view(np.uint8) * np.uint8(255))
    return np.asarray(grey.filter(how), dtype=np.float32) / np.float32(255)


def _fill(pixels: Planes, known: Mask) -> Planes:
    """Returns pixels with the unknown ones filled, smoothly, from the known around them."""
    height, width = known.shape
    if known.all() or min(height, width) <= 1:
        return pixels
    weighed = np.dstack([pixels * known[:, :, None], known]).astype(np.float32)
    small = _resized(weighed, ((width + 1) // 2, (height + 1) // 2), Image.Resampling.BOX)
    colour, weight = small[:, :, :3], small[:, :, 3:]
    coarse = np.where(weight > 1e-3, colour / np.maximum(weight, 1e-3), 0)
    filled = _fill(coarse.astype(np.float32), weight[:, :, 0] > 1e-3)
    fine = _resized(filled, (width, height), Image.Resampling.BILINEAR)
    return np.where(known[:, :, None], pixels, fine)


def _resized(planes: Planes, size: tuple[int, int], how: Image.Resampling) -> Planes:
    each = (np.ascontiguousarray(plane) for plane in np.moveaxis(planes, 2, 0))
    return np.dstack([np.asarray(Image.fromarray(plane).resize(size, how)) for plane in each])


def _disturb(
    image: Pixels, known: Mask, analyzer: Analyzer, one: Disturbance, rng: np.random.Generator
) -> tuple[float, float, float]:
    """Returns the probability, how well the masks agree, and the area as a share of that before.

    Each is NaN where there is none; without an outline before, there is none to keep.
    """
    after = analyzer.analyze(one.apply(image, known, rng))
    mask = one.restore(_mask(after))
    if not known.any():
        return _probability(after), np.nan, np.nan
    return _probability(after), jaccard(count(mask, known)), float(mask.mean() / known.mean())


def _probability(of: Analysis) -> float:
    """Returns the probability; NaN where the image is withheld."""
    probability = None if of.is_dermoscopy is False else of.malignant_probability
    return np.nan if probability is None else probability


def _mask(of: Analysis) -> Mask:
    if of.mask is None:
        raise DataError(
            "an analysis without a mask",
            expected="one for every image, also where it is withheld",
            action="Ask an Analyzer with score_all=True",
        )
    return of.mask


def _row(
    one: Disturbance, found: NDArray[np.float64], *, before: NDArray[np.float64], threshold: float
) -> StressRow:
    """Returns the row of a disturbance, or of several together.

    Args:
        one: What it is called.
        found: Probability, agreement and area after each. (D, 3, images)
        before: The probability. (images,)
        threshold: Probability from which an image is called malignant.
    """
    after, agreement, area = np.moveaxis(found, 1, 0)
    scored = ~np.isnan(after).all(axis=0)
    values = np.vstack([before, after])[:, scored]
    called = values >= threshold  # of a refused one False, which is left out of both counts
    most, least = called.any(axis=0), (called | np.isnan(values)).all(axis=0)
    shift = np.nanmax(values, axis=0) - np.nanmin(values, axis=0) if scored.any() else np.zeros(0)
    return StressRow(
        name=one.name,
        kind=one.kind,
        images=before.size,
        refused=float(np.isnan(after).any(axis=0).mean()),
        median_shift=float(np.median(shift)) if shift.size else None,
        largest_shift=float(np.quantile(shift, 0.95)) if shift.size else None,
        mean_change=float(np.nanmean(after - before)) if shift.size else None,
        calls_changed=float((most & ~least).mean()) if shift.size else None,
        mask_agreement=None if one.removes_lesion else _mean(agreement),
        still_outlined=_mean(area),
    )


def _mean(values: NDArray[np.float64]) -> float:
    return 0.0 if np.isnan(values).all() else float(np.nanmean(values))


def _say(sentence: str, **values: object) -> str:
    return say(template("publishing", "stress.txt"), sentence, **values)


def _render_csv(report: StressReport) -> str:
    text = io.StringIO(newline="")
    names = [field.name for field in fields(StressRow)]
    writer = csv.DictWriter(text, names, lineterminator="\n", quoting=csv.QUOTE_ALL)
    writer.writeheader()
    writer.writerows(map(asdict, report.rows))
    return text.getvalue()


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f} %"
