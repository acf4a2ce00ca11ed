"""A release folder: which networks answer, how they are fused, and what a user may expect.

release.json        this record
NAME.onnx, .json    each network and its card
dermoscopy.npz      where the images learnt from lie, to tell what is unlike them
out_of_fold.csv     image_id,score: fused scores by networks not trained on the image (optional)
"""

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from dermfuse.errors import ReleaseError
from dermfuse.parsing import JsonSource, build_record
from dermfuse.records import MOST_RECORD_BYTES, parse_object, show_value
from dermfuse.release.calibration import Calibration
from dermfuse.release.cards import NetworkCard, read_network
from dermfuse.release.checks import check_release
from dermfuse.release.files import read_file
from dermfuse.release.operating import OperatingPoint, Rate
from dermfuse.runs import NOTICE, write_json

FORMAT = 1
"""The version of the record."""
RELEASE_NAME = "release.json"
OUT_OF_FOLD_NAME = "out_of_fold.csv"
SCORING = ("malignant", "activation_map")
"""What a network of classes must answer; beside a gate ``EMBEDDING``, too."""
EMBEDDING = "embedding"
"""What a gate looks at."""
OUTLINING = ("lesion",)
"""What a network of masks must answer."""

_T = TypeVar("_T")
_NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Member:
    """One network of a fusion.

    Args:
        name: Of its ONNX file and card, without suffix.
        weight: Of its answer in the mean; the weights of a fusion add up to 1.
    """

    name: str
    weight: float

    @property
    def card_name(self) -> str:
        """The name of its card's file."""
        return f"{self.name}.json"


@dataclass(frozen=True, slots=True)
class ClassRelease:
    """How an image becomes a probability of melanoma.

    Args:
        members: The networks; their malignant scores are averaged.
        calibration: Of the mean.
        operating_points: To choose from.
        default_point: Name of the one that is used unless another is asked for.
        measured: What was measured on images that the networks were not trained on.
    """

    members: tuple[Member, ...]
    calibration: Calibration
    operating_points: tuple[OperatingPoint, ...]
    default_point: str
    measured: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    def point(self, name: str | None = None) -> OperatingPoint:
        """Returns an operating point.

        Raises:
            ReleaseError: There is none of that name.
        """
        wanted = name or self.default_point
        for point in self.operating_points:
            if point.name == wanted:
                return point
        raise ReleaseError(
            f'no operating point is called "{wanted}"',
            expected=f"one of {', '.join(point.name for point in self.operating_points)}",
        )

    def sensitivity_with_missed(self, point: OperatingPoint) -> Rate | None:
        """Returns a point's sensitivity where withheld malignant images count as missed.

        None where it was not measured: the release has no gate, or is older.
        """
        found = self.measured.get("withheld", {}).get("operating_points", {}).get(point.name)
        return Rate(**found["sensitivity"]) if found else None


@dataclass(frozen=True, slots=True)
class MaskRelease:
    """How an image becomes an outline.

    Args:
        members: The networks; their probability maps are averaged.
        threshold: A pixel is lesion at this probability or above.
        measured: As for ``ClassRelease``.
    """

    members: tuple[Member, ...]
    threshold: float
    measured: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Gate:
    """How an image is told that is unlike those the networks learnt from.

    Args:
        file: Of the arrays, beside the record.
        sha256: Of that file.
        threshold: An image that is farther from them than this is withheld.
        measured: How many of what were told apart.
    """

    file: str
    sha256: str
    threshold: float
    measured: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)


@dataclass(frozen=True, slots=True)
class Release:
    """What a release folder says.

    Args:
        name: Of the release.
        classes: How an image is scored.
        masks: How it is outlined.
        gate: How other images are told; None where nothing tells them.
        looks: At how many orientations of an image each network looks (``dermfuse.looks``);
            calibration, operating points, gate and all that is measured hold for so many.
        facts: What else a person should know: data, training, machine.
    """

    name: str
    classes: ClassRelease
    masks: MaskRelease
    gate: Gate | None = None
    looks: int = 1
    facts: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)

    @property
    def members(self) -> tuple[Member, ...]:
        """All networks, those that score first."""
        return (*self.classes.members, *self.masks.members)

    def to_dict(self) -> dict[str, Any]:
        """Returns the record as JSON values."""
        return {
            "format": FORMAT,
            "name": self.name,
            "classes": asdict(_unlocked(self.classes)),
            "masks": asdict(_unlocked(self.masks)),
            "gate": asdict(_unlocked(self.gate)) if self.gate else None,
            "looks": self.looks,
            "facts": dict(self.facts),
            "notice": NOTICE,
        }


