"""What a model card is made from: a release, and what was measured of it elsewhere.

What a release says of itself in its ``measured`` and ``facts``, as records.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from dermfuse import __version__
from dermfuse.config import Config
from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.errors import ReleaseError
from dermfuse.evaluation.calibrate import CalibrationReport
from dermfuse.folders import NOTICE, read_json
from dermfuse.publishing.census import TrainingCensus, read_census, take_census
from dermfuse.publishing.stress import StressReport, read_stress
from dermfuse.records import build_record
from dermfuse.release.cards import NetworkCard, digest_file
from dermfuse.release.folder import (
    RELEASE_NAME,
    Rate,
    Release,
    choose_release,
    read_cards,
    read_release,
)

_T = TypeVar("_T")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well scores rank images by malignancy.

    Args:
        auc: Area under the ROC curve.
        average_precision: The challenge's ranking score.
    """

    auc: Rate
    average_precision: Rate


@dataclass(frozen=True, slots=True)
class Gain:
    """By how much a number rose on the same images, with its 95 % interval.

    Args:
        value: As measured.
        low: Lower end.
        high: Upper end.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class RankingGain:
    """What more looks gain in the ranking.

    Args:
        auc: In AUC.
        average_precision: In average precision.
    """

    auc: Gain
    average_precision: Gain


@dataclass(frozen=True, slots=True)
class ScoringOfOneLook:
    """The scores of the image as it is, beside those of all looks.

    Args:
        fusion: Of the networks together.
        gain: Of all looks beside one.
    """

    fusion: Ranking
    gain: RankingGain


@dataclass(frozen=True, slots=True)
class ScoredSubset:
    """Images that were measured apart.

    Args:
        images: How many.
        malignant: How many of them are malignant.
        fusion: Of the networks together.
        calibration_error: Of the calibrated mean.
    """

    images: int
    malignant: int
    fusion: Ranking
    calibration_error: float


@dataclass(frozen=True, slots=True)
class WithheldCount:
    """Images of one class before the gate.

    Args:
        images: How many.
        withheld: How many of them get no probability.
    """

    images: int
    withheld: int


@dataclass(frozen=True, slots=True)
class WithheldRates:
    """What an operating point reaches where a withheld image counts as not called malignant.

    Args:
        sensitivity: Share of malignant images that are called so.
        specificity: Share of benign images that are not.
    """

    sensitivity: Rate
    specificity: Rate


@dataclass(frozen=True, slots=True)
class Withheld:
    """What the gate does to dermoscopy of either class.

    Args:
        malignant: Malignant images.
        benign: Benign images.
        p_value: Of equal rates, by Fisher's exact test.
        operating_points: By name.
    """

    malignant: WithheldCount
    benign: WithheldCount
    p_value: float
    operating_points: Mapping[str, WithheldRates]


@dataclass(frozen=True, slots=True)
class Peaks:
    """Where the activation maps of one class' images point.

    Args:
        images: How many, with a true mask.
        inside: Of them the place that adds most to the log-odds lies in the lesion.
        outside: It lies out of the lesion.
        nowhere: No place adds to the log-odds.
    """

    images: int
    inside: int
    outside: int
    nowhere: int


@dataclass(frozen=True, slots=True)
class Scoring:
    """What was measured of the class networks, out of fold.

    Args:
        images: How many.
        malignant: How many of them are malignant.
        how: In words.
        fusion: Of the networks together.
        networks: Of each alone.
        calibration: Its error before and after.
        fusion_in_float32: Of the networks together before their precision was lowered; None where
            the release does not state it. With one look.
        looks: At how many orientations of an image the networks looked.
        one_look: The same with one; None where there is no more.
        subsets: Images that were measured apart, by name.
        withheld: By the gate; None where the release does not state it.
        activation: Where the activation maps point, by class.
    """

    images: int
    malignant: int
    how: str
    fusion: Ranking
    networks: Mapping[str, Ranking]
    calibration: CalibrationReport
    fusion_in_float32: Ranking | None = None
    looks: int = 1
    one_look: ScoringOfOneLook | None = None
    subsets: Mapping[str, ScoredSubset] = field(default_factory=lambda: _NOTHING)
    withheld: Withheld | None = None
    activation: Mapping[str, Peaks] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Overlap:
    """How well outlines lie on the true ones.

    Args:
        jaccard: Mean over the images.
    """

    jaccard: Rate


@dataclass(frozen=True, slots=True)
class OverlapGain:
    """What more looks gain in outlines.

    Args:
        jaccard: In the mean over the images.
    """

    jaccard: Gain


@dataclass(frozen=True, slots=True)
class OutliningOfOneLook:
    """The outlines of the image as it is, beside those of all looks.

    Args:
        fusion: Of the networks together.
        gain: Of all looks beside one.
    """

    fusion: Overlap
    gain: OverlapGain


@dataclass(frozen=True, slots=True)
class OutlinedSubset:
    """Images that were measured apart.

    Args:
        images: How many.
        fusion: Of the networks together.
    """

    images: int
    fusion: Overlap


@dataclass(frozen=True, slots=True)
class Outlining:
    """What was measured of the mask networks, out of fold.

    Args:
        images: How many.
        how: In words.
        fusion: Of the networks together.
        networks: Of each alone.
        fusion_in_float32: As for ``Scoring``.
        looks: At how many orientations of an image the networks looked.
        one_look: The same with one; None where there is no more.
        subsets: Images that were measured apart, by name.
    """

    images: int
    how: str
    fusion: Overlap
    networks: Mapping[str, Overlap]
    fusion_in_float32: Overlap | None = None
    looks: int = 1
    one_look: OutliningOfOneLook | None = None
    subsets: Mapping[str, OutlinedSubset] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Flagged:
    """One kind of image before the gate.

    Args:
        images: How many.
        flagged: Share of them that is unlike the images learnt from, in [0, 1].
    """

    images: int
    flagged: float


@dataclass(frozen=True, slots=True)
class Facts:
    """What else a release states; what it does not is empty.

    Args:
        precision: Of the networks.
        data: The name of the dataset's folder.
        fold_runs: The runs that held images back.
        recipes: The configuration of each network that ships, by its name.
        measured_on: Versions, machine and commit.
        others: Whatever else stands there, by name.
    """

    precision: str = ""
    data: str = ""
    fold_runs: tuple[str, ...] = ()
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=lambda: _NOTHING)
    measured_on: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    others: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @property
    def configurations(self) -> dict[str, Config]:
        """The recipes as configurations.

        Raises:
            ConfigError: One of them is of another version of dermfuse.
        """
        return {name: Config.from_mapping(recipe) for name, recipe in self.recipes.items()}


@dataclass(frozen=True, slots=True)
class Measured:
    """All that a release says it measured; None or empty where it says nothing.

    Args:
        scoring: Of the class networks.
        outlining: Of the mask networks.
        flagged: What the gate does, by kind of image.
        facts: What else it states.
    """

    scoring: Scoring | None
    outlining: Outlining | None
    flagged: Mapping[str, Flagged]
    facts: Facts


def read_measured(release: Release) -> Measured:
    """Returns what a release says of itself.

    Raises:
        ReleaseError: A part is there and is not what ``dermfuse release`` writes.
    """
    gate = release.gate.measured if release.gate else {}
    scored, outlined = release.classes.measured, release.masks.measured
    names = {each.name for each in fields(Facts)} - {"others"} | {"told_apart"}  # the gate's again
    others = {key: value for key, value in release.facts.items() if key not in names}
    return Measured(
        scoring=_part(Scoring, scored, "classes.measured") if scored else None,
        outlining=_part(Outlining, outlined, "masks.measured") if outlined else None,
        flagged={kind: _part(Flagged, of, f"gate.measured.{kind}") for kind, of in gate.items()},
        facts=_part(Facts, {**release.facts, "others": others}, "facts"),
    )


def _part(cls: type[_T], mapping: Mapping[str, Any], name: str) -> _T:
    return build_record(
        cls, mapping, "release.json", within=name, error=ReleaseError, open_ended=True
    )


_TIMES = frozenset({"ms", "seconds", "second"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSources:
    """Where a card's numbers come from.

    Args:
        release: The release folder; that of the package if left out.
        data: The dataset folders it was trained on, or the JSON of a card that has counted them.
        stress: A ``stress.json``, of ``dermfuse stress``.
        bench: What ``python -m benchmarks analyze`` wrote: any JSON object.
    """

    release: Path | None = None
    data: DataFolders | None = None
    stress: Path | None = None
    bench: Path | None = None

    def __post_init__(self) -> None:
        for name in ("release", "stress", "bench"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))

    @property
    def command(self) -> str:
        """The command that makes a card of these, without the names of this machine."""
        options = [
            f" --{name} {kind}"
            for name, kind in (
                ("release", "DIR"),
                ("data", "DIR"),
                ("stress", "FILE"),
                ("bench", "FILE"),
            )
            if getattr(self, name)
        ]
        return f"dermfuse card{''.join(options)} --out FILE"


@dataclass(frozen=True, slots=True)
class Card:
    """A model card's content.

    Args:
        command: That made it.
        version: Of dermfuse.
        release: The record.
        networks: The cards of its networks by name, those that score first.
        measured: What the release says of itself.
        census: Of the training images; None where they were not given.
        stress: None where it was not given.
        bench: Likewise; names and values, but for times, which are those of one machine in one
            hour: ratios of what was measured side by side hold elsewhere.
        digests: SHA-256 of the records that the numbers come from: release, stress, bench.
    """

    command: str
    version: str
    release: Release
    networks: Mapping[str, NetworkCard]
    measured: Measured
    census: TrainingCensus | None
    stress: StressReport | None
    bench: tuple[tuple[str, str], ...] | None
    digests: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Returns the content as JSON values."""
        return {
            "command": self.command,
            "version": self.version,
            "release": self.release.to_dict(),
            "networks": {name: card.to_dict() for name, card in self.networks.items()},
            "census": asdict(self.census) if self.census else None,
            "stress": asdict(self.stress) if self.stress else None,
            "bench": None if self.bench is None else dict(self.bench),
            "digests": dict(self.digests),
            "notice": NOTICE,
        }


