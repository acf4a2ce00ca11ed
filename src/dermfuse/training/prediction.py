"""From a run folder and a dataset folder to a predictions folder."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dermfuse.config import Config, load_config
from dermfuse.data.isic2016 import Lesion, load_isic2016
from dermfuse.data.splits import read_split
from dermfuse.errors import DataError, RunError
from dermfuse.models.build import build_network
from dermfuse.models.discriminant import DiscriminantNetwork
from dermfuse.predictions import (
    SCORES_NAME,
    Manifest,
    mask_path,
    new_predictions,
    probability_path,
    write_manifest,
)
from dermfuse.preprocess import (
    read_image,
    resize_probability,
    squeeze,
    write_mask,
    write_probability,
)
from dermfuse.runs import NOTICE, RunFolder, read_json
from dermfuse.scores import ScoreTable, write_scores
from dermfuse.training.recorder import read_weights

PredictedSplit = Literal["train", "validation", "test"]

MASK_THRESHOLD = 0.5
"""A pixel is lesion at this probability or above (paper, section III-B)."""

_FROM_RECORD = ("epochs", "versions", "commit", "device", "machine", "precision", "threads")


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A network as it is deployed, with the configuration it was trained by.

    Attributes:
        network: In evaluation mode; the pair network is already cut down to one head.
        config: Of its run.
        epoch: The epoch, from 1, whose weights these are.
        run: Its run folder.
    """

    network: nn.Module
    config: Config
    epoch: int
    run: Path


@dataclass(frozen=True, slots=True)
class PredictionReport:
    """What was predicted.

    Attributes:
        out: The predictions folder.
        task: Classification or segmentation.
        split: Which images.
        images: How many.
        notice: That this is research software.
    """

    out: Path
    task: str
    split: str
    images: int
    notice: str = NOTICE

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON-ready values."""
        return {**asdict(self), "out": str(self.out)}


def load_run(run: Path) -> TrainedNetwork:
    """Returns the network of a run folder, ready to predict.

    Raises:
        RunError: If the folder is no run, or has no finished epoch.
    """
    folder = RunFolder(run)
    if not folder.config.is_file():
        raise RunError(
            f"{run} is no run folder",
            expected="a folder with config.toml and best.safetensors",
            action="Train one with: dermfuse train",
        )
    config = load_config(folder.config)
    network = build_network(config.model)
    metadata = read_weights(folder.weights, network)
    if isinstance(network, DiscriminantNetwork):
        network = network.deploy("b" if metadata.get("head") == "b" else "a")
    network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainedNetwork(network, config, int(metadata.get("epoch", 0)), run)


def predict(
    run: Path,
    *,
    data: Path,
    split: PredictedSplit,
    out: Path,
    probabilities: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PredictionReport:
    """Predicts every image of a split and writes a predictions folder, whole or not at all.

    Args:
        run: A run folder.
        data: The dataset folder.
        split: ``test``, or the run's own ``train`` or ``validation`` images.
        out: The predictions folder; new or empty.
        probabilities: Also writes 8-bit probability maps, which fusion needs.
        progress: Called with (done, all).

    Raises:
        DermfuseError: If the run, the data or an image cannot be used.
    """
    trained = load_run(run)
    lesions = _lesions(trained, data, split)
    task = trained.config.model.task
    with new_predictions(out) as folder:
        if task == "classification":
            scores = _classify(trained, lesions, progress)
            ids = tuple(lesion.image_id for lesion in lesions)
            write_scores(folder / SCORES_NAME, ScoreTable(ids, scores))
        else:
            _segment(trained, lesions, folder, probabilities, progress)
        write_manifest(folder, _manifest(trained, split))
    return PredictionReport(out, task, split, len(lesions))


def _manifest(trained: TrainedNetwork, split: str) -> Manifest:
    config = trained.config
    details: dict[str, Any] = {
        "preset": config.name,
        "seed": config.train.seed,
        "init": config.model.init,
        "epoch": trained.epoch,
        "input_size": config.data.input_size,
    }
    record = RunFolder(trained.run).record
    if record.is_file():
        run = read_json(record)
        details |= {key: run.get(key) for key in _FROM_RECORD if key in run}
        details["data"] = run.get("data", {}).get("summary")
    source = f"{config.name}, seed {config.train.seed}"
    return Manifest(config.model.task, source=source, split=split, details=details)


def _lesions(trained: TrainedNetwork, data: Path, split: PredictedSplit) -> list[Lesion]:
    if split == "test":
        return list(load_isic2016(data, "test").lesions)
    parts = read_split(RunFolder(trained.run).split)
    wanted = set(parts.validation if split == "validation" else parts.train)
    lesions = [x for x in load_isic2016(data, "train").lesions if x.image_id in wanted]
    if missing := sorted(wanted - {lesion.image_id for lesion in lesions}):
        raise DataError(
            f"{data} lacks {len(missing)} of the run's {split} images ({', '.join(missing[:3])})",
            expected="the data set the run was trained on",
            action="Give the same --data as in training",
        )
    return lesions


def _classify(
    trained: TrainedNetwork,
    lesions: Sequence[Lesion],
    progress: Callable[[int, int], None] | None,
) -> NDArray[np.float64]:
    parts = [
        logits.double().softmax(1)[:, 1].numpy()
        for _, logits, _ in forward_batches(trained, lesions, progress)
    ]
    return np.concatenate(parts).astype(np.float64)


def _segment(
    trained: TrainedNetwork,
    lesions: Sequence[Lesion],
    folder: Path,
    probabilities: bool,
    progress: Callable[[int, int], None] | None,
) -> None:
    for chunk, mask_logits, shapes in forward_batches(trained, lesions, progress):
        for lesion, small, shape in zip(chunk, mask_logits.sigmoid()[:, 0], shapes, strict=True):
            probability = resize_probability(small.numpy(), *shape)
            write_mask(mask_path(folder, lesion.image_id), probability >= MASK_THRESHOLD)
            if probabilities:
                write_probability(probability_path(folder, lesion.image_id), probability)


def forward_batches(
    trained: TrainedNetwork,
    lesions: Sequence[Lesion],
    progress: Callable[[int, int], None] | None = None,
    *,
    ask: Callable[[Tensor], Tensor] | None = None,
) -> Iterator[tuple[Sequence[Lesion], Tensor, list[tuple[int, int]]]]:
    """Yields (lesions, answers, image shapes) batch by batch, in float32 on the CPU.

    Args:
        trained: The network; its run says how large it sees images.
        lesions: The images.
        progress: Called with (done, all).
        ask: What is asked of a batch of images in [0, 1], (B, 3, S, S); the network's own
            answer if nothing else.

    Raises:
        ImageError: An image cannot be read.
    """
    answer = ask or trained.network
    size, batch_size = trained.config.data.input_size, trained.config.train.batch_size
    done = 0
    with ThreadPoolExecutor() as pool, torch.inference_mode():
        for first in range(0, len(lesions), batch_size):
            chunk = lesions[first : first + batch_size]
            images = list(pool.map(lambda lesion: read_image(lesion.image_path), chunk))
            squares = np.stack([squeeze(image, size) for image in images])  # (B, S, S, 3)
            batch = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255
            answers = answer(batch.contiguous(memory_format=torch.channels_last)).float()
            yield chunk, answers, [(image.shape[0], image.shape[1]) for image in images]
            done += len(chunk)
            if progress:
                progress(done, len(lesions))
