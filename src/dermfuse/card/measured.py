"""What a release says of itself in its ``measured`` and ``facts``, as records."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from types import MappingProxyType
from typing import Any, TypeVar

from dermfuse.config import Config
from dermfuse.errors import ReleaseError
from dermfuse.evaluation.calibrate import CalibrationReport
from dermfuse.parsing import JsonSource, build_record
from dermfuse.release.folder import Release
from dermfuse.release.operating import Rate

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
    names = {each.name for each in fields(Facts)} - {"others"} | {"told_apart"}  # the gate's again
    others = {key: value for key, value in release.facts.items() if key not in names}
    return Measured(
        scoring=_part(Scoring, release.classes.measured, "classes.measured"),
        outlining=_part(Outlining, release.masks.measured, "masks.measured"),
        flagged={
            kind: build_record(Flagged, of, _source(f"gate.measured.{kind}"))
            for kind, of in gate.items()
        },
        facts=build_record(Facts, {**release.facts, "others": others}, _source("facts")),
    )


def _part(cls: type[_T], mapping: Mapping[str, Any], name: str) -> _T | None:
    return build_record(cls, mapping, _source(name)) if mapping else None


def _source(name: str) -> JsonSource:
    return JsonSource(f"release.json: {name}", ReleaseError, open_ended=True)
