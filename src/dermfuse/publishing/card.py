"""A model card: a release, what was measured of it, and the page that says so.

Its words stand in card.md and checklists.md, its tables in card_tables.md, its numbers nowhere.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import UndefinedError

from dermfuse import __version__
from dermfuse.config import Config
from dermfuse.data.audit import OFFICIAL_TOTALS
from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.errors import ReleaseError
from dermfuse.evaluation.bootstrap import DRAWS
from dermfuse.evaluation.calibrate import CalibrationReport
from dermfuse.imaging.colours import TONES
from dermfuse.imaging.symmetries import describe_looks
from dermfuse.publishing.census import TrainingCensus, read_census, take_census
from dermfuse.publishing.stress import (
    COLUMNS,
    StressReport,
    read_stress,
    say_orientations,
    table_row,
)
from dermfuse.records import Estimate, build_record
from dermfuse.records.folders import NOTICE, read_json, write_json, write_text
from dermfuse.release.cards import NetworkCard, digest_file
from dermfuse.release.folder import (
    RELEASE_NAME,
    Release,
    choose_release,
    read_cards,
    read_release,
)
from dermfuse.report import METRICS, MISSED
from dermfuse.report.page import template

Numbers = Mapping[str, Estimate]
"""AUC and average precision of scores, or Jaccard of outlines."""

_T = TypeVar("_T")
_TIMES = frozenset({"ms", "seconds", "second"})


@dataclass(frozen=True, slots=True)
class OneLook:
    """Answers to the image as it is, beside those of all looks.

    Args:
        fusion: Numbers of the networks together.
        gain: What all looks gain over one, on the same images.
    """

    fusion: Numbers
    gain: Numbers


@dataclass(frozen=True, slots=True)
class Subset:
    """Images that were measured apart.

    Args:
        images: How many.
        fusion: Numbers of the networks together.
    """

    images: int
    fusion: Numbers


@dataclass(frozen=True, slots=True)
class ScoredSubset(Subset):
    """Scores that were measured apart.

    Args:
        malignant: How many of the images are malignant.
        calibration_error: Calibration error of the calibrated mean.
        calibration_error_if_perfect: What these probabilities would show where they hold exactly;
            None where the release does not state it.
    """

    malignant: int
    calibration_error: float
    calibration_error_if_perfect: Estimate | None = None


@dataclass(frozen=True, slots=True)
class Withheld:
    """What the gate does to dermoscopy of either class.

    Args:
        malignant: Number of malignant ``images``, and of them ``withheld``.
        benign: The same two numbers of benign images.
        p_value: Fisher's exact test of equal rates.
        operating_points: By name ``sensitivity`` and ``specificity`` where a withheld image counts
            as not called malignant.
    """

    malignant: Mapping[str, int]
    benign: Mapping[str, int]
    p_value: float
    operating_points: Mapping[str, Mapping[str, Estimate]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlining:
    """What was measured of the mask networks, out of fold.

    Args:
        images: How many.
        how: In words.
        fusion: Numbers of the networks together.
        networks: Numbers of each network alone.
        fusion_in_float32: Numbers before the networks' precision was lowered; None where
            the release does not state it. With one look.
        looks: Number of orientations of an image the networks looked.
        one_look: Numbers with one look; None where the networks have one only.
        subsets: Images that were measured apart, by name.
    """

    images: int
    how: str
    fusion: Numbers
    networks: Mapping[str, Numbers]
    fusion_in_float32: Numbers | None = None
    looks: int = 1
    one_look: OneLook | None = None
    subsets: Mapping[str, Subset] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scoring(Outlining):
    """What was measured of the class networks, out of fold.

    Args:
        malignant: How many of the images are malignant.
        calibration: Its error before and after.
        calibration_error_if_perfect: The error after it that would be there where all probabilities
            hold exactly; None where the release does not state it.
        subsets: Images that were measured apart, by name.
        withheld: By the gate; None where the release does not state it.
        activation: By class the number of ``images`` with a true mask, and of those whose map
            points ``inside`` the lesion, ``outside``, or ``nowhere``, as all speaks against.
    """

    malignant: int
    calibration: CalibrationReport
    calibration_error_if_perfect: Estimate | None = None
    subsets: Mapping[str, ScoredSubset] = field(default_factory=dict)
    withheld: Withheld | None = None
    activation: Mapping[str, Mapping[str, int]] = field(default_factory=dict)


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
        precision: Precision of the networks that ship.
        data: The name of the dataset's folder.
        fold_runs: The runs that held images back.
        recipes: The configuration of each network that ships, by its name.
        measured_on: Versions, machine and commit.
        others: Whatever else stands there, by name.
    """

    precision: str = ""
    data: str = ""
    fold_runs: tuple[str, ...] = ()
    recipes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    measured_on: Mapping[str, Any] = field(default_factory=dict)
    others: Mapping[str, Any] = field(default_factory=dict)

    @property
    def configurations(self) -> dict[str, Config]:
        """The recipes as configurations.

        Raises:
            ConfigError: One of them is of another version of dermfuse.
        """
        return {name: Config.from_mapping(recipe) for name, recipe in self.recipes.items()}


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
        kinds = {"release": "DIR", "data": "DIR", "stress": "FILE", "bench": "FILE"}
        options = [f" --{name} {kind}" for name, kind in kinds.items() if getattr(self, name)]
        return f"dermfuse card{''.join(options)} --out FILE"


