"""From a trained network to ``NAME.onnx`` and its card."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from dermfuse.config import ModelConfig
from dermfuse.errors import ExportError
from dermfuse.export.execution import measure_parity, open_session, run_onnx
from dermfuse.export.graphs import build_graph
from dermfuse.export.reference import run_torch
from dermfuse.export.tracing import INPUT, trace_network
from dermfuse.models import count_parameters
from dermfuse.release.cards import (
    NetworkCard,
    NetworkInput,
    Parity,
    digest_file,
    write_card,
)
from dermfuse.release.files import require_file_name
from dermfuse.release.licences import licence_of
from dermfuse.runs import RunFolder, atomic_write
from dermfuse.training.prediction import TrainedNetwork

TOLERANCE = 1e-4
"""Largest difference from torch: of probabilities as it is, else of the largest absolute value."""

_FROM_RECORD = ("init", "epochs", "seed", "device", "precision", "versions", "commit")


def export_network(
    trained: TrainedNetwork,
    out: Path,
    *,
    images: NDArray[np.uint8],
    name: str = "",
    weights_licence: str = "",
) -> NetworkCard:
    """Writes ``NAME.onnx`` in float32 and ``NAME.json``, once its answers are those of torch.

    Args:
        trained: As ``load_run`` returns it.
        out: The folder; files of the same name are replaced.
        images: To compare on, (N, S, S, 3), RGB; such as the network will see.
        name: Of the files; else the run folder's.
        weights_licence: For the card; else what is known of where the weights began.

    Raises:
        ExportError: The network is of a kind that is not served; ``images`` are not of its size;
            an output differs from torch's by more than ``TOLERANCE``.
        StorageError: The folder cannot be written.
    """
    size = trained.config.data.input_size
    if trained.config.data.fit != "squeeze":
        raise ExportError(
            f"{trained.run} was trained with data.fit {trained.config.data.fit}",
            expected="squeeze, as the analysis and the browser fit a frame to the square",
            action="Train it with data.fit=squeeze",
        )
    require_images(images, size=size)
    graph, outputs = build_graph(trained.network)
    model = trace_network(graph, size=size, outputs=list(outputs))
    answers = run_onnx(open_session(model.SerializeToString()), images)
    parity = measure_parity(answers, run_torch(trained.network, images), against="torch")
    _require_parity(parity, trained.run)
    model_config = trained.config.model
    draft = NetworkCard(
        name=name or trained.run.resolve().name,
        task=model_config.task,
        file="",
        sha256="",
        bytes=0,
        precision="float32",
        input=NetworkInput(name=INPUT, size=size),
        outputs=outputs,
        preset=trained.config.name,
        backbone=model_config.backbone,
        parameters=count_parameters(trained.network, trainable=True),
        epoch=trained.epoch,
        training=_training(trained),
        weights_licence=weights_licence or _licence(model_config),
        parity=parity,
    )
    return write_network(out, model, draft)


def write_network(out: Path, model: onnx.ModelProto, draft: NetworkCard) -> NetworkCard:
    """Writes a network and its card, which then names the file, its size and SHA-256.

    Args:
        out: The folder.
        model: The network.
        draft: Its card but for these.

    Raises:
        ExportError: The network's name is no name of a file.
        StorageError: The folder cannot be written.
    """
    require_file_name(draft.name, source="the network's name", error=ExportError)
    path = out / f"{draft.name}.onnx"
    model.producer_name, model.producer_version = "dermfuse", ""
    with atomic_write(path) as handle:
        handle.write(model.SerializeToString(deterministic=True))
    card = replace(draft, file=path.name, sha256=digest_file(path), bytes=path.stat().st_size)
    write_card(out, card)
    return card


def require_images(images: NDArray[np.uint8], *, size: int) -> None:
    """Refuses images that are not those of a network's input.

    Raises:
        ExportError: They are not (N, size, size, 3) bytes, or none.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (size, size, 3) or not len(images):
        raise ExportError(
            f"the images are {images.dtype} of shape {images.shape}",
            expected=f"uint8 of shape (N, {size}, {size}, 3), one or more",
            action="Squeeze them with dermfuse.preprocess.squeeze",
        )


def _require_parity(parity: Parity, run: Path) -> None:
    worst = max(parity.largest_difference, key=lambda name: parity.largest_difference[name])
    difference = parity.largest_difference[worst]
    if not difference <= TOLERANCE:  # NaN is refused, too
        raise ExportError(
            f"{run}: {worst} of the exported network differs from torch by {difference:.2g}",
            expected=f"{TOLERANCE:g} or less",
            action="Do not use it; report the run's configuration and the versions in run.json",
        )


def _training(trained: TrainedNetwork) -> Mapping[str, Any]:
    folder = RunFolder(trained.run)
    record = folder.read_record() if folder.record.is_file() else {}
    kept = {key: record[key] for key in _FROM_RECORD if key in record}
    summary = record.get("data", {}).get("summary")
    fixed = {"init": trained.config.model.init, "seed": trained.config.train.seed}
    return {**({"data": summary} if summary else {}), **fixed, **kept}


def _licence(model: ModelConfig) -> str:
    if model.init == "random":
        return "trained from random weights"
    return f"trained from ImageNet weights of {model.backbone} ({licence_of(model.backbone)})"
