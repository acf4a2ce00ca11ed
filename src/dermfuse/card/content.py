"""What a model card is made from: a release, and what was measured of it elsewhere."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from dermfuse import __version__
from dermfuse.card.census import TrainingCensus, read_census, take_census
from dermfuse.card.measured import Measured, read_measured
from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.release.cards import NetworkCard, digest_file
from dermfuse.release.folder import RELEASE_NAME, Release, choose_release, read_cards, read_release
from dermfuse.runs import NOTICE, read_json
from dermfuse.stress.measure import StressReport
from dermfuse.stress.report import read_stress

_TIMES = frozenset({"ms", "seconds", "second"})


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSources:
    """Where a card's numbers come from.

    Args:
        release: The release folder; that of the package if left out.
        data: The dataset folders it was trained on, or the JSON of a card that has counted them.
        stress: A ``stress.json``, of ``dermfuse stress``.
        bench: What ``dermfuse bench analyze`` wrote: any JSON object.
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
