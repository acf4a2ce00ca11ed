"""The networks of a release, run by ONNX Runtime: squares of pixels in, answers out.

Answers of a fusion's networks are joined to one mask and one activation map.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray
from PIL import Image

from dermfuse.errors import ReleaseError
from dermfuse.imaging.preprocess import resize_map, squeeze
from dermfuse.imaging.symmetries import Answers, Looks, gather_all, spread_looks
from dermfuse.records import show_value
from dermfuse.release.cards import NetworkCard, read_network
from dermfuse.release.folder import MaskRelease, Member, Release, read_networks

_WARNINGS_OFF = 3  # errors alone: a warning on stderr is of no use to who analyses an image

_AXES = {"malignant": 1, "embedding": 2, "activation_map": 3, "lesion": 3}
_MAP_AXES = 3  # (N, h, w)
PROBABILITIES = frozenset(("malignant", "lesion"))
"""Outputs that are probabilities."""
_ROUNDING = 1e-5  # a softmax in float32 may end a little above 1
_FINITE = sys.float_info.max
_PIXELS_AT_ONCE = 2 * 192**2  # larger batches take more memory and are no faster
_STRIP_ROWS = 64


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
        """Returns every output for a batch, which is run a few squares at a time.

        Args:
            squares: RGB, (N, S, S, 3), as ``dermfuse.imaging.preprocess.squeeze`` makes them.

        Raises:
            ReleaseError: The network cannot be run, or answers what no network may: another
                shape or type, numbers that are not finite, probabilities outside of [0, 1].
        """
        step = max(1, _PIXELS_AT_ONCE // self.card.input.size**2)
        parts = [self._run(squares[i : i + step]) for i in range(0, len(squares), step)]
        if len(parts) == 1:
            return parts[0]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}

    def _run(self, squares: NDArray[np.uint8]) -> dict[str, NDArray[np.float32]]:
        names = list(self.card.outputs)
        try:
            found = self.session.run(names, {self.card.input.name: squares})
        except Exception as error:  # ONNX Runtime raises types of its own for each way to fail
            raise _refusal(self.card, f"cannot be run ({error})") from error
        answers = dict(zip(names, found, strict=True))
        for name, answer in answers.items():
            _check_answer(self.card, name, answer, images=len(squares))
        return answers


def load_network(card_path: Path, *, threads: int) -> Network:
    """Returns a network of a release.

    Args:
        card_path: Its card; the ONNX file lies beside it.
        threads: CPU threads that one call may use.

    Raises:
        ReleaseError: The card or the file is missing or damaged, or ONNX Runtime refuses it.
    """
    return _open(*read_network(card_path), threads=threads)


def load_networks(folder: Path, release: Release, *, threads: int) -> list[Network]:
    """Returns the networks of a release, those that score first.

    Args:
        folder: The release.
        release: Its record.
        threads: CPU threads that one call may use.

    Raises:
        ReleaseError: See ``load_network`` and ``dermfuse.release.folder.read_networks``.
    """
    return [_open(*network, threads=threads) for network in read_networks(folder, release)]


def ask_all(
    networks: Sequence[Network], image: NDArray[np.uint8] | Image.Image, *, looks: Looks = 1
) -> list[Answers]:
    """Returns what each network says about each look at one image.

    Args:
        networks: The networks; those that see one size share the squeezed image.
        image: RGB.
        looks: How many.

    Returns:
        Each output with its looks apart, (looks, ...), maps laid back onto the image as it is;
        ``dermfuse.imaging.symmetries.mean_looks`` makes one answer of them.
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


def join_masks(
    answers: Sequence[Answers], masks: MaskRelease, *, height: int, width: int
) -> NDArray[np.bool_]:
    """Returns where the weighted mean of the networks' probability maps reaches the threshold.

    Args:
        answers: Each mask network's mean over looks, in the order of ``masks.members``.
        masks: The weights of the networks, and the threshold.
        height: The height of the image in pixels.
        width: The width of the image in pixels.

    Returns:
        (H, W)
    """
    by_size: dict[tuple[int, ...], NDArray[np.float32]] = {}
    for answer, member in zip(answers, masks.members, strict=True):
        lesion = answer["lesion"] * np.float32(member.weight)
        # Resizing is linear: maps of one size are added first and resized once.
        by_size[lesion.shape] = by_size.get(lesion.shape, 0) + lesion
    maps = [Image.fromarray(total) for total in by_size.values()]
    mask = np.empty((height, width), dtype=np.bool_)
    for top in range(0, height, _STRIP_ROWS):  # strips stay in the cache: a third of the time
        bottom = min(top + _STRIP_ROWS, height)
        first, *others = (_strip(one, top, bottom, height=height, width=width) for one in maps)
        for other in others:
            first = first + other
        mask[top:bottom] = first >= np.float32(masks.threshold - 1e-6)
    return mask


