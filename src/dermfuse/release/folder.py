"""A release folder: which networks answer, how they are fused, and what a user may expect.

release.json        this record
NAME.onnx, .json    each network and its card
dermoscopy.npz      where the images learnt from lie, to recognise what is unlike them
out_of_fold.csv     image_id,score: fused scores by networks not trained on the image (optional)

A calibration turns the fused score into a probability, an operating point the probability into a
call. Numbers and names of the record are checked before anything follows them. A ``Parcel`` is a
release as bytes, for a machine that does not have its folder.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import ArrayLike, NDArray

from dermfuse.errors import DermfuseError, ReleaseError
from dermfuse.imaging.symmetries import Looks
from dermfuse.records import (
    MOST_RECORD_BYTES,
    Estimate,
    build_record,
    parse_object,
    require_format,
    show_value,
)
from dermfuse.records.folders import NOTICE, atomic_write, write_json
from dermfuse.release.cards import Digest, NetworkCard, read_file, read_network, require_file_name

_CLOSEST = 1e-7  # a score of 0 or 1 has no finite logit
MOST_PARTS = 64
"""Networks of one fusion, and operating points of a release."""
RESERVED = frozenset(("release", "dermoscopy", "build"))
"""Names that no network has, for other records beside the cards have them."""
_FEW = Meta(max_length=MOST_PARTS, description=f"{MOST_PARTS} or fewer")

Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
"""A share or a probability."""

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


@dataclass(frozen=True, slots=True)
class Calibration:
    """A line in logits: ``logit p = logit s / temperature + bias``.

    The networks learn from about as many malignant samples as benign ones, and meet four times
    as many benign images: the bias takes back what that balance adds, the temperature what
    over-confidence does. It never changes the order of two scores.

    Args:
        temperature: Above 0; 1 leaves confidence as it is.
        bias: In logits; 0 leaves the balance as it is.

    Paper:
        Not in it. Temperature: Guo et al., On Calibration of Modern Neural Networks (ICML 2017);
        with the bias it is Platt's scaling (1999).

    Example:
        >>> Calibration(temperature=2.0, bias=0.0)([0.5, 0.9]).round(3).tolist()
        [0.5, 0.75]
    """

    temperature: Annotated[
        float, Meta(ge=1e-6, le=1e6, description="a number from 1e-06 to 1e+06")
    ]  # beyond, a probability is 0 or 1 whatever the image
    bias: Annotated[float, Meta(ge=-1e6, le=1e6, description="a number from -1e+06 to 1e+06")]

    def __call__(self, scores: ArrayLike) -> NDArray[np.float64]:
        """Returns the calibrated probabilities of scores in [0, 1], of the same shape."""
        return probability_of(logit_of(scores) / self.temperature + self.bias)


def logit_of(scores: ArrayLike) -> NDArray[np.float64]:
    """Returns ``ln(s / (1 - s))`` of scores in [0, 1]; 0 and 1 become about -16 and 16."""
    inside = np.clip(np.asarray(scores, dtype=np.float64), _CLOSEST, 1.0 - _CLOSEST)
    return np.asarray(np.log(inside) - np.log1p(-inside))


def probability_of(logits: ArrayLike) -> NDArray[np.float64]:
    """Returns ``1 / (1 + exp(-l))``, without overflow for any logit."""
    values = np.asarray(logits, dtype=np.float64)
    return np.asarray(np.exp(-np.logaddexp(0.0, -values)))


@dataclass(frozen=True, slots=True)
class Rate(Estimate):
    """A share of a class, with its 95 % interval; all in [0, 1]."""

    value: Share
    low: Share
    high: Share


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One threshold.

    Args:
        name: ``balanced``, or the sensitivity it reaches, like ``sensitivity95``.
        threshold: Calibrated probability from which on an image is called malignant.
        sensitivity: Share of malignant images that are called so.
        specificity: Share of benign images that are not.
    """

    name: str
    threshold: Share
    sensitivity: Rate
    specificity: Rate


@dataclass(frozen=True, slots=True)
class Member:
    """One network of a fusion.

    Args:
        name: Its ONNX file and card, without suffix.
        weight: Its answer's share of the mean; the weights of a fusion add up to 1.
    """

    name: str
    weight: Share

    @property
    def card_name(self) -> str:
        """The name of its card's file."""
        return f"{self.name}.json"


