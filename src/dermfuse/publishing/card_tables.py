"""The tables of a model card, each from its content."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from math import inf
from operator import attrgetter

from dermfuse.estimates import Estimate
from dermfuse.imaging.colours import TONES
from dermfuse.imaging.symmetries import describe_looks
from dermfuse.publishing.card import (
    Card,
    Facts,
    Measured,
    Outlining,
    Scoring,
    Withheld,
    flatten,
)
from dermfuse.publishing.census import Spread, TrainingCensus
from dermfuse.publishing.stress import COLUMNS, StressReport, say_orientations, table_row
from dermfuse.release.cards import NetworkCard
from dermfuse.release.folder import Release
from dermfuse.report.folder import markdown_table
from dermfuse.report.words import MISSED

_UNMEASURED = "not measured"
_SETTINGS = {
    "network": "model.network",
    "backbone": "model.backbone",
    "starts from": "model.init",
    "split": "data.split",
    "without lesions of the test set": "data.exclude_test_duplicates",
    "input, px": "data.input_size",
    "augmentation": "augment.enabled",
    "drawn anew in every epoch": "augment.fresh",
    "samples of a benign image": "augment.benign_copies",
    "samples of a malignant image": "augment.malignant_copies",
    "samples drawn for masks": "augment.segmentation_draws",
    "class loss": "loss.class_loss",
    "mask loss": "loss.mask_loss",
    "epochs": "train.epochs",
    "batch size": "train.batch_size",
    "learning rate": "train.learning_rate",
    "schedule": "train.schedule",
    "BatchNorm": "train.batch_norm",
    "moving average of the weights": "train.ema_decay",
    "seed": "train.seed",
}


def glance(card: Card) -> str:
    """Returns the numbers that a reader looks for first."""
    scoring, outlining = card.measured.scoring, card.measured.outlining
    point, size = card.release.classes.point(), sum(each.bytes for each in card.networks.values())
    missed = card.release.classes.sensitivity_with_missed(point)
    rows = [
        ("AUC", rate(scoring.fusion.auc) if scoring else _UNMEASURED),
        ("average precision", rate(scoring.fusion.average_precision) if scoring else _UNMEASURED),
        (f"sensitivity at {point.name}", rate(point.sensitivity)),
        *([(f"the same, {MISSED}", rate(missed))] if missed else []),
        (f"specificity at {point.name}", rate(point.specificity)),
        ("calibration error", f"{scoring.calibration.error_after:.3f}" if scoring else _UNMEASURED),
        ("Jaccard of outlines", rate(outlining.fusion.jaccard) if outlining else _UNMEASURED),
        (f"{len(card.networks)} networks, all files", f"{size / 1e6:.2f} MB"),
    ]
    return markdown_table(("images not trained on", "value (95 % interval)"), rows)


def networks(card: Card) -> str:
    """Returns what ships: each network, its input, size and precision."""
    weights = {
        member.name: member.weight
        for part in (card.release.classes, card.release.masks)
        for member in part.members
    }
    rows = [
        (
            network.name,
            network.task,
            network.backbone,
            f"{network.input.size} x {network.input.size}",
            network.precision,
            f"{network.parameters:,}",
            f"{network.bytes / 1e6:.2f} MB",
            f"{weights[name]:.3f}",
        )
        for name, network in card.networks.items()
    ]
    heads = ("network", "answers", "backbone", "input, px", "precision", "parameters", "file")
    return markdown_table((*heads, "weight in the mean"), rows)


def files(card: Card) -> str:
    """Returns the files of the release with their SHA-256."""
    rows = [(network.file, f"`{network.sha256}`") for network in card.networks.values()]
    if card.release.gate:
        rows.append((card.release.gate.file, f"`{card.release.gate.sha256}`"))
    return markdown_table(("file", "SHA-256"), rows)


def licences(card: Card) -> str:
    """Returns where the weights began, and under which licences."""
    rows = [(network.name, network.weights_licence) for network in card.networks.values()]
    return markdown_table(("network", "weights, their publisher and licence"), rows)


def training_images(census: TrainingCensus) -> str:
    """Returns the counts of the training images."""
    known = census.benign + census.malignant
    return markdown_table(
        ("", "n"),
        [
            ("images", f"{census.images:,}"),
            ("benign", _of(census.benign, known)),
            ("malignant", _of(census.malignant, known)),
            ("with a lesion mask", _of(census.masks, census.images)),
            ("named and missing", _named(census.missing)),
            ("left out: they show lesions of the test set", _named(census.duplicates)),
            ("shorter side, px: smallest, median, largest", spread(census.short_side_px)),
            ("longer side, px: smallest, median, largest", spread(census.long_side_px)),
        ],
    )


def tones(census: TrainingCensus) -> str:
    """Returns the histogram of skin tones."""
    skin, limits = census.skin, [inf, *TONES.values()]
    ranges = dict(zip(TONES, map(_range, pairwise(limits)), strict=True))
    rows = [
        (tone.name, ranges[tone.name], _of(tone.images, skin.images), f"{tone.malignant:,}")
        for tone in skin.tones
    ]
    return markdown_table(("class", "ITA, degrees", "images", "malignant"), rows)


def started(networks: Mapping[str, NetworkCard]) -> str:
    """Returns what each network was trained on, from what and where."""
    keys = ("data", "init", "epochs", "seed", "device", "precision", "commit")
    rows = [
        (network.name, *(str(network.training.get(key, "not stated")) for key in keys))
        for network in networks.values()
    ]
    return markdown_table(("network", *keys), rows)


def recipes(facts: Facts) -> str:
    """Returns the settings of each training side by side."""
    configurations = facts.configurations
    rows = [
        (label, *(_setting(attrgetter(path)(one)) for one in configurations.values()))
        for label, path in _SETTINGS.items()
    ]
    return markdown_table(("setting", *configurations), rows)


def ranking(scoring: Scoring) -> str:
    """Returns AUC and average precision of the fusion and of each network."""
    named = {"all together": scoring.fusion, **scoring.networks}
    rows = [(name, rate(of.auc), rate(of.average_precision)) for name, of in named.items()]
    return markdown_table(("network", "AUC", "average precision"), rows)


def outlines(outlining: Outlining) -> str:
    """Returns Jaccard of the fusion and of each network."""
    named = {"all together": outlining.fusion, **outlining.networks}
    return markdown_table(
        ("network", "Jaccard"), [(name, rate(of.jaccard)) for name, of in named.items()]
    )


def operating_points(release: Release) -> str:
    """Returns the thresholds to choose from."""
    rows = [
        (
            f"{point.name} (default)" if point == release.classes.point() else point.name,
            f"{point.threshold:.3f}",
            rate(point.sensitivity),
            rate(point.specificity),
        )
        for point in release.classes.operating_points
    ]
    return markdown_table(("name", "threshold", "sensitivity", "specificity"), rows)


def calibration(scoring: Scoring) -> str:
    """Returns the calibration error before and after."""
    found = scoring.calibration
    share = f"{found.malignant / found.images:.3f}"
    return markdown_table(
        ("", "expected calibration error", "mean probability", "malignant share"),
        [
            ("scores as they are", f"{found.error_before:.3f}", f"{found.mean_before:.3f}", share),
            ("temperature alone", f"{found.error_of_temperature:.3f}", "", ""),
            ("calibrated", f"{found.error_after:.3f}", f"{found.mean_after:.3f}", share),
        ],
    )


def parity(networks: Mapping[str, NetworkCard]) -> str:
    """Returns how far each file's answers are from those of what it was made from."""
    rows = [
        (network.name, network.parity.against, f"{network.parity.images:,}", answer, f"{by:.2g}")
        for network in networks.values()
        for answer, by in network.parity.largest_difference.items()
    ]
    return markdown_table(("network", "beside", "images", "answer", "largest difference"), rows)