@dataclass(frozen=True, slots=True)
class Card:
    """A model card's content.

    Args:
        command: That made it.
        version: Version of dermfuse.
        release: The record.
        networks: The cards of its networks by name, those that score first.
        scoring: What its class networks reach; None where it says nothing.
        outlining: What its mask networks reach; None where it says nothing.
        flagged: What its gate does, by kind of image; empty where it says nothing.
        facts: What else it states.
        census: Counts of the training images; None where they were not given.
        stress: None where it was not given.
        bench: None where it was not given. Names and values, but for times, which are those of one
            machine in one hour: ratios of what was measured side by side hold elsewhere.
        digests: SHA-256 of the records that the numbers come from: release, stress, bench.
    """

    command: str
    version: str
    release: Release
    networks: Mapping[str, NetworkCard]
    scoring: Scoring | None
    outlining: Outlining | None
    flagged: Mapping[str, Flagged]
    facts: Facts
    census: TrainingCensus | None
    stress: StressReport | None
    bench: tuple[tuple[str, str], ...] | None
    digests: Mapping[str, str]

    @property
    def parts(self) -> list[Outlining]:
        """Scores and outlines, as far as they were measured."""
        return [part for part in (self.scoring, self.outlining) if part]

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
        ReleaseError: A part of ``measured`` or ``facts`` is not what ``dermfuse release`` writes.
        DermfuseError: A source is missing, damaged, or not what it should be.
    """
    folder = choose_release(sources.release)
    release = read_release(folder)
    networks = {card.name: card for card in read_cards(folder, release)}
    scored, outlined = release.classes.measured, release.masks.measured
    gate = release.gate.measured if release.gate else {}
    files = {"release": folder / RELEASE_NAME, "stress": sources.stress, "bench": sources.bench}
    return Card(
        command=sources.command,
        version=__version__,
        release=release,
        networks=networks,
        scoring=_part(Scoring, scored, "classes.measured") if scored else None,
        outlining=_part(Outlining, outlined, "masks.measured") if outlined else None,
        flagged={kind: _part(Flagged, of, f"gate.measured.{kind}") for kind, of in gate.items()},
        facts=_facts(release.facts),
        census=_census(sources.data, progress) if sources.data else None,
        stress=read_stress(sources.stress) if sources.stress else None,
        bench=_ratios(read_json(sources.bench)) if sources.bench else None,
        digests={name: digest_file(path) for name, path in files.items() if path},
    )


def flatten(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    """Returns a JSON object as names and values, whatever is in it; the notice is left out.

    A path says nothing to a reader and tells of a machine: its last part alone is kept.

    Example:
        >>> flatten({"images": 3, "ms": {"median": 1.23456}, "file": "/home/me/a.onnx"})
        (('images', '3'), ('ms, median', '1.235'), ('file', 'a.onnx'))
    """
    return tuple(_flat({key: value for key, value in record.items() if key != "notice"}))


def render_card(card: Card) -> str:
    """Returns the card in Markdown.

    Raises:
        ReleaseError: The release measured, and leaves out a number that a card has.
    """
    return _render("card.md", card)


def render_summary(card: Card) -> str:
    """Returns the card's first table and where its numbers come from, for another page.

    Raises:
        ReleaseError: The release measured, and leaves out a number of the table.
    """
    return _render("card_summary.md", card).strip()


def write_card_page(card: Card, out: str | Path) -> Path:
    """Writes the card, and its content as JSON beside it; returns the JSON's path.

    The JSON keeps the census of the training images, so that a later card need not count again.

    Raises:
        StorageError: They cannot be written.
    """
    out = Path(out)
    beside = out.with_suffix(".json")
    page = render_card(card)
    write_json(beside, card.to_dict())
    write_text(out, page)
    return beside


def _part(cls: type[_T], mapping: Mapping[str, Any], name: str) -> _T:
    return build_record(
        cls, mapping, "release.json", within=name, error=ReleaseError, open_ended=True
    )


def _facts(stated: Mapping[str, Any]) -> Facts:
    names = {each.name for each in fields(Facts)} - {"others"} | {"told_apart"}  # the gate's again
    others = {key: value for key, value in stated.items() if key not in names}
    return _part(Facts, {**stated, "others": others}, "facts")


def _ratios(record: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    return tuple(
        (name, value)
        for name, value in flatten(record)
        if value and not any(word in _TIMES for word in name.replace(",", "").split())
    )


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


def _render(name: str, card: Card) -> str:
    try:
        return template("publishing", name).render(
            card=card,
            facts=card.facts,
            official=OFFICIAL_TOTALS["train"],
            draws=DRAWS,
            METRICS=METRICS,
            MISSED=MISSED,
            TONES=TONES,
            STRESS_COLUMNS=COLUMNS,
            stress_row=table_row,
            say_orientations=say_orientations,
            describe_looks=describe_looks,
            flatten=flatten,
        )
    except (UndefinedError, KeyError) as error:
        raise ReleaseError(
            f"release {card.release.name} lacks a number of the card ({error})",
            expected="what dermfuse release measures",
        ) from error
