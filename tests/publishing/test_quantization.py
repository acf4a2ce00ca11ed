from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from dermfuse.errors import ExportError, ReleaseError
from dermfuse.publishing.onnx import export_network, open_session, run_onnx, time_networks
from dermfuse.publishing.quantization import EightBits, quantize_network, round_weights
from dermfuse.release.cards import NetworkCard, read_card

from .conftest import MakeTrained


@pytest.fixture
def exported(
    make_trained: MakeTrained, images: NDArray[np.uint8], tmp_path: Path
) -> tuple[Path, NetworkCard]:
    """A joint network in float32: its card's path and its card."""
    trained = make_trained("joint", "mobilenet_v1")
    card = export_network(trained, tmp_path / "float", images=images)
    return tmp_path / "float" / "tiny-run.json", card


@pytest.mark.parametrize(("precision", "most"), [("int8", 0.1), ("int8-weights", 0.05)])
def test_eight_bits_answer_nearly_as_float32_in_a_third_of_its_size(
    precision: EightBits,
    most: float,
    exported: tuple[Path, NetworkCard],
    images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    path, float_card = exported
    card = quantize_network(path, tmp_path / "out", images, precision=precision)
    assert read_card(tmp_path / "out" / f"tiny-run-{precision}.json") == card
    assert card.bytes < float_card.bytes / 3
    answers = run_onnx(open_session(tmp_path / "out" / card.file), images)
    expected = run_onnx(open_session(path.parent / float_card.file), images)
    difference = float(np.abs(answers["lesion"] - expected["lesion"]).mean())
    assert 0 < difference < most
    assert card.parity.against == "tiny-run"
    assert card.parity.largest_difference["lesion"] == pytest.approx(
        float(np.abs(answers["lesion"] - expected["lesion"]).max()), abs=1e-6
    )
    assert card.precision == precision
    assert card.quantization["weights"].startswith("int8")
    assert card.training == float_card.training


def test_weights_in_int8_computation_keep_to_seven_bits_and_the_first_layers_to_float32(
    exported: tuple[Path, NetworkCard], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    card = quantize_network(exported[0], tmp_path, images)
    graph = onnx.load(tmp_path / card.file).graph
    levels = [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == 3 and t.dims]
    weights = [level for level in levels if level.ndim == 4]
    assert len(weights) == 38 - 14  # the first 13 and the mask's last one are left out
    assert max(np.abs(weight.astype(int)).max() for weight in weights) == 64
    constants = {tensor.name for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    in_float = [node.input[1] in constants for node in convolutions]
    assert in_float[:14] == [True] * 13 + [False]
    assert card.quantization["float_convolutions"] == 13
    assert card.quantization["images"] == 5


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-8, 8, width=32), min_size=6, max_size=6))
def test_a_weight_is_never_further_off_than_clipping_a_fifth_of_the_largest(
    numbers: list[float],
) -> None:
    weights = np.array(numbers, np.float32).reshape(2, 3)
    levels, scale = round_weights(weights)
    assert np.abs(levels.astype(int)).max() <= 127
    largest = np.abs(weights).max(axis=1, keepdims=True)
    assert (np.abs(levels * scale[:, None] - weights) <= 0.2001 * largest + 1e-30).all()
    plain = largest / 127
    plain[plain == 0] = 1
    squares = ((levels * scale[:, None] - weights) ** 2).sum()
    plain_squares = ((np.rint(weights / plain) * plain - weights) ** 2).sum()
    assert squares <= plain_squares * (1 + 1e-4) + 1e-9


def test_networks_are_timed_in_turns(
    exported: tuple[Path, NetworkCard], images: NDArray[np.uint8]
) -> None:
    path = exported[0].parent / exported[1].file
    times = time_networks([path, path], images[0], repeats=3)
    assert len(times) == 2
    assert min(times) > 0


def test_only_a_float32_network_with_its_card_is_quantized(
    exported: tuple[Path, NetworkCard], images: NDArray[np.uint8], tmp_path: Path
) -> None:
    quantize_network(exported[0], tmp_path, images, precision="int8-weights")
    with pytest.raises(ExportError, match="is of a network in int8-weights"):
        quantize_network(tmp_path / "tiny-run-int8-weights.json", tmp_path, images)
    with pytest.raises(ExportError, match=r"Expected: uint8 of shape \(N, 32, 32, 3\)"):
        quantize_network(exported[0], tmp_path, images[:, :16])
    with pytest.raises(ReleaseError, match="is missing"):
        quantize_network(tmp_path / "none.json", tmp_path, images)