def precisions(networks: Sequence[NetworkCard]) -> str:
    """Returns what networks measured in several precisions do in each."""
    rows = [
        (
            network.name,
            precision,
            f"{network.measured.n:,}, {network.measured.split}",
            name,
            f"{value:.4f}",
        )
        for network in networks
        if network.measured
        for precision, metrics in network.measured.metrics.items()
        for name, value in metrics.items()
    ]
    return markdown_table(("network", "precision", "images", "metric", "value"), rows)


def cost(measured: Measured) -> str:
    """Returns what the precision that ships costs, out of fold; empty where it is not stated."""
    scoring, outlining = measured.scoring, measured.outlining
    pairs = []
    if scoring and scoring.fusion_in_float32:
        exact, ships = scoring.fusion_in_float32, (scoring.one_look or scoring).fusion
        pairs += [
            ("AUC", exact.auc, ships.auc),
            ("average precision", exact.average_precision, ships.average_precision),
        ]
    if outlining and outlining.fusion_in_float32:
        single = (outlining.one_look or outlining).fusion
        pairs.append(("Jaccard", outlining.fusion_in_float32.jaccard, single.jaccard))
    rows = [
        (name, rate(before), rate(after), f"{after.value - before.value:+.4f}")
        for name, before, after in pairs
    ]
    return markdown_table(("together", "float32", "as shipped", "change"), rows) if rows else ""


