"""From a run folder and a dataset folder to a predictions folder, or to a packed submission."""

import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Generic, Literal, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from dermfuse.config import Config, load_config
from dermfuse.data.folders import DataFolders, load_dataset, name_folders
from dermfuse.data.isic2016 import Label, Lesion
from dermfuse.data.loaders import Fit, fit_back, fit_square
from dermfuse.data.splits import read_split
from dermfuse.errors import ConfigError, DataError, RunError
from dermfuse.imaging.preprocess import read_image, write_mask, write_probability
from dermfuse.imaging.symmetries import SYMMETRIES
from dermfuse.models import build_network
from dermfuse.models.classifier import Classifier, DiscriminantNetwork, JointLogits
from dermfuse.predictions.folder import (
    MANIFEST_NAME,
    SCORES_NAME,
    Manifest,
    SubmissionReport,
    mask_path,
    new_predictions,
    pack,
    probability_path,
    read_predictions,
    write_manifest,
)
from dermfuse.predictions.scores import ScoreTable, write_scores
from dermfuse.records.folders import RunFolder, is_fresh, require_free
from dermfuse.training.distributed import explain_memory
from dermfuse.training.recorder import load_weights

_T = TypeVar("_T")

PredictedSplit = Literal["train", "validation", "test"]

PARTS: dict[str, tuple[PredictedSplit, bool]] = {
    "validation": ("validation", False),
    "test": ("test", False),
    "validation-tta": ("validation", True),
    "test-tta": ("test", True),
}
"""What several predictions of one run are called: the images, and whether in all symmetries."""

MASK_THRESHOLD = 0.5
"""A pixel is lesion at this probability or above (paper, section III-B)."""

_FROM_RECORD = ("init", "epochs", "versions", "commit", "device", "machine", "precision", "threads")


@dataclass(frozen=True, slots=True)
class TrainedNetwork:
    """A network as it is deployed, with the configuration it was trained by.

    Attributes:
        network: In evaluation mode; the pair network is already cut down to one head.
        config: Configuration of its run.
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
        task: Classification, segmentation, or joint for both.
        split: Which images.
        images: How many.
    """

    out: Path
    task: str
    split: str
    images: int


def load_run(run: str | Path, *, mean_head: bool = False) -> TrainedNetwork:
    """Returns the network of a run folder, ready to predict.

    Args:
        run: The folder.
        mean_head: Whether a pair network is cut down to the mean of its class heads, rather than
            to the one that validated better.

    Raises:
        RunError: If the folder is no run, or has no finished epoch.
    """
    run = Path(run)
    folder = RunFolder(run)
    folder.require_run()
    config = load_config(folder.config)
    network = build_network(config.model)
    metadata = load_weights(folder.weights, network)
    if isinstance(network, DiscriminantNetwork):
        best: Literal["a", "b"] = "b" if metadata.get("head") == "b" else "a"
        network = network.deploy("mean" if mean_head else best)
    network = network.eval().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return TrainedNetwork(network, config, int(metadata.get("epoch", 0)), run)


def predict(
    run: str | Path,
    *,
    data: DataFolders,
    split: PredictedSplit,
    out: str | Path,
    probabilities: bool = False,
    tta: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> PredictionReport:
    """Predicts every image of a split and writes a predictions folder, whole or not at all.

    The network is asked in float32, on a GPU where there is one.

    Args:
        run: A run folder.
        data: The dataset folder, or several.
        split: ``test``, or the run's own ``train`` or ``validation`` images.
        out: The predictions folder; new or empty.
        probabilities: Also writes 8-bit probability maps, which fusion needs.
        tta: Test-time augmentation: predicts the mean over the eight symmetries of the square,
            at eight times the cost; the manifest says so.
        progress: Called with (done, all).

    Raises:
        DermfuseError: If the run, the data or an image cannot be used.
    """
    out, trained = Path(out), load_run(run)
    lesions = split_lesions(trained, data, split)
    task = trained.config.model.task
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    network = trained.network.to(device)

    def look(images: Tensor) -> Answer:
        return read_logits(network(images.contiguous(memory_format=torch.channels_last)))

    def ask(images: Tensor) -> Answer:
        there = images.to(device)
        return look_eight_times(look, there) if tta else look(there)

    exact = torch.backends.cudnn.flags(enabled=True, allow_tf32=False)
    with explain_memory(trained.config), new_predictions(out) as folder, exact:
        scores: list[NDArray[np.float64]] = []
        for batch in ask_in_batches(trained, lesions, ask, progress=progress):
            _write_masks(folder, batch, trained.config.data.fit, probabilities=probabilities)
            if batch.answer.malignant is not None:
                scores.append(batch.answer.malignant.cpu().numpy())
        if scores:
            ids = tuple(lesion.image_id for lesion in lesions)
            write_scores(folder / SCORES_NAME, ScoreTable(ids, np.concatenate(scores)))
        write_manifest(folder, _manifest(trained, split, tta=tta))
    return PredictionReport(out, task, split, len(lesions))


def require_parts(parts: Sequence[str]) -> None:
    """Refuses names that are none of ``PARTS``.

    Raises:
        ConfigError: For the first of them.
    """
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f'no part is called "{part}"', expected=f"some of {', '.join(PARTS)}")