@dataclass(frozen=True, slots=True)
class ClassRelease:
    """How an image becomes a probability of melanoma.

    Args:
        members: The networks; their malignant scores are averaged.
        calibration: The calibration of their mean.
        operating_points: To choose from.
        default_point: Name of the one that is used unless another is asked for.
        measured: What was measured on images that the networks were not trained on.
    """

    members: Annotated[tuple[Member, ...], _FEW]
    calibration: Calibration
    operating_points: Annotated[tuple[OperatingPoint, ...], _FEW]
    default_point: str
    measured: Mapping[str, Any] = field(default_factory=dict)

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
        found = _read_withheld(self.measured).get(point.name)
        return found.sensitivity if found else None


@dataclass(frozen=True, slots=True)
class MaskRelease:
    """How an image becomes an outline.

    Args:
        members: The networks; their probability maps are averaged.
        threshold: A pixel is lesion at this probability or above.
        measured: What was measured on images that the networks were not trained on.
    """

    members: Annotated[tuple[Member, ...], _FEW]
    threshold: Share
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Gate:
    """How images unlike those that the networks learnt from are recognised.

    Args:
        file: The file of the arrays, beside the record.
        sha256: The digest of that file.
        threshold: An image that is farther from them than this is withheld.
        measured: How many images of each kind were flagged.
    """

    file: str
    sha256: Digest
    threshold: Annotated[float, Meta(ge=0, le=1e12, description="a number from 0 to 1e+12")]
    measured: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Release:
    """The record of a release folder.

    Args:
        name: The name of the release.
        classes: How an image is scored.
        masks: How it is outlined.
        gate: How images of another kind are recognised; None where they are not.
        looks: At how many orientations of an image each network looks (see
            ``dermfuse.imaging.symmetries``); calibration, operating points, gate and all that
            is measured hold for so many.
        facts: What else a person should know: data, training, machine.
    """

    name: str
    classes: ClassRelease
    masks: MaskRelease
    gate: Gate | None
    looks: Looks = 1
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def members(self) -> tuple[Member, ...]:
        """All networks, those that score first."""
        return (*self.classes.members, *self.masks.members)

    def to_dict(self) -> dict[str, Any]:
        """Returns the record as JSON values."""
        return {"format": FORMAT, **asdict(self), "notice": NOTICE}


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
        ReleaseError: See ``bundled_release``.
    """
    return bundled_release() if folder is None else Path(folder)


def read_release(folder: str | Path) -> Release:
    """Returns the record of a release folder.

    Raises:
        ReleaseError: The folder or its record is missing, damaged, or does not add up.
    """
    folder = Path(folder)
    path = folder / RELEASE_NAME
    if not path.exists():
        within = folder / "release"  # of what dermfuse release writes
        there = (within / RELEASE_NAME).exists()
        raise ReleaseError(
            f"{folder} is {'no release' if folder.exists() else 'missing'}",
            expected=f"a folder with {RELEASE_NAME}",
            action=f"Name {within}" if there else "Write one with: dermfuse release",
        )
    content = read_file(folder, RELEASE_NAME, most_bytes=MOST_RECORD_BYTES)
    return parse_release(content, str(path))


def parse_release(content: bytes, source: str) -> Release:
    """Returns the release in the content of ``release.json``.

    Args:
        content: The file.
        source: Its path, for messages.

    Raises:
        ReleaseError: It is damaged, or does not add up.
    """
    return _build(parse_object(content, source, error=ReleaseError), source)


def read_cards(folder: Path, release: Release) -> list[NetworkCard]:
    """Returns the cards of a release's networks, in their order.

    Raises:
        ReleaseError: See ``read_networks``.
    """
    return [card for card, _ in read_networks(folder, release)]


def read_networks(folder: Path, release: Release) -> Iterator[tuple[NetworkCard, bytes]]:
    """Yields card and content of each network, in the order of ``release.members``.

    Raises:
        ReleaseError: See ``dermfuse.release.cards.read_network``; or a network does not answer
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
    record = release.to_dict()
    _build(record, str(path))
    write_json(path, record)
    return path


def require_text(text: str, key: str, *, error: type[DermfuseError] = ReleaseError) -> None:
    """Refuses a name of a release that is empty or steers a terminal, naming its key."""
    if not text.isprintable() or not text.strip():
        raise error(f"{key} is {show_value(text)}", expected="a text that can be printed")