def join_activations(answers: Sequence[Answers], members: Sequence[Member]) -> NDArray[np.float32]:
    """Returns the weighted mean of the networks' maps: what each place adds to the log-odds.

    The scale is that of the networks and the same for every image: the mean of a network's map
    plus a constant is its log-odds of malignancy, before calibration.

    Args:
        answers: Each class network's mean over looks, in the order of ``members``.
        members: The networks with their weights, whose sum is 1.

    Returns:
        (h, w), the size of the largest map; above 0 speaks for malignancy, below 0 against it.
    """
    maps = [answer["activation_map"] for answer in answers]
    side = max(one.shape[0] for one in maps)
    total = np.zeros((side, side), dtype=np.float32)
    for one, member in zip(maps, members, strict=True):
        total += np.float32(member.weight) * resize_map(one, side, side)
    return total


def _open(card: NetworkCard, content: bytes, *, threads: int) -> Network:
    """Returns a network from the very bytes that were checked."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Threads that spin after a network has answered would take the next one's processors.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = _WARNINGS_OFF
    try:
        session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ReleaseError(
            f"{card.file} cannot be run ({error})",
            expected="a network that this ONNX Runtime knows",
            action="Upgrade onnxruntime, or export the network again",
        ) from error
    _check_session(card, session)
    return Network(card, session)


def _check_session(card: NetworkCard, session: ort.InferenceSession) -> None:
    """Refuses a network whose inputs or outputs are not those of its card."""
    size = card.input.size
    wanted = (size, size, 3)
    inputs = session.get_inputs()
    if [(one.name, one.type) for one in inputs] != [(card.input.name, "tensor(uint8)")] or any(
        isinstance(found, int) and found != side
        for found, side in zip(inputs[0].shape[1:], wanted, strict=False)
    ):
        raise _refusal(card, "takes something else than its card states")
    floats = {one.name for one in session.get_outputs() if one.type == "tensor(float)"}
    if missing := sorted(set(card.outputs) - floats):
        raise _refusal(card, f"answers no {', '.join(map(show_value, missing))} in float32")


def _check_answer(card: NetworkCard, name: str, answer: object, *, images: int) -> None:
    if not isinstance(answer, np.ndarray) or answer.dtype != np.float32:
        raise _refusal(card, f"answers {show_value(name)} in another type than float32")
    axes = _AXES.get(name, answer.ndim)
    is_square = answer.ndim < _MAP_AXES or answer.shape[-1] == answer.shape[-2]
    if answer.shape[:1] != (images,) or answer.ndim != axes or not (answer.size and is_square):
        raise _refusal(card, f"answers {show_value(name)} of shape {answer.shape}")
    low, high = float(answer.min()), float(answer.max())  # both are NaN if one number is
    least, most = (0.0, 1.0) if name in PROBABILITIES else (-_FINITE, _FINITE)
    if not (low >= least - _ROUNDING and high <= most + _ROUNDING):
        raise _refusal(card, f"answers {show_value(name)} from {low:g} to {high:g}")


def _refusal(card: NetworkCard, found: str) -> ReleaseError:
    return ReleaseError(
        f"{card.file} {found}",
        expected="answers as its card and dermfuse export describe them, finite, "
        "probabilities from 0 to 1",
        action="Do not use this release; export the network again",
    )


def _strip(
    whole: Image.Image, top: int, bottom: int, *, height: int, width: int
) -> NDArray[np.float32]:
    """Returns some rows of what ``resize_probability`` makes of a map, not clipped; read-only."""
    box = (0, top * whole.height / height, whole.width, bottom * whole.height / height)
    rows = whole.resize((width, bottom - top), Image.Resampling.BILINEAR, box=box)
    return np.asarray(rows)
