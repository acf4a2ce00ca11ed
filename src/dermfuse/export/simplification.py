"""A traced graph made plain: constants folded, nothing idle left, any number of images at once."""

from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx
import onnxruntime
from onnx import numpy_helper

BATCH = "N"
"""The name of the one dimension that is free."""


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns a graph that was traced with one image in its plainest form, for N images.

    A trace of one image has no free dimension, so all arithmetic on shapes folds to constants;
    what depended on the number of images is freed afterwards.

    Args:
        model: Its first dimension is 1 in every input and output.
    """
    plain = _fold_constants(model)
    _join_padding(plain)
    _free_batch(plain)
    used = {node.domain for node in plain.graph.node}
    kept = [opset for opset in plain.opset_import if opset.domain in used]
    del plain.opset_import[:]
    plain.opset_import.extend(kept)
    inferred = onnx.shape_inference.infer_shapes(plain, strict_mode=True, data_prop=True)
    onnx.checker.check_model(inferred, full_check=True)
    return inferred


def _fold_constants(model: onnx.ModelProto) -> onnx.ModelProto:
    """Returns the graph after ONNX Runtime's basic passes, which keep to ONNX's own operators."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "plain.onnx"
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )
        return onnx.load(path)


def _join_padding(model: onnx.ModelProto) -> None:
    """Makes zero padding a part of the convolution behind it, as ONNX allows on uneven sides."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for node in graph.node:
        pad = pads.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is None or readers[node.input[0]] > 1 or not _pads_zeros(pad, constants):
            continue
        before_and_after = numpy_helper.to_array(constants[pad.input[1]]).reshape(2, 4)
        if before_and_after[:, :2].any():
            continue
        own = [each for each in node.attribute if each.name == "pads"]
        extra = before_and_after[:, 2:].flatten()  # top, left, bottom, right
        total = extra + (np.array(own[0].ints) if own else 0)
        for each in own:
            node.attribute.remove(each)
        node.attribute.append(onnx.helper.make_attribute("pads", [int(x) for x in total]))
        node.input[0] = pad.input[0]
        graph.node.remove(pad)
    _drop_unread(graph)


def _pads_zeros(pad: onnx.NodeProto, constants: dict[str, onnx.TensorProto]) -> bool:
    modes = [each.s for each in pad.attribute if each.name == "mode"]
    if modes not in ([], [b"constant"]) or pad.input[1] not in constants:
        return False
    value = pad.input[2] if len(pad.input) > 2 else ""
    return not value or (value in constants and not numpy_helper.to_array(constants[value]).any())


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    for tensor in [each for each in graph.initializer if each.name not in read]:
        graph.initializer.remove(tensor)


def _free_batch(model: onnx.ModelProto) -> None:
    """Lets N images pass: inputs, outputs, and the constant shapes that say one image."""
    graph = model.graph
    shapes = {node.input[1] for node in graph.node if node.op_type == "Reshape"}
    for tensor in graph.initializer:
        if tensor.name in shapes:
            shape = numpy_helper.to_array(tensor).copy()
            shape[0] = 0  # as many as come in
            tensor.CopyFrom(numpy_helper.from_array(shape, tensor.name))
    for value in (*graph.input, *graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = BATCH
    del graph.value_info[:]  # they say one image, too; shape inference writes them anew
