"""From a trained network to ``RUN.onnx`` and its card: exported, and compared with torch.

What torch answers, by the networks' own code, is the yardstick of an export.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dermfuse.config import ModelConfig
from dermfuse.data.folders import DataFolders
from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.data.loaders import load_cache
from dermfuse.errors import ExportError
from dermfuse.models import count_parameters
from dermfuse.models.classifier import Classifier, JointNetwork, log_odds_row
from dermfuse.publishing.graphs import CLASS_OUTPUTS, INPUT, build_graph, trace_network
from dermfuse.records.folders import RunFolder, atomic_write
from dermfuse.release.cards import (
    RESIZE,
    NetworkCard,
    NetworkInput,
    Parity,
    digest_file,
    licence_of,
    require_file_name,
    write_card,
)
from dermfuse.release.networks import PROBABILITIES
from dermfuse.training.prediction import TrainedNetwork, split_lesions

Answers = dict[str, NDArray[np.float32]]
"""What a network answers, by output, an image a row."""

_IMAGES_AT_ONCE = 8

TOLERANCE = 1e-4
"""Largest difference from torch: of probabilities as it is, else of the largest absolute value."""

_FROM_RECORD = ("init", "epochs", "seed", "device", "precision", "versions", "commit")

CALIBRATION_IMAGES = 64
"""Four times as many moved no metric that was measured by more than it differs between seeds."""


def run_torch(network: nn.Module, images: NDArray[np.uint8]) -> Answers:
    """Returns what a trained network answers about images, under the names of the exported one.

    Args:
        network: A classifier, U-Net or joint network in evaluation mode.
        images: (N, S, S, 3), RGB.
    """
    with torch.inference_mode():
        parts = [
            _ask(network, torch.from_numpy(batch.copy()).permute(0, 3, 1, 2).float() / 255)
            for batch in _batches(images)
        ]
    return {name: torch.cat([part[name] for part in parts]).numpy() for name in parts[0]}


def open_session(network: Path | bytes) -> onnxruntime.InferenceSession:
    """Returns a network, from its file or the file's bytes, on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = network if isinstance(network, bytes) else str(network)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_onnx(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> Answers:
    """Returns what a network answers about images (N, S, S, 3), a few at a time."""
    names = [output.name for output in session.get_outputs()]
    parts = [session.run(names, {INPUT: batch}) for batch in _batches(images)]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def measure_parity(answers: Answers, reference: Answers, *, against: str) -> Parity:
    """Returns how far answers are from those of another form of the same network.

    Args:
        answers: What one form answers.
        reference: What the other answers.
        against: What the other is called.
    """
    differences = {}
    for name, expected in reference.items():
        unit = 1.0 if name in PROBABILITIES else max(float(np.abs(expected).max()), 1e-12)
        differences[name] = float(np.abs(answers[name] - expected).max()) / unit
    images = len(next(iter(reference.values())))
    return Parity(against=against, images=images, largest_difference=differences)


def export_network(trained: TrainedNetwork, out: Path, *, images: NDArray[np.uint8]) -> NetworkCard:
    """Writes ``RUN.onnx`` in float32 and ``RUN.json``, once its answers are those of torch.

    Args:
        trained: As ``load_run`` returns it.
        out: The folder; files of the same name are replaced.
        images: To compare on, (N, S, S, 3), RGB; such as the network will see.

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
        name=trained.run.resolve().name,
        task=model_config.task,
        file="",
        sha256="",
        bytes=0,
        precision="float32",
        input=NetworkInput(
            name=INPUT, dtype="uint8", layout="NHWC", size=size, colour="RGB", resize=RESIZE
        ),
        outputs=outputs,
        preset=trained.config.name,
        backbone=model_config.backbone,
        parameters=count_parameters(trained.network, trainable=True),
        epoch=trained.epoch,
        training=_training(trained),
        weights_licence=_licence(model_config),
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
            action="Squeeze them with dermfuse.imaging.preprocess.squeeze",
        )


def load_calibration(
    trained: TrainedNetwork, data: DataFolders, *, count: int = CALIBRATION_IMAGES
) -> NDArray[np.uint8]:
    """Returns some of a run's training images as the network sees them, (N, S, S, 3).

    Args:
        trained: Its run says which images it was trained on.
        data: The dataset folder, or several.
        count: How many at most.

    Raises:
        DermfuseError: The run has no split, or the folder lacks its images.
    """
    lesions = split_lesions(trained, data, "train")
    order = np.random.default_rng(0).permutation(len(lesions))[:count]
    return load_squares(trained, [lesions[i] for i in sorted(order)])


def load_squares(trained: TrainedNetwork, lesions: Sequence[Lesion]) -> NDArray[np.uint8]:
    """Returns images as a network sees them, (N, S, S, 3)."""
    cache = load_cache(lesions, trained.config.data.input_size)
    return np.ascontiguousarray(cache.images.permute(0, 2, 3, 1).numpy())


def _batches(images: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    for first in range(0, len(images), _IMAGES_AT_ONCE):
        yield images[first : first + _IMAGES_AT_ONCE]


def _ask(network: nn.Module, x: Tensor) -> dict[str, Tensor]:
    if isinstance(network, Classifier):
        embedding = network.embed(x)
        return _classes(network.head(embedding), network.activation_map(x), embedding)
    if isinstance(network, JointNetwork):
        embedding, mask_logits = network.embed_and_segment(x)
        maps = network.backbone.features(network.normalise(x))
        row = log_odds_row(network.class_head)
        activation = (network.backbone.embedding_map(maps[-1]) * row.view(1, -1, 1, 1)).sum(dim=1)
        lesion = mask_logits.sigmoid()[:, 0]
        return {**_classes(network.class_head(embedding), activation, embedding), "lesion": lesion}
    return {"lesion": network(x).sigmoid()[:, 0]}


def _classes(logits: Tensor, activation_map: Tensor, embedding: Tensor) -> dict[str, Tensor]:
    malignant = logits.softmax(1)[:, Label.MALIGNANT]
    return dict(zip(CLASS_OUTPUTS, (logits, malignant, activation_map, embedding), strict=True))


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
