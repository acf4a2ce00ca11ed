"""From a float32 network to an int8 one.

``int8`` computes in 8 bits: activations are uint8, weights int8 for each output channel. Weights
keep to 7 bits (-64 to 64). With 8, the product of two neighbouring pairs overflows the 16-bit
sums of AVX2's ``vpmaddubsw`` (and of relaxed SIMD in browsers) and saturates in silence, while
AVX512-VNNI and ARM's dot products sum in 32 bits: the same file would answer differently from
machine to machine. With 7 it cannot: 2 x 255 x 64 = 32,640 < 32,768.

``int8-weights`` stores weights in 8 bits and computes in float32: a quarter of the size, no
calibration, the same answer everywhere.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.quant_utils import add_pre_process_metadata

from dermfuse.errors import ExportError
from dermfuse.publishing.graphs import INPUT
from dermfuse.publishing.onnx import (
    measure_parity,
    open_session,
    require_images,
    run_onnx,
    write_network,
)
from dermfuse.release.cards import NetworkCard, read_network

MOST_WEIGHT = 127
"""Largest int8 weight where the computation is float32."""
FLOAT_CONVOLUTIONS = 13
"""So many of the first convolutions stay in float32, and so do those with one output channel.

Early depthwise layers have few weights (a thirtieth of MobileNetV1's lie in the first 13) and
channels of very unequal range, which one scale for all channels of an activation rounds away.
Measured on DC-MobileNetV1 (299 validation images): in 8 bits but for the first convolution, AP
falls by 0.040; but for 3, 7, 13 of them by 0.003, 0.005, -0.010. How ranges are chosen (minmax,
percentile, entropy), and how many images (64, 256) they are seen on, moves AP by 0.001. The
Jaccard index of U-MobileNetV1 falls by 0.0016 but for the first convolution, not at all but for 13.
"""
_SMALLEST = 512  # numbers; smaller tensors (biases, scales) are not worth a node
_IN_8_BITS = ("Conv", "Relu", "Clip", "Add", "Concat", "Resize", "MaxPool", "AveragePool")
_MOST_COMPARED = 32

EightBits = Literal["int8", "int8-weights"]
"""The precisions of fewer bits."""


def quantize_network(
    card_path: Path,
    out: Path,
    images: NDArray[np.uint8],
    *,
    precision: EightBits = "int8",
) -> NetworkCard:
    """Writes an 8-bit form of an exported network, and its card, as ``NAME-PRECISION``.

    Its parity is against the float32 network, on the first of the images; it is reported and
    not judged: ``HeldOutMetrics`` holds what the 8 bits cost.

    Args:
        card_path: The card of a float32 network.
        out: The folder; files of the same name are replaced.
        images: Training images to calibrate on, (N, S, S, 3), RGB.
        precision: ``int8`` or ``int8-weights``.

    Raises:
        ReleaseError: The card or its network cannot be used.
        ExportError: The network is not in float32; ``images`` are not of its size.
        StorageError: The folder cannot be written.
    """
    card, content = read_network(card_path)
    if card.precision != "float32":
        raise ExportError(
            f"{card_path} is of a network in {card.precision}",
            expected="one in float32",
            action="Quantize the float32 network",
        )
    require_images(images, size=card.input.size)
    model = onnx.load_model_from_string(content)
    how: dict[str, Any] = {
        "weights": "int8 for each output channel",
        "float_convolutions": FLOAT_CONVOLUTIONS,
    }
    if precision == "int8":
        quantized = quantize_computation(model, images)
        how["weights"] += ", 7 bits"
        how |= {"activations": "uint8, range seen on training images", "images": len(images)}
    else:
        quantized = quantize_weights(model)
    compared = images[:_MOST_COMPARED]
    answers, reference = (
        run_onnx(open_session(each.SerializeToString()), compared) for each in (quantized, model)
    )
    draft = replace(
        card,
        name=f"{card.name}-{precision}",
        precision=precision,
        parity=measure_parity(answers, reference, against=card.name),
        measured=None,
        quantization=how,
    )
    return write_network(out, quantized, draft)


def quantize_computation(model: onnx.ModelProto, images: NDArray[np.uint8]) -> onnx.ModelProto:
    """Returns the network with its convolutions, and what lies between them, in 8 bits.

    In QDQ form: each tensor is rounded by a pair of ONNX's own operators, which a runtime joins
    with the operator between them. Scaling, pooling and the heads stay in float32.

    Args:
        model: In float32, with shapes inferred.
        images: To see the range of each tensor on, (N, S, S, 3).
    """
    with TemporaryDirectory() as folder:
        source, target = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        prepared = onnx.ModelProto()
        prepared.CopyFrom(model)
        add_pre_process_metadata(prepared)  # shapes are inferred and constants folded already
        onnx.save(prepared, source)
        quantize_static(
            source,
            target,
            _Images(images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(_IN_8_BITS),
            nodes_to_exclude=_kept_in_float(model.graph),
            per_channel=True,
            reduce_range=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"WeightSymmetric": True, "ActivationSymmetric": False},
        )
        quantized = onnx.load(target)
    del quantized.metadata_props[:]
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def quantize_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the network with weights of convolutions and dense layers in int8.

    Each output channel has a scale of its own, the one of 21 between 80 and 100 % of its largest
    weight that rounds its weights best.

    Args:
        model: In float32.
    """
    quantized = onnx.ModelProto()
    quantized.CopyFrom(model)
    graph = quantized.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    kept = set(_kept_in_float(graph))
    nodes: list[onnx.NodeProto] = []
    for node in graph.node:
        name = node.input[1] if node.op_type in {"Conv", "Gemm"} else ""
        if name in constants and node.name not in kept:
            weights = numpy_helper.to_array(constants[name])
            if weights.size >= _SMALLEST:
                nodes += _store(graph, constants[name], weights)
    nodes += graph.node
    del graph.node[:]
    graph.node.extend(nodes)
    onnx.checker.check_model(quantized, full_check=True)
    return quantized


def round_weights(
    weights: NDArray[np.float32],
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Returns int8 weights and the scale of each output channel.

    Args:
        weights: (c_out, ...)

    Example:
        >>> levels, scale = round_weights(np.array([[1.27, -0.5], [0.0, 0.0]], np.float32))
        >>> levels.tolist(), [round(each, 4) for each in scale.tolist()]
        ([[127, -50], [0, 0]], [0.01, 1.0])
    """
    rows = weights.reshape(len(weights), -1).astype(np.float64)
    largest = np.abs(rows).max(axis=1, keepdims=True)
    largest[largest == 0] = MOST_WEIGHT
    scales = [largest * share / MOST_WEIGHT for share in np.linspace(1.0, 0.8, 21)]
    errors = [((_levels(rows, each) * each - rows) ** 2).sum(axis=1) for each in scales]
    scale = np.choose(np.argmin(errors, axis=0)[:, None], scales)
    levels = _levels(rows, scale).astype(np.int8).reshape(weights.shape)
    return levels, scale[:, 0].astype(np.float32)


class _Images(CalibrationDataReader):  # type: ignore[misc]
    """Hands out images one by one, as ONNX Runtime's calibration asks for them."""

    def __init__(self, images: NDArray[np.uint8]) -> None:
        self._images = ({INPUT: image} for image in images[:, None])

    def get_next(self) -> Mapping[str, NDArray[np.uint8]] | None:
        return next(self._images, None)


def _kept_in_float(graph: onnx.GraphProto) -> list[str]:
    """Returns the names of the first convolutions, of those with one output channel, of scaling."""
    constants = {tensor.name: tensor for tensor in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    kept = convolutions[:FLOAT_CONVOLUTIONS]
    kept += [node for node in convolutions if constants[node.input[1]].dims[0] == 1]
    first = next(i for i, node in enumerate(graph.node) if node.op_type == "Conv")
    kept += graph.node[:first]
    return [node.name for node in kept]


def _store(
    graph: onnx.GraphProto, tensor: onnx.TensorProto, weights: NDArray[np.float32]
) -> tuple[onnx.NodeProto, onnx.NodeProto]:
    """Replaces a tensor by its int8 form; returns the nodes that give it back under its name.

    A cast and a product, which runtimes compute once, when they load a network, as they do with
    all that is constant. They leave a ``DequantizeLinear`` alone by default, and then
    every image pays for it.
    """
    levels, scale = round_weights(weights)
    name = tensor.name
    graph.initializer.remove(tensor)
    by_channel = scale.reshape(-1, *[1] * (weights.ndim - 1))
    stored, scales, cast = f"{name}.int8", f"{name}.scale", f"{name}.levels"
    graph.initializer.extend(
        (numpy_helper.from_array(levels, stored), numpy_helper.from_array(by_channel, scales))
    )
    return (
        helper.make_node("Cast", [stored], [cast], f"{name}.cast", to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [cast, scales], [name], f"{name}.scaled"),
    )


def _levels(rows: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.clip(np.rint(rows / scale), -MOST_WEIGHT, MOST_WEIGHT)
