"""From run folders to networks with their cards, measured where there is truth to measure by."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from dermfuse.data.folders import DataFolders
from dermfuse.errors import ExportError
from dermfuse.publishing.onnx import (
    CALIBRATION_IMAGES,
    HeldOut,
    export_network,
    load_calibration,
    load_held_out,
    measure,
    open_session,
    time_networks,
)
from dermfuse.publishing.quantization import EightBits, quantize_network
from dermfuse.records.folders import NOTICE
from dermfuse.release.cards import HeldOutMetrics, NetworkCard, write_card
from dermfuse.training.prediction import TrainedNetwork, load_run

_PARITY_IMAGES = 16
EIGHT_BITS: tuple[EightBits, ...] = ("int8", "int8-weights")
"""What ``int8`` writes beside float32."""


@dataclass(frozen=True, slots=True)
class ExportedNetwork:
    """One network file.

    Attributes:
        card: What it is.
        milliseconds: For one image on one thread of this machine.
        speed: The float32 network's time divided by this one's.
        cost: For each metric, float32 minus this one; empty where nothing was measured.
    """

    card: NetworkCard
    milliseconds: float
    speed: float
    cost: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        return {
            "card": self.card.to_dict(),
            "milliseconds": self.milliseconds,
            "speed": self.speed,
            "cost": dict(self.cost),
        }


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported.

    Attributes:
        out: The folder.
        networks: Each file, float32 before its 8-bit forms.
    """

    out: Path
    networks: tuple[ExportedNetwork, ...]

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON-ready values."""
        networks = [network.to_dict() for network in self.networks]
        return {"out": str(self.out), "networks": networks, "notice": NOTICE}


def export_runs(
    runs: Sequence[str | Path],
    *,
    data: DataFolders,
    out: str | Path,
    int8: bool = False,
    calibration: int = CALIBRATION_IMAGES,
    progress: Callable[[int, int], None] | None = None,
) -> ExportReport:
    """Writes the network of each run, and on request its 8-bit forms, each with its card.

    Args:
        runs: Run folders.
        data: The dataset folder they were trained on, or several.
        out: The folder to write into.
        int8: Also writes ``NAME-int8`` and ``NAME-int8-weights``.
        calibration: How many training images ``int8`` is calibrated on.
        progress: Called with (runs done, all).

    Raises:
        DermfuseError: A run, the data or the folder cannot be used; an export answers otherwise
            than torch.
    """
    out = Path(out)
    _require_distinct([Path(run) for run in runs])
    networks: list[ExportedNetwork] = []
    for done, run in enumerate(runs, start=1):
        networks += _export_run(load_run(run), data, out, int8=int8, calibration=calibration)
        if progress:
            progress(done, len(runs))
    return ExportReport(out, tuple(networks))


def _export_run(
    trained: TrainedNetwork, data: DataFolders, out: Path, *, int8: bool, calibration: int
) -> list[ExportedNetwork]:
    held_out = load_held_out(trained, data)
    seen = load_calibration(trained, data, count=calibration if int8 else _PARITY_IMAGES)
    compared = (seen if held_out is None else held_out.images)[:_PARITY_IMAGES]
    cards = [export_network(trained, out, images=compared)]
    card_path = out / f"{cards[0].name}.json"
    if int8:
        cards += [quantize_network(card_path, out, seen, precision=each) for each in EIGHT_BITS]
    if held_out is not None:
        cards = _measure(cards, out, held_out)
    times = time_networks([out / card.file for card in cards], compared[0])
    return [
        ExportedNetwork(card, milliseconds, times[0] / milliseconds, _cost(card))
        for card, milliseconds in zip(cards, times, strict=True)
    ]


def _measure(cards: Sequence[NetworkCard], out: Path, held_out: HeldOut) -> list[NetworkCard]:
    """Writes into each card what it and the float32 network, the first, do on the same images."""
    metrics = [measure(open_session(out / card.file), held_out) for card in cards]
    measured = [
        replace(
            card,
            measured=HeldOutMetrics(
                split="validation",
                n=len(held_out.images),
                metrics={cards[0].precision: metrics[0], card.precision: own},
            ),
        )
        for card, own in zip(cards, metrics, strict=True)
    ]
    for card in measured:
        write_card(out, card)
    return measured


def _cost(card: NetworkCard) -> dict[str, float]:
    if card.measured is None or card.precision == "float32":
        return {}
    metrics = card.measured.metrics
    return {
        name: value - metrics[card.precision][name] for name, value in metrics["float32"].items()
    }


def _require_distinct(runs: Sequence[Path]) -> None:
    names = [run.resolve().name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ExportError(
            f"two runs are called {twice[0]}",
            expected="runs of different names, for their files are called after them",
            action="Export them into different folders",
        )