def bundled_release() -> Path:
    """Returns the folder of the release that is part of the package.

    Raises:
        ReleaseError: This copy of the package has none.
    """
    folder = Path(str(resources.files("dermfuse") / "shipped"))
    if not (folder / RELEASE_NAME).is_file():
        raise ReleaseError(
            "this copy of dermfuse holds no trained networks",
            expected=f"a release in {folder}",
            action="Install the published package, or name a release folder of your own",
        )
    return folder


def choose_release(folder: str | Path | None) -> Path:
    """Returns a release folder of the user's, or that of the package where there is none.

    Raises:
        ReleaseError: As for ``bundled_release``.
    """
    folder = None if folder is None else Path(folder)
    return bundled_release() if folder is None else folder


def read_release(folder: str | Path) -> Release:
    """Returns what a release folder says.

    Raises:
        ReleaseError: The folder or its record is missing, damaged, or does not add up.
    """
    folder = Path(folder)
    path = folder / RELEASE_NAME
    if not path.exists():
        raise ReleaseError(
            f"{folder} is {'no release' if folder.exists() else 'missing'}",
            expected=f"a folder with {RELEASE_NAME}",
            action="Write one with: dermfuse release",
        )
    content = read_file(folder, RELEASE_NAME, most_bytes=MOST_RECORD_BYTES)
    return parse_release(content, str(path))


def parse_release(content: bytes, source: str) -> Release:
    """Returns what the content of ``release.json`` says.

    Args:
        content: Of the file.
        source: Its path, for messages.

    Raises:
        ReleaseError: It is damaged, or does not add up.
    """
    record = parse_object(content, source, error=ReleaseError)
    if record.get("format") != FORMAT:
        raise ReleaseError(
            f"{source} has format {show_value(record.get('format'))}",
            expected=f"format {FORMAT}",
            action="Use the dermfuse that wrote it",
        )
    kept = {key: value for key, value in record.items() if key not in ("format", "notice")}
    kept = {"looks": 1, **kept}  # a record from before there were looks holds for one
    release = build_record(Release, kept, JsonSource(source, ReleaseError))
    check_release(release, source)
    return release


def read_cards(folder: Path, release: Release) -> list[NetworkCard]:
    """Returns the cards of a release's networks, in their order.

    Raises:
        ReleaseError: As for ``read_networks``.
    """
    return [card for card, _ in read_networks(folder, release)]


def read_networks(folder: Path, release: Release) -> Iterator[tuple[NetworkCard, bytes]]:
    """Yields card and content of each network, in the order of ``release.members``.

    Raises:
        ReleaseError: As for ``dermfuse.release.cards.read_network``; or a network does not answer
            what its place in the release asks for.
    """
    scoring = SCORING if release.gate is None else (*SCORING, EMBEDDING)
    for members, needed in ((release.classes.members, scoring), (release.masks.members, OUTLINING)):
        for member in members:
            path = folder / member.card_name
            card, content = read_network(path)
            if missing := [name for name in needed if name not in card.outputs]:
                raise ReleaseError(
                    f"{path}: outputs has no {', '.join(missing)}",
                    expected=f"a network that answers {', '.join(needed)}",
                    action="Correct the release, or export the network again",
                )
            yield card, content


def write_release(folder: Path, release: Release) -> Path:
    """Writes ``release.json`` and returns it.

    Raises:
        ReleaseError: The record does not add up.
        StorageError: It cannot be written.
    """
    path = folder / RELEASE_NAME
    check_release(release, str(path))
    write_json(path, release.to_dict())
    return path


def _unlocked(part: _T) -> _T:
    """Returns a record whose mappings are plain dictionaries, which ``asdict`` can copy."""
    return dataclasses.replace(part, measured=dict(part.measured))  # type: ignore[type-var,attr-defined]
