from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import numpy_helper

from dermfuse.errors import ExportError, ReleaseError
from dermfuse.publishing.onnx import export_network, open_session, run_onnx
from dermfuse.publishing.quantization import quantize_network, round_weights
from dermfuse.release.cards import read_card

from .conftest import MakeTrained


def test_eight_bits_answer_nearly_as_float32_in_a_third_of_its_size(
    make_trained: MakeTrained, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    exact = export_network(make_trained("joint", "mobilenet_v1"), tmp_path, images=images)
    path = tmp_path / "tiny-run.json"
    expected = run_onnx(open_session(tmp_path / exact.file), images)["lesion"]
    for precision, most in (("int8-weights", 0.05), ("int8", 0.1)):
        card = quantize_network(path, tmp_path, images, precision=precision)
        assert read_card(tmp_path / f"tiny-run-{precision}.json") == card
        assert card.bytes < exact.bytes / 3
        found = np.abs(run_onnx(open_session(tmp_path / card.file), images)["lesion"] - expected)
        assert 0 < found.mean() < most
        assert card.parity.against == "tiny-run"
        assert card.parity.largest_difference["lesion"] == pytest.approx(found.max(), abs=1e-6)
        assert (card.precision, card.training) == (precision, exact.training)
        with pytest.raises(ExportError, match=f"is of a network in {precision}"):
            quantize_network(tmp_path / f"tiny-run-{precision}.json", tmp_path, images)
    assert (card.quantization["float_convolutions"], card.quantization["images"]) == (13, 5)
    graph = onnx.load(tmp_path / card.file).graph
    levels = [numpy_helper.to_array(t) for t in graph.initializer if t.data_type == 3 and t.dims]
    weights = [level for level in levels if level.ndim == 4]
    assert len(weights) == 38 - 14  # the first 13 and the mask's last one are left out
    assert max(np.abs(weight.astype(int)).max() for weight in weights) == 64, "7 bits"
    constants = {tensor.name for tensor in graph.initializer}
    in_float = [node.input[1] in constants for node in graph.node if node.op_type == "Conv"]
    assert in_float[:14] == [True] * 13 + [False]
    with pytest.raises(ExportError, match=r"Expected: uint8 of shape \(N, 32, 32, 3\)"):
        quantize_network(path, tmp_path, images[:, :16])
    with pytest.raises(ReleaseError, match="is missing"):
        quantize_network(tmp_path / "none.json", tmp_path, images)


@settings(max_examples=50)
@given(st.lists(st.floats(-8, 8, width=32), min_size=6, max_size=6))
def test_a_weight_is_never_further_off_than_clipping_a_fifth_of_the_largest(
    numbers: list[float],
) -> None:
    weights = np.array(numbers, np.float32).reshape(2, 3)
    levels, scale = round_weights(weights)
    assert np.abs(levels.astype(int)).max() <= 127
    largest = np.abs(weights).max(axis=1, keepdims=True)
    errors = np.abs(levels * scale[:, None] - weights)
    assert (errors <= 0.2001 * largest + 1e-30).all()
    plain = np.where(largest == 0, 1, largest / 127)
    plain_errors = np.rint(weights / plain) * plain - weights
    assert (errors**2).sum() <= (plain_errors**2).sum() * (1 + 1e-4) + 1e-9
