"""A network's card: what ``NAME.onnx`` takes and answers, where it comes from, how good it is.

``NAME.json`` lies beside ``NAME.onnx`` and names its SHA-256, so that a card is never read with
another network than its own. Files of a release are read under plain names, as plain files, with
the content that their record names; a network that takes numbers from other files, which no
digest covers, is refused.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from msgspec import Meta

from dermfuse.config import Task
from dermfuse.errors import DermfuseError, ExportError, ReleaseError
from dermfuse.records import (
    MOST_RECORD_BYTES,
    build_record,
    parse_object,
    read_plain,
    require_format,
    show_value,
)
from dermfuse.records.folders import NAME_BYTES, NOTICE, write_json

MOST_FILE_BYTES = 2 << 30
"""Of one file of a release: what ONNX allows for a network."""

Digest = Annotated[
    str, Meta(pattern=r"^[0-9a-f]{64}\Z", description="a SHA-256: 64 hexadecimal digits")
]
"""The SHA-256 of a file, in hexadecimal."""

_DAMAGED = "Do not use it: it is damaged or was changed. Copy the release again"
_NOT_IN_NAMES = frozenset('/\\:*?"<>|')
_ENDING_BYTES = len(".json")
_LOCATION = b"location"

FORMAT = 2
"""The version of the card; from 2 on activation maps are log-odds, not the malignant logit."""
RESIZE = (
    "the whole frame to size x size pixels, bilinear, antialiased "
    "(dermfuse.imaging.preprocess.squeeze)"
)
"""How an image becomes the input."""

Precision = Literal["float32", "int8", "int8-weights"]
"""Computed and stored in float32; both in 8 bits; stored in 8 bits and computed in float32."""

MOST_SIDE_PX = 4096
"""Side of the largest square that a network may ask for."""

_Count = Annotated[  # up to here every program reads a whole number as it is
    int, Meta(ge=0, le=1 << 53, description=f"a whole number from 0 to {1 << 53}")
]
_EXPORT_AGAIN = "Write it again with: dermfuse export"

LICENCES: Mapping[str, str] = MappingProxyType(
    {
        "mobilenet_v1": "TensorFlow, Apache-2.0",
        "efficientnet_lite0": "TensorFlow, by way of timm, Apache-2.0",
        "mobilenet_v2": "torchvision, BSD-3-Clause",
        "squeezenet1_1": "torchvision, BSD-3-Clause; the network's authors, BSD-2-Clause",
        "vgg16": "torchvision, BSD-3-Clause",
        "densenet121": "torchvision, BSD-3-Clause",
        "resnet18": "torchvision, BSD-3-Clause",
        "resnext50": "torchvision, BSD-3-Clause",
    }
)
"""Publisher and licence by backbone."""


def require_file_name(
    name: str, *, source: str, ending: str = "", error: type[DermfuseError] = ReleaseError
) -> str:
    """Returns ``name`` if it is that of a file in its folder, on any system, and no path.

    Args:
        name: The name in a record, or from a user.
        source: Which record and key, for the message.
        ending: What it ends in.
        error: What is raised.

    Raises:
        DermfuseError: ``error``: it is empty or too long, begins with a dot or ends in another
            ending, or holds a slash, a backslash, a colon or what cannot be printed.

    Example:
        >>> require_file_name("net.onnx", source="file")
        'net.onnx'
    """
    if is_file_name(name) and name.endswith(ending):
        return name
    ends = f" that ends in {ending}" if ending else ""
    raise error(
        f"{source} is {show_value(name)}",
        expected=f"the name of a file{ends} beside the record, no path",
    )


def is_file_name(name: str) -> bool:
    """Returns whether a file, or a folder, can be called so on any system; see above."""
    is_plain = name.isprintable() and name.strip() == name and not set(name) & _NOT_IN_NAMES
    is_file = is_plain and not name.startswith(".")
    return is_file and 0 < len(name.encode()) <= NAME_BYTES - _ENDING_BYTES


def read_file(
    folder: Path,
    name: str,
    *,
    sha256: str | None = None,
    size: int | None = None,
    most_bytes: int = MOST_FILE_BYTES,
    action: str = _DAMAGED,
) -> bytes:
    """Returns the content of a file of a release.

    Args:
        folder: The release.
        name: The file.
        sha256: What its digest must be; None where nothing vouches for it, as for the record.
        size: How many bytes it must have; None as for ``sha256``.
        most_bytes: The largest size that is read.
        action: What the user can do where it is missing.

    Raises:
        ReleaseError: The name is a path; the file is missing, leads out of the folder, is no
            plain file, is too large, or is another than the one whose digest is known.
    """
    path = folder / require_file_name(name, source=f"the name of a file in {folder}")
    try:
        is_inside = path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a loop of links
        is_inside = False
    if not is_inside:
        raise ReleaseError(
            f"{path} is a link that leads out of its folder",
            expected="the file itself",
            action="Copy the release with its files",
        )
    content = read_plain(path, most_bytes=most_bytes, error=ReleaseError, action=action)
    if size is not None and len(content) != size:
        raise ReleaseError(
            f"{path} has {len(content):,} bytes",
            expected=f"{size:,}, as its record says",
            action="Copy it again",
        )
    if sha256 is not None and (found := hashlib.sha256(content).hexdigest()) != sha256:
        raise ReleaseError(
            f"{path} has SHA-256 {found[:16]}...",
            expected=f"{sha256[:16]}..., as its record says",
            action=_DAMAGED,
        )
    return content


def refuse_external_data(content: bytes, name: str) -> None:
    """Refuses a network that takes numbers from other files.

    A tensor of ONNX names its file under the key "location", wherever in the graph it stands; one
    without that key cannot be loaded. So no network that holds no such letters can reach a file.

    Args:
        content: An ONNX file.
        name: Its name, for the message.

    Raises:
        ReleaseError: It does.
    """
    if _LOCATION in content:
        raise ReleaseError(
            f"{name} takes numbers from other files (ONNX external data)",
            expected='a network whose file holds all of its numbers, and nowhere "location"',
            action="Save it as one file",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """What the network takes.

    Attributes:
        name: The graph's one input.
        dtype: The type of its numbers.
        layout: Images, height, width, channels.
        size: S, the side of the square in pixels.
        colour: The order of the channels.
        resize: How an image becomes the square, in words.
    """

    name: str
    dtype: Literal["uint8"]
    layout: Literal["NHWC"]
    size: Annotated[
        int, Meta(ge=1, le=MOST_SIDE_PX, description=f"a whole number from 1 to {MOST_SIDE_PX}")
    ]
    colour: Literal["RGB"]
    resize: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Parity:
    """How far the file's answers are from those of what it was made from.

    Attributes:
        against: ``torch``, or the name of the float32 network.
        images: How many were compared.
        largest_difference: For each output: of probabilities as it is, else as a share of the
            largest absolute value.
    """

    against: str
    images: _Count
    largest_difference: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldOutMetrics:
    """How good the file is beside its float32 form, on images it was not trained on.

    Attributes:
        split: Which images.
        n: How many.
        metrics: By precision: ``auc``, ``average_precision``, ``jaccard``.
    """

    split: str
    n: _Count
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCard:
    """What is known of one network file.

    Attributes:
        name: The network's name; the file is ``name.onnx``, the card ``name.json``.
        task: What it answers.
        file: The file's name, beside the card.
        sha256: The digest of the file, in hexadecimal.
        bytes: The size of the file.
        precision: How it stores and computes.
        input: What it takes.
        outputs: What it answers, each in words.
        preset: The preset of its run.
        backbone: Empty for the original U-Net.
        parameters: How many numbers training changed.
        epoch: The epoch, from 1, whose weights these are.
        training: Data, epochs, seed, init, device, versions, commit of the run.
        weights_licence: What the weights may be used for, in words.
        parity: Against what it was made from.
        measured: None where the run has no validation images.
        quantization: How 8 bits came about; empty for float32.
        notice: The notice that this is research software.
    """

    name: str
    task: Task
    file: str
    sha256: Digest
    bytes: Annotated[
        int, Meta(ge=0, le=MOST_FILE_BYTES, description=f"{MOST_FILE_BYTES:,} or fewer")
    ]
    precision: Precision
    input: NetworkInput
    outputs: Mapping[str, str]
    preset: str
    backbone: str
    parameters: _Count
    epoch: _Count
    training: Mapping[str, Any]
    weights_licence: str
    parity: Parity
    measured: HeldOutMetrics | None = None
    quantization: Mapping[str, Any] = field(default_factory=dict)
    notice: str = NOTICE

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON object."""
        record = {"format": FORMAT, **asdict(self)}
        return {key: value for key, value in record.items() if value not in (None, {})}


