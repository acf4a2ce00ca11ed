"""A network's card: what ``NAME.onnx`` takes and answers, where it comes from, how good it is.

``NAME.json`` lies beside ``NAME.onnx`` and names its SHA-256, so that a card is never read with
another network than its own.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, Self, get_args

from dermfuse.config import Task
from dermfuse.errors import ReleaseError, RunError
from dermfuse.runs import NOTICE, read_json, write_json

FORMAT = 2
"""The version of the card; from 2 on activation maps are log-odds, not the malignant logit."""
RESIZE = (
    "the whole frame to size x size pixels, bilinear, antialiased (dermfuse.preprocess.squeeze)"
)
"""How an image becomes the input."""

Precision = Literal["float32", "int8", "int8-weights"]
"""Computed and stored in float32; both in 8 bits; stored in 8 bits and computed in float32."""

_CHUNK_BYTES = 1 << 20
_NOTHING: Mapping[str, Any] = MappingProxyType({})
_EXPORT_AGAIN = "Write it again with: dermfuse export"


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkInput:
    """What the network takes.

    Attributes:
        name: Of the graph's one input.
        dtype: Of its numbers.
        layout: Images, height, width, channels.
        size: S, the side of the square in pixels.
        colour: The order of the channels.
        resize: How an image becomes the square, in words.
    """

    name: str = "image"
    dtype: str = "uint8"
    layout: str = "NHWC"
    size: int
    colour: str = "RGB"
    resize: str = RESIZE


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
    images: int
    largest_difference: Mapping[str, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """How good the file is beside its float32 form, on images it was not trained on.

    Attributes:
        split: Which images.
        n: How many.
        metrics: Of each precision: ``auc``, ``average_precision``, ``jaccard``.
    """

    split: str
    n: int
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkCard:
    """What is known of one network file.

    Attributes:
        name: Of the network; the file is ``name.onnx``, the card ``name.json``.
        task: What it answers.
        file: The file's name, beside the card.
        sha256: Of the file, in hexadecimal.
        bytes: Of the file.
        precision: How it stores and computes.
        input: What it takes.
        outputs: What it answers, each in words.
        preset: Of its run.
        backbone: Empty for the original U-Net.
        parameters: How many numbers training changed.
        epoch: The epoch, from 1, whose weights these are.
        training: Data, epochs, seed, init, device, versions, commit of the run.
        weights_licence: What the weights may be used for, in words.
        parity: Against what it was made from.
        measured: None where the run has no validation images.
        quantization: How 8 bits came about; empty for float32.
        notice: That this is research software.
    """

    name: str
    task: Task
    file: str
    sha256: str
    bytes: int
    precision: Precision
    input: NetworkInput
    outputs: Mapping[str, str]
    preset: str
    backbone: str
    parameters: int
    epoch: int
    training: Mapping[str, Any]
    weights_licence: str
    parity: Parity
    measured: Measured | None = None
    quantization: Mapping[str, Any] = field(default_factory=lambda: _NOTHING)
    notice: str = NOTICE

    def to_dict(self) -> dict[str, Any]:
        """Returns the JSON object."""
        record: dict[str, Any] = {"format": FORMAT}
        for each in fields(self):
            record[each.name] = _plain(getattr(self, each.name))
        return {key: value for key, value in record.items() if value not in (None, {})}

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any], *, source: str = "the card") -> Self:
        """Returns the card of a parsed JSON object.

        Args:
            mapping: As ``to_dict`` returns it.
            source: Where it is from, for the error.

        Raises:
            ReleaseError: A key is missing, of another type or value, or the format is another.
        """
        if mapping.get("format") != FORMAT:
            raise ReleaseError(
                f"{source} has format {mapping.get('format')!r}",
                expected=f"format {FORMAT}",
                action="Export the network with this version of dermfuse",
            )
        read = _Reader(mapping, source)
        record = cls(
            name=read.text("name"),
            task=read.one_of("task", get_args(Task)),
            file=read.text("file"),
            sha256=read.text("sha256"),
            bytes=read.count("bytes"),
            precision=read.one_of("precision", get_args(Precision)),
            input=read.table("input").network_input(),
            outputs=read.texts("outputs"),
            preset=read.text("preset"),
            backbone=read.text("backbone"),
            parameters=read.count("parameters"),
            epoch=read.count("epoch"),
            training=read.mapping("training"),
            weights_licence=read.text("weights_licence"),
            parity=read.table("parity").parity(),
            measured=read.table("measured").measured() if "measured" in mapping else None,
            quantization=read.mapping("quantization") if "quantization" in mapping else _NOTHING,
            notice=read.text("notice"),
        )
        if Path(record.file).name != record.file or not record.file:
            raise read.refusal("file", "the name of a file beside the card")
        return record

    def locate(self, card: Path) -> Path:
        """Returns where the network file lies, from where its card lies."""
        return card.parent / self.file


def read_card(path: str | Path) -> NetworkCard:
    """Returns a network's card, having checked that the file beside it is the one it describes.

    Raises:
        ReleaseError: The card is missing, damaged or of another format; the network file is
            missing, of another size, or not the one whose SHA-256 the card names.
    """
    path = Path(path)
    try:
        record = read_json(path)
    except RunError as error:
        raise ReleaseError(str(error), action=_EXPORT_AGAIN) from error
    card = NetworkCard.from_mapping(record, source=str(path))
    file = card.locate(path)
    if not file.is_file():
        raise ReleaseError(
            f"{file} is missing", expected="the network beside its card", action=_EXPORT_AGAIN
        )
    found = file.stat().st_size
    if found != card.bytes:
        raise ReleaseError(
            f"{file} has {found:,} bytes",
            expected=f"{card.bytes:,}, as {path.name} says",
            action="Copy it again",
        )
    if (digest := digest_file(file)) != card.sha256:
        raise ReleaseError(
            f"{file} has SHA-256 {digest[:16]}...",
            expected=f"{card.sha256[:16]}..., as {path.name} says",
            action="Do not use it: it is damaged or was changed. Copy it again",
        )
    return card


def write_card(folder: Path, card: NetworkCard) -> Path:
    """Writes ``NAME.json`` atomically, after its network; returns its path."""
    path = folder / f"{card.name}.json"
    write_json(path, card.to_dict())
    return path


def digest_file(path: Path) -> str:
    """Returns the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while chunk := handle.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def _plain(value: object) -> object:
    """Returns a value of a card as JSON has it."""
    if isinstance(value, NetworkInput | Parity | Measured):
        return {each.name: _plain(getattr(value, each.name)) for each in fields(value)}
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return value


