"""The networks of a release, run by ONNX Runtime: squares of pixels in, answers out."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from dermfuse.errors import ReleaseError
from dermfuse.looks import Answers, Looks, gather_all, spread_looks
from dermfuse.preprocess import squeeze
from dermfuse.release.cards import NetworkCard, read_card
from dermfuse.release.folder import Member

_WARNINGS_OFF = 3  # errors alone: a warning on stderr is of no use to who analyses an image


@dataclass(frozen=True, slots=True)
class Network:
    """One network, ready to be asked; many threads may ask at once.

    Args:
        card: What it is.
        session: Runs it.
    """

    card: NetworkCard
    session: ort.InferenceSession

    def ask(self, squares: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        """Returns every output for a batch.

        Args:
            squares: RGB, (N, S, S, 3), as ``dermfuse.preprocess.squeeze`` makes them.
        """
        names = list(self.card.outputs)
        found = self.session.run(names, {self.card.input.name: squares})
        return dict(zip(names, found, strict=True))


def load_network(card_path: Path, *, threads: int) -> Network:
    """Returns a network of a release.

    Args:
        card_path: Its card; the ONNX file lies beside it.
        threads: That one question may use.

    Raises:
        ReleaseError: The card or the file is missing or damaged, or ONNX Runtime refuses it.
    """
    card = read_card(card_path)
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin after a network has answered would take the next one's processors.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.log_severity_level = _WARNINGS_OFF
    path = card_path.parent / card.file
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime raises types of its own for each way to fail
        raise ReleaseError(
            f"{path} cannot be run ({error})",
            expected="a network that this ONNX Runtime knows",
            action="Upgrade onnxruntime, or export the network again",
        ) from error
    return Network(card, session)


def load_networks(folder: Path, members: Iterable[Member], *, threads: int) -> list[Network]:
    """Returns the networks of a fusion, in its order.

    Args:
        folder: The release.
        members: Of the fusion.
        threads: As for ``load_network``.

    Raises:
        ReleaseError: As for ``load_network``.
    """
    return [load_network(folder / member.card_name, threads=threads) for member in members]


def ask_all(networks: Sequence[Network], image: Image.Image, *, looks: Looks = 1) -> list[Answers]:
    """Returns what each network says about each look at one image, asked in one batch.

    Args:
        networks: The networks; those that see one size share the squeezed image.
        image: RGB.
        looks: How many.

    Returns:
        Each output with its looks apart, (looks, ...), maps laid back onto the image as it is;
        ``dermfuse.looks.mean_looks`` makes one answer of them.
    """
    spread: dict[int, NDArray[np.uint8]] = {}
    answers: list[Answers] = []
    for network in networks:
        size = network.card.input.size
        if size not in spread:
            spread[size] = spread_looks(squeeze(image, size)[None], looks)
        found = gather_all(network.ask(spread[size]), looks)
        answers.append({name: value[:, 0] for name, value in found.items()})
    return answers