def gather_card(
    sources: CardSources, *, progress: Callable[[int, int], None] | None = None
) -> Card:
    """Returns a card's content; the networks' files are checked against their cards.

    Args:
        sources: Where the numbers come from.
        progress: Called with (training images read, all) where a dataset folder is given.

    Raises:
        DermfuseError: A source is missing, damaged, or not what it should be.
    """
    folder = choose_release(sources.release)
    release = read_release(folder)
    networks = {card.name: card for card in read_cards(folder, release)}
    measured = read_measured(release)
    stress = read_stress(sources.stress) if sources.stress else None
    bench = _ratios(read_json(sources.bench)) if sources.bench else None
    files = {"release": folder / RELEASE_NAME, "stress": sources.stress, "bench": sources.bench}
    return Card(
        command=sources.command,
        version=__version__,
        release=release,
        networks=networks,
        measured=measured,
        census=_census(sources.data, progress) if sources.data else None,
        stress=stress,
        bench=bench,
        digests={name: digest_file(path) for name, path in files.items() if path},
    )


def _ratios(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value)
        for name, value in flatten(record)
        if value and not any(word in _TIMES for word in name.replace(",", "").split())
    )


def flatten(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Returns a JSON object as names and values, whatever is in it; the notice is left out.

    A path says nothing to a reader and tells of a machine: its last part alone is kept.

    Example:
        >>> flatten({"images": 3, "ms": {"median": 1.23456}, "file": "/home/me/a.onnx"})
        (('images', '3'), ('ms, median', '1.235'), ('file', 'a.onnx'))
    """
    return tuple(_flat({key: value for key, value in record.items() if key != "notice"}))


def _flat(value: object, name: str = "") -> Iterator[tuple[str, str]]:
    parts: Sequence[tuple[str, object]] = ()
    if isinstance(value, Mapping):
        parts = [(str(key), one) for key, one in value.items()]
    elif isinstance(value, list) and any(isinstance(one, Mapping | list) for one in value):
        parts = [(str(number), one) for number, one in enumerate(value, start=1)]
    for key, one in parts:
        yield from _flat(one, f"{name}, {key}".lstrip(", ").replace("_", " "))
    if not isinstance(value, Mapping) and not parts:
        yield name, _plain(value)


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    text = "" if value is None else str(value)
    return Path(text).name if Path(text).is_absolute() else text


def _census(data: DataFolders, progress: Callable[[int, int], None] | None) -> TrainingCensus:
    *others, first = list_folders(data)
    if first.is_file() and not others:
        return read_census(first)
    return take_census(data, progress=progress)
