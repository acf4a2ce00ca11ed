"""What the networks of a release say about images they were not trained on.

A network that ships has seen every training image, so nothing can be measured with it. Networks
of the same recipe were trained in folds: those are exported in the precision that ships, and each
is asked about the images it was not trained on.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dermfuse.data.folders import DataFolders
from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import ExportError
from dermfuse.export.execution import open_session, run_onnx
from dermfuse.export.images import load_calibration, load_squares
from dermfuse.export.network import export_network
from dermfuse.export.quantization import quantize_network
from dermfuse.release.cards import NetworkCard, Precision
from dermfuse.training.prediction import TrainedNetwork, split_lesions

_PARITY_IMAGES = 16
_RECIPE = ("augment", "model", "loss", "train")
_NOT_RECIPE = ("seed", "threads", "device", "compile")


@dataclass(frozen=True, slots=True, eq=False)
class FoldAnswers:
    """One fold's network, asked.

    Attributes:
        held_back: The images it was not trained on.
        answers: About them, by output, rows in their order, in the precision that ships.
        exact: The same in float32; the very same answers where that is what ships.
        trained_on: The images it was trained on.
        embeddings: Of those, (N, E); None for a network that only outlines.
    """

    held_back: tuple[Lesion, ...]
    answers: Mapping[str, NDArray[np.float32]]
    exact: Mapping[str, NDArray[np.float32]]
    trained_on: tuple[Lesion, ...]
    embeddings: NDArray[np.float32] | None


def export_shipped(
    trained: TrainedNetwork, data: DataFolders, out: Path, *, precision: Precision
) -> NetworkCard:
    """Writes a network in the precision that ships, and returns its card.

    Args:
        trained: The network.
        data: The dataset folder; 8 bits are calibrated on the run's training images.
        out: The folder; of a network in 8 bits the float32 file is not kept.
        precision: ``float32``, ``int8`` or ``int8-weights``.
    """
    exact, shipped = _export(trained, data, out, precision)
    if shipped != exact:
        (out / f"{exact.name}.json").unlink()
        (out / exact.file).unlink()
    return shipped


def ask_folds(
    folds: Sequence[TrainedNetwork], data: DataFolders, folder: Path, *, precision: Precision
) -> tuple[FoldAnswers, ...]:
    """Returns what each fold's network says about the images it was not trained on.

    Args:
        folds: Networks of one recipe, whose validation images differ.
        data: The dataset folder.
        folder: For the exported networks.
        precision: That ships.

    Raises:
        ExportError: Two runs validated on the same image.
        DermfuseError: A run or the data cannot be used.
    """
    found = tuple(_ask(fold, data, folder, precision) for fold in folds)
    seen: set[str] = set()
    for trained, fold in zip(folds, found, strict=True):
        ids = {lesion.image_id for lesion in fold.held_back}
        if twice := sorted(seen & ids):
            raise ExportError(
                f"{trained.run} validated on {twice[0]}, as another of the runs did",
                expected="one run per fold",
                action="Name each fold once",
            )
        seen |= ids
    return found


def require_recipe(final: TrainedNetwork, fold: TrainedNetwork) -> None:
    """Refuses a fold that was trained in another way than the network that ships.

    Raises:
        ExportError: Names the first setting that differs.
    """
    wanted, given = final.config.to_mapping(), fold.config.to_mapping()
    pairs = [
        (f"{table}.{key}", value, given[table][key])
        for table in _RECIPE
        for key, value in wanted[table].items()
        if key not in _NOT_RECIPE
    ]
    pairs += [("data.input_size", *(m["data"]["input_size"] for m in (wanted, given)))]
    for name, ships, other in pairs:
        if ships != other:
            raise ExportError(
                f"{fold.run} was trained with {name} {other!r}, {final.run} with {ships!r}",
                expected="folds of the recipe that ships",
                action="Train the folds again, or name others",
            )


def _export(
    trained: TrainedNetwork, data: DataFolders, out: Path, precision: Precision
) -> tuple[NetworkCard, NetworkCard]:
    """Returns the cards of a network in float32 and in the precision that ships."""
    seen = load_calibration(trained, data)
    exact = export_network(trained, out, images=seen[:_PARITY_IMAGES])
    if precision == "float32":
        return exact, exact
    return exact, quantize_network(out / f"{exact.name}.json", out, seen, precision=precision)


def _ask(
    trained: TrainedNetwork, data: DataFolders, folder: Path, precision: Precision
) -> FoldAnswers:
    exact, shipped = _export(trained, data, folder, precision)
    held_back, trained_on = (
        tuple(split_lesions(trained, data, split)) for split in ("validation", "train")
    )
    squares = load_squares(trained, held_back)
    session = open_session(folder / shipped.file)
    answers = run_onnx(session, squares)
    unrounded = answers
    if shipped != exact:
        unrounded = run_onnx(open_session(folder / exact.file), squares)
    embeddings = None
    if "embedding" in shipped.outputs:
        embeddings = run_onnx(session, load_squares(trained, trained_on))["embedding"]
    return FoldAnswers(held_back, answers, unrounded, trained_on, embeddings)