def looks(measured: Measured) -> str:
    """Returns what more looks gain beside one; empty where there is one."""
    scoring, outlining = measured.scoring, measured.outlining
    rows = []
    if scoring and scoring.one_look:
        single, gain = scoring.one_look.fusion, scoring.one_look.gain
        rows += [
            ("AUC", rate(single.auc), rate(scoring.fusion.auc), _gain(gain.auc)),
            (
                "average precision",
                rate(single.average_precision),
                rate(scoring.fusion.average_precision),
                _gain(gain.average_precision),
            ),
        ]
    if outlining and outlining.one_look:
        one = outlining.one_look
        both = rate(one.fusion.jaccard), rate(outlining.fusion.jaccard)
        rows.append(("Jaccard", *both, _gain(one.gain.jaccard)))
    return markdown_table(("together", "one look", "as shipped", "gain"), rows) if rows else ""


def subsets(measured: Measured) -> str:
    """Returns what was measured of some images apart; empty where nothing was."""
    scoring, outlining = measured.scoring, measured.outlining
    rows = []
    for name, of in (scoring.subsets if scoring else {}).items():
        count = f"{of.images:,}, {of.malignant:,} malignant"
        rows += [
            (name, count, "AUC", rate(of.fusion.auc)),
            (name, count, "average precision", rate(of.fusion.average_precision)),
            (name, count, "calibration error", f"{of.calibration_error:.3f}"),
        ]
    for name, outlined in (outlining.subsets if outlining else {}).items():
        rows.append((name, f"{outlined.images:,}", "Jaccard", rate(outlined.fusion.jaccard)))
    return markdown_table(("images", "n", "", "value"), rows) if rows else ""


def withheld(of: Withheld) -> str:
    """Returns how many images of each class get no probability, and what that costs."""
    rows = [
        (name, f"{one.images:,}", _of(one.withheld, one.images))
        for name, one in (("malignant", of.malignant), ("benign", of.benign))
    ]
    counts = markdown_table(("dermoscopy", "n", "withheld"), rows)
    points = markdown_table(
        ("withheld as not called", "sensitivity", "specificity"),
        [
            (name, rate(one.sensitivity), rate(one.specificity))
            for name, one in of.operating_points.items()
        ],
    )
    return f"{counts}\n\n{points}"


def peaks(scoring: Scoring) -> str:
    """Returns where the activation maps of each class point."""
    rows = [
        (name, f"{of.images:,}", *(_of(n, of.images) for n in (of.inside, of.outside, of.nowhere)))
        for name, of in scoring.activation.items()
    ]
    heads = ("images with a true mask", "n", "in the lesion", "out of it", "nothing speaks for it")
    return markdown_table(heads, rows)


def gate(card: Card) -> str:
    """Returns which images are unlike those learnt from."""
    rows = [
        (kind, f"{of.images:,}", percent(of.flagged), percent(1 - of.flagged))
        for kind, of in card.measured.flagged.items()
    ]
    return markdown_table(("images", "n", "flagged", "not flagged"), rows)


def stress(report: StressReport) -> str:
    """Returns how far disturbances move scores and outlines."""
    return markdown_table(COLUMNS, [table_row(row) for row in report.rows])


def stress_looks(report: StressReport) -> str:
    """Returns what the orientation of an image does to its call, and how often it was looked at."""
    looks = f"Each network looked at {describe_looks(report.looks)} of an image."
    return f"{say_orientations(report)} {looks}".lstrip()


def listed(record: Mapping[str, object] | Sequence[tuple[str, str]]) -> str:
    """Returns names and values, whatever they are."""
    rows = flatten(record) if isinstance(record, Mapping) else record
    return markdown_table(("", "value"), rows)


def rate(of: Estimate) -> str:
    """Returns a number in [0, 1] with its interval."""
    return f"{of:.3f}"


def percent(share: float) -> str:
    """Returns a share in percent."""
    return f"{100 * share:.1f} %"


def spread(of: Spread, digits: int = 0) -> str:
    """Returns the three values of a spread."""
    return ", ".join(f"{value:,.{digits}f}" for value in (of.low, of.middle, of.high))


def _gain(of: Estimate) -> str:
    return f"{of:+.4f}"


def _of(count: int, whole: int) -> str:
    return f"{count:,} ({percent(count / whole)})" if whole else f"{count:,}"


def _named(ids: Sequence[str]) -> str:
    return f"{len(ids):,}{': ' if ids else ''}{', '.join(ids)}"


def _range(limits: tuple[float, float]) -> str:
    above, below = limits[1], limits[0]
    if below == inf:
        return f"above {above:g}"
    return f"{below:g} or less" if above == -inf else f"above {above:g}, to {below:g}"


def _setting(value: object) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else str(value)