@dataclass(frozen=True, slots=True)
class _Reader:
    """Takes typed values from a JSON object, or says which one is wrong.

    Attributes:
        record: The object.
        source: Where it is from.
        prefix: Of its keys, in the errors' words.
    """

    record: Mapping[str, Any]
    source: str
    prefix: str = ""

    def refusal(self, key: str, expected: str) -> ReleaseError:
        found = f"is {self.record[key]!r}" if key in self.record else "is missing"
        return ReleaseError(
            f"{self.source}: {self.prefix}{key} {found}", expected=expected, action=_EXPORT_AGAIN
        )

    def text(self, key: str) -> str:
        value = self.record.get(key)
        if not isinstance(value, str):
            raise self.refusal(key, "a text")
        return value

    def one_of(self, key: str, choices: tuple[Any, ...]) -> Any:  # noqa: ANN401 — of a Literal
        if self.text(key) not in choices:
            raise self.refusal(key, "one of " + ", ".join(choices))
        return self.record[key]

    def count(self, key: str) -> int:
        value = self.record.get(key)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise self.refusal(key, "a whole number, 0 or more")
        return value

    def mapping(self, key: str) -> Mapping[str, Any]:
        value = self.record.get(key)
        if not isinstance(value, Mapping):
            raise self.refusal(key, "an object")
        return value

    def table(self, key: str) -> "_Reader":
        return _Reader(self.mapping(key), self.source, f"{self.prefix}{key}.")

    def texts(self, key: str) -> dict[str, str]:
        table = self.table(key)
        return {name: table.text(name) for name in table.record}

    def numbers(self, key: str) -> dict[str, float]:
        table = self.table(key)
        for name, value in table.record.items():
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise table.refusal(name, "a number")
        return {name: float(value) for name, value in table.record.items()}

    def network_input(self) -> NetworkInput:
        read = {key: self.text(key) for key in ("name", "dtype", "layout", "colour", "resize")}
        return NetworkInput(**read, size=self.count("size"))

    def parity(self) -> Parity:
        return Parity(
            against=self.text("against"),
            images=self.count("images"),
            largest_difference=self.numbers("largest_difference"),
        )

    def measured(self) -> Measured:
        metrics = self.table("metrics")
        return Measured(
            split=self.text("split"),
            n=self.count("n"),
            metrics={precision: metrics.numbers(precision) for precision in metrics.record},
        )
