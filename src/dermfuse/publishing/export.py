"""From run folders to networks with their cards, measured where there is truth to measure by."""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dermfuse.data.folders import DataFolders
from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import ExportError
from dermfuse.imaging.masks import read_mask
from dermfuse.imaging.preprocess import resize_probability
from dermfuse.predictions.metrics import auc, average_precision, count, jaccard
from dermfuse.publishing.graphs import INPUT
from dermfuse.publishing.onnx import (
    CALIBRATION_IMAGES,
    export_network,
    load_calibration,
    load_squares,
    open_session,
    run_onnx,
)
from dermfuse.publishing.quantization import EightBits, quantize_network
from dermfuse.records.folders import NOTICE
from dermfuse.release.cards import HeldOutMetrics, NetworkCard, write_card
from dermfuse.training.prediction import MASK_THRESHOLD, TrainedNetwork, load_run, split_lesions

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
        return {**asdict(self), "card": self.card.to_dict()}


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


def held_out(trained: TrainedNetwork, data: DataFolders) -> list[Lesion]:
    """Returns the validation images of a run; none where it was trained on copies of them.

    Raises:
        DermfuseError: The run has no split, or the folder lacks its images.
    """
    if trained.config.data.split != "source":  # copies of all images, or all, were trained on
        return []
    return split_lesions(trained, data, "validation")


def measure(
    session: onnxruntime.InferenceSession, images: NDArray[np.uint8], lesions: Sequence[Lesion]
) -> Mapping[str, float]:
    """Returns ``auc`` and ``average_precision``, ``jaccard``, or all of them.

    The Jaccard index is the mean over the images, at their own sizes. Where only one class is
    there, neither of the first two is defined, and neither is returned.

    Args:
        session: The network.
        images: As the network sees them, (N, S, S, 3).
        lesions: The same images, with the truth about them.
    """
    answers, metrics = run_onnx(session, images), {}
    malignant = np.array([bool(lesion.label) for lesion in lesions])
    if "malignant" in answers and malignant.any() and not malignant.all():
        metrics["auc"] = auc(malignant, answers["malignant"])
        metrics["average_precision"] = average_precision(malignant, answers["malignant"])
    if "lesion" in answers:
        pairs = zip(answers["lesion"], lesions, strict=True)
        overlaps = [_jaccard(found, x.mask_path) for found, x in pairs if x.mask_path]
        metrics["jaccard"] = float(np.mean(overlaps))
    return metrics


def time_networks(
    networks: list[Path], image: NDArray[np.uint8], *, repeats: int = 20
) -> list[float]:
    """Returns the median milliseconds of one image on one thread, for each network.

    They take turns, and the thread's own time is counted, so that what else the machine does
    disturbs all of them alike and little.

    Args:
        networks: Their files.
        image: (S, S, 3).
        repeats: Runs of each, after one that is not counted.
    """
    sessions = [open_session(path) for path in networks]
    took = np.zeros((repeats + 1, len(sessions)))
    for turn in took:
        for number, session in enumerate(sessions):
            start = time.thread_time()
            session.run(None, {INPUT: image[None]})
            turn[number] = time.thread_time() - start
    return [float(median) for median in 1000 * np.median(took[1:], axis=0)]


def _export_run(
    trained: TrainedNetwork, data: DataFolders, out: Path, *, int8: bool, calibration: int
) -> list[ExportedNetwork]:
    lesions = held_out(trained, data)
    seen = load_calibration(trained, data, count=calibration if int8 else _PARITY_IMAGES)
    images = load_squares(trained, lesions) if lesions else seen
    compared = images[:_PARITY_IMAGES]
    cards = [export_network(trained, out, images=compared)]
    card_path = out / f"{cards[0].name}.json"
    if int8:
        cards += [quantize_network(card_path, out, seen, precision=each) for each in EIGHT_BITS]
    if lesions:
        cards = _measure(cards, out, images, lesions)
    times = time_networks([out / card.file for card in cards], compared[0])
    return [
        ExportedNetwork(card, milliseconds, times[0] / milliseconds, _cost(card))
        for card, milliseconds in zip(cards, times, strict=True)
    ]


def _jaccard(found: NDArray[np.float32], mask_path: Path) -> float:
    mask = read_mask(mask_path)
    return jaccard(count(resize_probability(found, *mask.shape) >= MASK_THRESHOLD, mask))


def _measure(
    cards: Sequence[NetworkCard], out: Path, images: NDArray[np.uint8], lesions: Sequence[Lesion]
) -> list[NetworkCard]:
    """Writes into each card what it and the float32 network, the first, do on the same images."""
    metrics = [measure(open_session(out / card.file), images, lesions) for card in cards]
    measured = [
        replace(
            card,
            measured=HeldOutMetrics(
                split="validation",
                n=len(lesions),
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