def predict_part(run: Path, part: str, *, data: DataFolders, out: Path) -> Path:
    """Predicts one part of a run's images into its folder in ``out``, and returns that.

    Masks come with their probability maps. Predictions that are younger than the run are kept.

    Args:
        run: The run folder.
        part: A key of ``PARTS``.
        data: The dataset folder, or several.
        out: The folder of all predictions of this run.

    Raises:
        DermfuseError: The run, the data or an image cannot be used.
    """
    split, tta = PARTS[part]
    folder, files = out / part, RunFolder(run)

    def make() -> None:
        with_masks = load_config(files.config).model.task != "classification"
        predict(run, data=data, split=split, out=folder, probabilities=with_masks, tta=tta)

    return keep_predictions(folder, [files.weights, files.record], make)


def keep_predictions(out: Path, made_from: Sequence[Path], make: Callable[[], object]) -> Path:
    """Makes a predictions folder, unless it is younger than all that it is made from."""
    was_there = out.exists()  # asked first: another process may finish its own meanwhile
    if not is_fresh(out / MANIFEST_NAME, made_from):
        if was_there:  # ours, and out of date
            shutil.rmtree(out)
        make()
    return out


def submit(
    run: str | Path,
    *,
    data: DataFolders,
    out: str | Path,
    tta: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> SubmissionReport:
    """Predicts the test split with a finished run and packs the predictions, all or nothing.

    Args:
        run: The run folder.
        data: The dataset folder with the test images, or several.
        out: Where to write; new or empty.
        tta: Packs the mean over the eight symmetries of the square, as ``predict`` does; the
            packed record says so.
        progress: Called with (done, all).

    Raises:
        DermfuseError: If the run is not finished, or the run or the data cannot be used.
    """
    run = Path(run)
    out = Path(out)
    _finished_record(run)
    require_free(out, what="predictions")
    with TemporaryDirectory() as scratch:
        unpacked = Path(scratch) / "test"
        predict(run, data=data, split="test", out=unpacked, tta=tta, progress=progress)
        return pack_run(unpacked, out, run=run)


def pack_run(predictions: Path, out: Path, *, run: Path) -> SubmissionReport:
    """Packs what a finished run predicted, all or nothing.

    Args:
        predictions: A predictions folder.
        out: Where to write; new or empty.
        run: The run that predicted.

    Raises:
        DermfuseError: If the run is not finished, or the predictions cannot be read.
    """
    symmetries = read_predictions(predictions).manifest.details.get("symmetries", 1)
    return pack(predictions, out, record={**_finished_record(run), "symmetries": symmetries})


def split_lesions(
    trained: TrainedNetwork, data: DataFolders, split: PredictedSplit
) -> list[Lesion]:
    """Returns the test images, or those that a run trained or validated on.

    Args:
        trained: Its run says which.
        data: The dataset folder, or several.
        split: Which images.

    Raises:
        RunError: The run validated on no image.
        DataError: The data lacks some of the run's images.
    """
    if split == "test":
        return list(load_dataset(data, "test").lesions)
    parts = read_split(RunFolder(trained.run).split)
    wanted = set(parts.validation if split == "validation" else parts.train)
    if not wanted:
        raise RunError(
            f"{trained.run} was trained on all images and validated on none",
            expected="the test or the train split",
            action="Predict with --split test, or train with data.split=source",
        )
    lesions = [x for x in load_dataset(data, "train").lesions if x.image_id in wanted]
    if missing := sorted(wanted - {lesion.image_id for lesion in lesions}):
        raise DataError(
            f"{name_folders(data)} lacks {len(missing)} of the run's {split} images"
            f" ({', '.join(missing[:3])})",
            expected="the data set the run was trained on",
            action="Give the same --data as in training",
        )
    return lesions


@dataclass(frozen=True, slots=True, eq=False)
class AskedBatch(Generic[_T]):
    """A few images and what the network answers about them.

    Attributes:
        lesions: The images.
        shapes: Their heights and widths as read, in pixels.
        answer: About all of them.
    """

    lesions: Sequence[Lesion]
    shapes: Sequence[tuple[int, int]]
    answer: _T


def ask_in_batches(
    trained: TrainedNetwork,
    lesions: Sequence[Lesion],
    ask: Callable[[Tensor], _T],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[AskedBatch[_T]]:
    """Yields the images with what is answered about them, in float32 on the CPU.

    Args:
        trained: The network; its run says how large it sees images, and how many at once.
        lesions: The images.
        ask: Answers a batch of images in [0, 1], (B, 3, S, S), channels last.
        progress: Called with (done, all).

    Raises:
        ImageError: An image cannot be read.
    """
    data, batch_size = trained.config.data, trained.config.train.batch_size
    size, fit = data.input_size, data.fit
    done = 0
    with ThreadPoolExecutor() as pool, torch.inference_mode():
        for first in range(0, len(lesions), batch_size):
            chunk = lesions[first : first + batch_size]
            images = list(pool.map(lambda lesion: read_image(lesion.image_path), chunk))
            squares = np.stack([fit_square(image, size, fit) for image in images])  # (B, S, S, 3)
            batch = torch.from_numpy(squares).permute(0, 3, 1, 2).float() / 255
            answer = ask(batch.contiguous(memory_format=torch.channels_last))
            yield AskedBatch(chunk, [(image.shape[0], image.shape[1]) for image in images], answer)
            done += len(chunk)
            if progress:
                progress(done, len(lesions))


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """Probabilities for a batch of images; None for what the network does not answer.

    Attributes:
        malignant: The softmax probability of malignant, (B,) float64.
        lesion: The probability of lesion at each pixel, (B, S, S) float32.
    """

    malignant: Tensor | None
    lesion: Tensor | None


Look = Callable[[Tensor], Answer]
"""From images (B, 3, S, S) to what a network answers."""


def read_logits(logits: Tensor | JointLogits) -> Answer:
    """Returns the probabilities of class logits (B, 2), mask logits (B, 1, S, S), or both."""
    classes = masks = None
    if isinstance(logits, JointLogits):
        classes, masks = logits
    elif logits.ndim == 4:
        masks = logits
    else:
        classes = logits
    return Answer(
        malignant=None if classes is None else classes.double().softmax(1)[:, 1],
        lesion=None if masks is None else masks.float().sigmoid()[:, 0],
    )


def look_eight_times(look: Look, images: Tensor) -> Answer:
    """Returns the mean of what ``look`` answers to the eight symmetries of ``images``.

    Probability maps are moved back before they are averaged. The mean does not depend on how a
    photograph was turned.

    Args:
        look: Answers one batch.
        images: (B, 3, S, S); square, for a quarter turn keeps their shape.
    """
    malignant, lesion = [], []
    for mirror, turns in SYMMETRIES:
        answer = look(move(images, mirror=mirror, turns=turns))
        if answer.malignant is not None:
            malignant.append(answer.malignant)
        if answer.lesion is not None:
            lesion.append(move_back(answer.lesion, mirror=mirror, turns=turns))
    means = (torch.stack(parts).mean(dim=0) if parts else None for parts in (malignant, lesion))
    return Answer(*means)


def move(x: Tensor, *, mirror: bool, turns: int) -> Tensor:
    """Returns squares (..., S, S) mirrored left to right, then turned counter-clockwise.

    Example:
        >>> move(torch.tensor([[1, 2], [3, 4]]), mirror=True, turns=1).tolist()
        [[1, 3], [2, 4]]
    """
    return (x.flip(-1) if mirror else x).rot90(turns, (-2, -1))


def move_back(x: Tensor, *, mirror: bool, turns: int) -> Tensor:
    """Returns what ``move`` was given, from what it returned.

    Example:
        >>> move_back(torch.tensor([[1, 3], [2, 4]]), mirror=True, turns=1).tolist()
        [[1, 2], [3, 4]]
    """
    back = x.rot90(-turns, (-2, -1))
    return back.flip(-1) if mirror else back


@dataclass(frozen=True, slots=True, eq=False)
class Insight:
    """One network's view of some images, in their order.

    Attributes:
        embeddings: Inputs of its head, (N, E).
        scores: Malignant probabilities, (N,).
    """

    embeddings: NDArray[np.float64]
    scores: NDArray[np.float64]


def embed_images(trained: TrainedNetwork, lesions: Sequence[Lesion]) -> Insight:
    """Returns the embedding and the score of each image, in one pass over them.

    Args:
        trained: A classifier as ``load_run`` returns it.
        lesions: One or more.

    Raises:
        RunError: The network is no classifier.
        ImageError: An image cannot be read.
    """
    classifier = _classifier(trained)
    embeddings, scores = [], []
    for batch in ask_in_batches(trained, lesions, classifier.embed):
        with torch.inference_mode():
            probability = classifier.head(batch.answer).double().softmax(1)
        embeddings.append(batch.answer.double().numpy())
        scores.append(probability[:, Label.MALIGNANT].numpy())
    return Insight(np.concatenate(embeddings), np.concatenate(scores))


def activation_maps(trained: TrainedNetwork, lesions: Sequence[Lesion]) -> NDArray[np.float32]:
    """Returns the class activation map of malignancy of each image, (N, S/32, S/32).

    Args:
        trained: A classifier as ``load_run`` returns it.
        lesions: One or more.

    Raises:
        RunError: The network is no classifier.
        ImageError: An image cannot be read.
    """
    ask = _classifier(trained).activation_map
    parts = [batch.answer.numpy() for batch in ask_in_batches(trained, lesions, ask)]
    return np.concatenate(parts).astype(np.float32)


def _write_masks(
    folder: Path, batch: "AskedBatch[Answer]", fit: Fit, *, probabilities: bool
) -> None:
    """Writes the masks, and on request the maps, of a batch at the images' own sizes."""
    if batch.answer.lesion is None:
        return
    maps = batch.answer.lesion.cpu().numpy()
    for lesion, small, shape in zip(batch.lesions, maps, batch.shapes, strict=True):
        probability = fit_back(small, *shape, fit)
        write_mask(mask_path(folder, lesion.image_id), probability >= MASK_THRESHOLD)
        if probabilities:
            write_probability(probability_path(folder, lesion.image_id), probability)


def _manifest(trained: TrainedNetwork, split: str, *, tta: bool) -> Manifest:
    config = trained.config
    details: dict[str, Any] = {
        "preset": config.name,
        "seed": config.train.seed,
        "init": config.model.init,
        "epoch": trained.epoch,
        "input_size": config.data.input_size,
        "symmetries": len(SYMMETRIES) if tta else 1,
    }
    folder = RunFolder(trained.run)
    if folder.record.is_file():
        run = folder.read_record()
        details |= {key: run.get(key) for key in _FROM_RECORD if key in run}
        details["data"] = run.get("data", {}).get("summary")
    mean = f", mean of {len(SYMMETRIES)} symmetries" if tta else ""
    source = f"{config.name}, seed {config.train.seed}{mean}"
    return Manifest(config.model.task, source=source, split=split, details=details)


def _finished_record(run: Path) -> dict[str, Any]:
    record = RunFolder(run).read_record()
    if record.get("status") != "finished":
        raise RunError(
            f"{run} is {record.get('status', 'of unknown state')} after"
            f" {record.get('epochs', 0)} epochs",
            expected="a finished run",
            action="Finish it with: dermfuse train ... --resume",
        )
    return record


def _classifier(trained: TrainedNetwork) -> Classifier:
    if not isinstance(trained.network, Classifier):
        raise RunError(
            f"{trained.run} holds {type(trained.network).__name__}", expected="a class network"
        )
    return trained.network