@dataclass(frozen=True, slots=True)
class Parcel:
    """The files of a release.

    Attributes:
        files: The bytes of each file by its name; those alone that the release names.
    """

    files: Mapping[str, bytes]

    @property
    def digest(self) -> str:
        """The SHA-256 of all names and bytes, in hexadecimal."""
        digest = hashlib.sha256()
        for name in sorted(self.files):
            digest.update(f"{name}\0{hashlib.sha256(self.files[name]).hexdigest()}\n".encode())
        return digest.hexdigest()

    def unpack(self, folder: Path, *, digest: str) -> None:
        """Writes the files into a folder.

        Args:
            folder: Where to; it exists.
            digest: What the parcel's must be.

        Raises:
            ReleaseError: It is another, or a name is a path; nothing is written.
            StorageError: The folder cannot be written.
        """
        if self.digest != digest:
            raise ReleaseError(
                f"the release came with SHA-256 {self.digest[:16]}...",
                expected=f"{digest[:16]}..., as it was sent",
                action="Run it again",
            )
        for name in self.files:
            require_file_name(name, source="a file of the release")
        for name, data in self.files.items():
            with atomic_write(folder / name) as file:
                file.write(data)


def pack_release(folder: Path) -> Parcel:
    """Returns the files that a release needs, each checked, and no others of its folder.

    Raises:
        ReleaseError: The record or a file that it names is missing, damaged or not the one meant.
    """
    record = read_file(folder, RELEASE_NAME, most_bytes=MOST_RECORD_BYTES)
    release = parse_release(record, str(folder / RELEASE_NAME))
    files = {RELEASE_NAME: record}
    networks = read_networks(folder, release)
    for member, (card, network) in zip(release.members, networks, strict=True):
        files[member.card_name] = read_file(folder, member.card_name, most_bytes=MOST_RECORD_BYTES)
        files[card.file] = network
    if (gate := release.gate) is not None:
        files[gate.file] = read_file(folder, gate.file, sha256=gate.sha256)
    return Parcel(files)


@dataclass(frozen=True, slots=True)
class _MeasuredPoint:
    sensitivity: Rate


@dataclass(frozen=True, slots=True)
class _Withheld:
    operating_points: Mapping[str, _MeasuredPoint] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Measured:
    withheld: _Withheld = field(default_factory=_Withheld)


def _read_withheld(measured: Mapping[str, Any], source: str = "") -> Mapping[str, _MeasuredPoint]:
    """Returns what was measured at each operating point where some images are withheld."""
    within = "classes.measured"
    found = build_record(
        _Measured, measured, source, within=within, error=ReleaseError, open_ended=True
    )
    return found.withheld.operating_points


def _build(record: Mapping[str, Any], source: str) -> Release:
    """Returns the release of a JSON object, or refuses one that does not add up."""
    kept = require_format(
        record, FORMAT, source, error=ReleaseError, action="Use the dermfuse that wrote it"
    )
    release = build_record(Release, kept, source, error=ReleaseError)
    points = [point.name for point in release.classes.operating_points]
    texts = {f"classes.operating_points.{at}.name": name for at, name in enumerate(points)}
    for key, text in {"name": release.name, **texts}.items():
        require_text(text, f"{source}: {key}")
    _require_different(points, f"{source}: classes.operating_points")
    _check_members(release.classes.members, source, "classes")
    _check_members(release.masks.members, source, "masks")
    _read_withheld(release.classes.measured, source)
    release.classes.point()
    if release.gate is not None:
        require_file_name(release.gate.file, source=f"{source}: gate.file", ending=".npz")
    return release


def _check_members(members: Sequence[Member], source: str, part: str) -> None:
    for number, member in enumerate(members):
        key = f"{source}: {part}.members.{number}.name"
        require_file_name(member.name, source=key)
        if member.name.lower() in RESERVED:
            raise ReleaseError(
                f"{key} is {show_value(member.name)}",
                expected=f"a name other than {', '.join(sorted(RESERVED))}",
            )
    _require_different([member.name for member in members], f"{source}: {part}.members")
    total = sum(member.weight for member in members)
    if abs(total - 1.0) > 1e-6:
        raise ReleaseError(
            f"{source}: the weights of {part} add up to {total:g}",
            expected="networks that share 1",
        )


def _require_different(names: Sequence[str], key: str) -> None:
    if len(set(names)) < len(names):
        raise ReleaseError(
            f"{key} holds {len(names)}, {len(set(names))} of different names", expected="each once"
        )