def read_card(path: str | Path) -> NetworkCard:
    """Returns a network's card, having checked that the file beside it is the one it describes.

    Raises:
        ReleaseError: See ``read_network``.
    """
    return read_network(path)[0]


def read_network(path: str | Path) -> tuple[NetworkCard, bytes]:
    """Returns a network's card and the content of the file that it describes, each checked.

    Args:
        path: The card.

    Raises:
        ReleaseError: The card is missing, damaged or of another format; the network file is
            missing, leads out of the folder, is of another size, is not the one whose SHA-256 the
            card names, or takes numbers from other files.
    """
    path = Path(path)
    content = read_file(path.parent, path.name, most_bytes=MOST_RECORD_BYTES, action=_EXPORT_AGAIN)
    record = parse_object(content, str(path), error=ReleaseError, action=_EXPORT_AGAIN)
    again = "Export the network with this version of dermfuse"
    require_format(record, FORMAT, str(path), error=ReleaseError, action=again)
    card = build_record(
        NetworkCard, record, str(path), error=ReleaseError, open_ended=True, action=_EXPORT_AGAIN
    )
    require_file_name(card.name, source=f"{path}: name")
    require_file_name(card.file, source=f"{path}: file", ending=".onnx")
    network = read_file(
        path.parent, card.file, size=card.bytes, sha256=card.sha256, action=_EXPORT_AGAIN
    )
    refuse_external_data(network, str(path.parent / card.file))
    return card, network


def write_card(folder: Path, card: NetworkCard) -> Path:
    """Writes ``NAME.json`` atomically, after its network; returns its path.

    Raises:
        ExportError: The network's name is no name of a file.
        StorageError: The folder cannot be written.
    """
    require_file_name(card.name, source="the network's name", error=ExportError)
    path = folder / f"{card.name}.json"
    write_json(path, card.to_dict())
    return path


def digest_file(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def licence_of(backbone: str) -> str:
    """Returns publisher and licence of a backbone's ImageNet weights.

    Example:
        >>> licence_of("mobilenet_v1"), licence_of("shufflenet_v1")
        ('TensorFlow, Apache-2.0', 'not known')
    """
    return LICENCES.get(backbone, "not known")
