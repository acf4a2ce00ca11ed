"""What the networks of a release say about images they were not trained on.

A network that ships has seen every training image, so nothing can be measured with it. Networks
of the same recipe were trained in folds: those are exported in the precision that ships, and each
is asked about the images it was not trained on, at as many orientations as the release will be.
"""

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.networks import Network, ask_all, load_network
from dermfuse.data.folders import DataFolders
from dermfuse.data.isic2016 import Lesion
from dermfuse.errors import ExportError
from dermfuse.export.images import load_calibration
from dermfuse.export.network import export_network
from dermfuse.export.quantization import quantize_network
from dermfuse.looks import Answers, Looks
from dermfuse.preprocess import read_image
from dermfuse.release.cards import NetworkCard, Precision
from dermfuse.runs import core_count
from dermfuse.training.prediction import TrainedNetwork, split_lesions

_PARITY_IMAGES = 16
_RECIPE = ("data", "augment", "model", "loss", "train")
_NOT_RECIPE = frozenset(
    {
        *("data.split", "data.validation_fraction", "data.folds", "data.fold"),
        *("data.outer_folds", "data.outer_fold", "train.teachers", "train.seed"),
        *("train.threads", "train.device", "train.compile"),
    }
)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True, eq=False)
class FoldNetwork:
    """One fold's network, exported.

    Attributes:
        held_back: The images it was not trained on.
        trained_on: The images it was trained on.
        shipped: In the precision that ships.
        exact: In float32; the same where that is what ships.
    """

    held_back: tuple[Lesion, ...]
    trained_on: tuple[Lesion, ...]
    shipped: Network
    exact: Network


@dataclass(frozen=True, slots=True, eq=False)
class FoldAnswers:
    """One fold's class network, asked.

    Attributes:
        held_back: The images it was not trained on.
        malignant: Their scores with all looks, in the precision that ships. (N,)
        one_look: The same of the image as it is. (N,)
        exact: The scores of one look in float32. (N,)
        embedding: Of the held-back images, the mean over looks. (N, E)
        activations: Their activation maps, the mean over looks. (N, h, w)
        trained_on: The images it was trained on.
        embeddings: Of those. (M, E)
    """

    held_back: tuple[Lesion, ...]
    malignant: NDArray[np.float64]
    one_look: NDArray[np.float64]
    exact: NDArray[np.float64]
    embedding: NDArray[np.float32]
    activations: NDArray[np.float32]
    trained_on: tuple[Lesion, ...]
    embeddings: NDArray[np.float32]


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


def export_folds(
    folds: Sequence[TrainedNetwork], data: DataFolders, folder: Path, *, precision: Precision
) -> tuple[FoldNetwork, ...]:
    """Returns each fold's network, exported, with the images it was and was not trained on.

    Args:
        folds: Networks of one recipe, whose validation images differ.
        data: The dataset folder, or several.
        folder: For the exported networks.
        precision: That ships.

    Raises:
        ExportError: Two runs validated on the same image.
        DermfuseError: A run or the data cannot be used.
    """
    seen: set[str] = set()
    found = []
    for trained in folds:
        held_back, trained_on = (
            tuple(split_lesions(trained, data, split)) for split in ("validation", "train")
        )
        ids = {lesion.image_id for lesion in held_back}
        if twice := sorted(seen & ids):
            raise ExportError(
                f"{trained.run} validated on {twice[0]}, as another of the runs did",
                expected="one run per fold",
                action="Name each fold once",
            )
        seen |= ids
        exact, shipped = (
            load_network(folder / f"{card.name}.json", threads=1)
            for card in _export(trained, data, folder, precision)
        )
        found.append(FoldNetwork(held_back, trained_on, shipped, exact))
    return tuple(found)


def ask_fold(fold: FoldNetwork, *, looks: Looks) -> FoldAnswers:
    """Returns what a class network says about all images of its fold.

    Args:
        fold: The network.
        looks: At how many orientations of an image it looks.
    """

    def ask(lesion: Lesion) -> tuple[float, float, float, NDArray[np.float32], NDArray[np.float32]]:
        image = Image.fromarray(read_image(lesion.image_path))
        apart = look_at(fold.shipped, image, looks)
        one = float(apart["malignant"][0])
        exact = one
        if fold.exact.card != fold.shipped.card:
            exact = float(look_at(fold.exact, image, 1)["malignant"][0])
        embedding, activation = (
            apart[name].mean(axis=0) for name in ("embedding", "activation_map")
        )
        return float(apart["malignant"].mean()), one, exact, embedding, activation

    rows = each_image(ask, fold.held_back)
    malignant, one_look, exact, embedding, activation = zip(*rows, strict=True)
    return FoldAnswers(
        held_back=fold.held_back,
        malignant=np.array(malignant),
        one_look=np.array(one_look),
        exact=np.array(exact),
        embedding=np.stack(embedding),
        activations=np.stack(activation),
        trained_on=fold.trained_on,
        embeddings=embed(fold.shipped, fold.trained_on, looks=looks),
    )


def embed(network: Network, lesions: Sequence[Lesion], *, looks: Looks) -> NDArray[np.float32]:
    """Returns a network's embedding of each image, the mean over looks, (N, E)."""

    def ask(lesion: Lesion) -> NDArray[np.float32]:
        image = Image.fromarray(read_image(lesion.image_path))
        return np.asarray(look_at(network, image, looks)["embedding"].mean(axis=0))

    return np.stack(each_image(ask, lesions))


def look_at(network: Network, image: Image.Image, looks: Looks) -> Answers:
    """Returns what one network says about one image, looks apart: each output (looks, ...)."""
    return ask_all([network], image, looks=looks)[0]


def each_image(ask: Callable[[Lesion], _T], lesions: Iterable[Lesion]) -> list[_T]:
    """Returns what ``ask`` returns for each image, in their order; one per processor at once."""
    with ThreadPoolExecutor(core_count()) as pool:
        return list(pool.map(ask, lesions))


def require_recipe(final: TrainedNetwork, fold: TrainedNetwork) -> None:
    """Refuses a fold that was trained in another way than the network that ships.

    How images were split, seeds, threads and devices are not the recipe; whether there are
    teachers is, and which is not: each fold has teachers that never saw it.

    Raises:
        ExportError: Names the first setting that differs.
    """
    wanted, given = final.config.to_mapping(), fold.config.to_mapping()
    if bool(final.config.train.teachers) != bool(fold.config.train.teachers):
        taught, other = (final, fold) if final.config.train.teachers else (fold, final)
        raise ExportError(
            f"{taught.run} was trained with teachers, {other.run} without",
            expected="folds of the recipe that ships",
            action="Train the folds again, or name others",
        )
    for table in _RECIPE:
        for key, ships in wanted[table].items():
            name, other = f"{table}.{key}", given[table][key]
            if name not in _NOT_RECIPE and ships != other:
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
