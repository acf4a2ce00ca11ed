"""The networks as they are served, as ONNX graphs: bytes in, probabilities out, one pass.

What a server would otherwise have to know (scaling, normalisation, padding rules, softmax) lies
inside the graph. The modules here are made of copies, so an export leaves the network alone. A
traced graph is made plain: constants folded, nothing idle left, any number of images at once.
"""

import copy
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import numpy_helper
from torch import Tensor, nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]
from torch.nn import functional as F

from dermfuse.data.isic2016 import Label
from dermfuse.errors import ExportError
from dermfuse.models.backbones.base import Backbone, Normalise
from dermfuse.models.classifier import Classifier, JointNetwork, log_odds_row
from dermfuse.models.unet import OriginalUNet, UNet

CLASS_OUTPUTS: Mapping[str, str] = MappingProxyType(
    {
        "logits": "benign, malignant, float32 (N, 2)",
        "malignant": "softmax probability of malignant, not calibrated, float32 (N,)",
        "activation_map": "class activation map in log-odds of malignancy, float32 (N, h, w)",
        "embedding": "what the class head sees, float32 (N, E)",
    }
)
"""Outputs of a class network, in order."""
MASK_OUTPUTS: Mapping[str, str] = MappingProxyType(
    {"lesion": "probability of lesion at each pixel, float32 (N, S, S)"}
)
"""Outputs of a mask network."""

BATCH = "N"
"""The name of the one dimension that is free."""

OPSET = 17
"""What ONNX Runtime reads since 1.12 of 2022, on servers, phones and in browsers alike."""
INPUT = "image"


class Pixels(nn.Module):
    """Scales bytes as a backbone expects them.

    Channels are moved first: ONNX Runtime is quicker to multiply planes by a number each than
    pixels by three numbers.

    Args:
        normalise: What the network was trained with.

    Shape:
        uint8 (N, S, S, 3) -> float32 (N, 3, S, S)
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, normalise: Normalise) -> None:
        super().__init__()
        deviation = normalise.std.double().flatten()
        mean = normalise.mean.double().flatten()
        self.register_buffer("scale", (1 / (255 * deviation)).float().view(3, 1, 1))
        self.register_buffer("shift", (-mean / deviation).float().view(3, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        """Returns ``(image / 255 - mean) / std``, channels first."""
        return image.permute(0, 3, 1, 2).float() * self.scale + self.shift


class ClassHead(nn.Module):
    """All outputs about the class, from the map that is pooled.

    The activation map is a 1x1 convolution with ``log_odds_row`` of the head.

    Shape:
        (N, E, h, w) -> logits (N, 2), malignant (N,), activation_map (N, h, w), embedding (N, E)
    """

    row: Tensor

    def __init__(self, head: nn.Linear) -> None:
        super().__init__()
        self.head = head
        row = log_odds_row(head).detach()
        self.register_buffer("row", row.view(1, -1, 1, 1).clone())

    def forward(self, last: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Returns the outputs of ``CLASS_OUTPUTS``."""
        embedding = F.adaptive_avg_pool2d(last, 1).flatten(1)
        logits = self.head(embedding)
        malignant = logits.softmax(1)[:, int(Label.MALIGNANT)]
        return logits, malignant, F.conv2d(last, self.row).squeeze(1), embedding


class ClassGraph(nn.Module):
    """A class network as it is served.

    Shape:
        uint8 (N, S, S, 3) -> the outputs of ``CLASS_OUTPUTS``
    """

    def __init__(self, network: Classifier) -> None:
        super().__init__()
        self.pixels = Pixels(network.normalise)
        self.backbone = network.backbone
        self.outputs = ClassHead(network.head)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs."""
        outputs: tuple[Tensor, ...] = self.outputs(self.backbone(self.pixels(image)))
        return outputs


class MaskGraph(nn.Module):
    """A U-Net as it is served.

    Shape:
        uint8 (N, S, S, 3) -> lesion (N, S, S)
    """

    def __init__(self, network: UNet | OriginalUNet) -> None:
        super().__init__()
        self.pixels = Pixels(network.normalise)
        self.network = network
        self.network.normalise = nn.Identity()  # type: ignore[assignment]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs."""
        return (self.network(self.pixels(image)).sigmoid().squeeze(1),)


class JointGraph(nn.Module):
    """A joint network as it is served.

    Shape:
        uint8 (N, S, S, 3) -> the outputs of ``CLASS_OUTPUTS``, then lesion (N, S, S)
    """

    def __init__(self, network: JointNetwork) -> None:
        super().__init__()
        self.pixels = Pixels(network.normalise)
        self.backbone: Backbone = network.backbone
        self.decoder = network.decoder
        self.mask_head = network.head
        self.outputs = ClassHead(network.class_head)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Returns the outputs."""
        maps = self.backbone.features(self.pixels(image))
        classes = self.outputs(self.backbone.embedding_map(maps[-1]))
        lesion = self.mask_head(self.decoder(maps)).sigmoid().squeeze(1)
        return (*classes, lesion)


def build_graph(network: nn.Module) -> tuple[nn.Module, dict[str, str]]:
    """Returns a network as it is served, and its outputs in words, in their order.

    Args:
        network: As ``load_run`` returns it; it is copied.

    Raises:
        ExportError: It is of a kind that is not served (the pair network, uncut).
    """
    network = copy.deepcopy(network).eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    graph: nn.Module
    if isinstance(network, Classifier):
        graph, outputs = ClassGraph(network), dict(CLASS_OUTPUTS)
    elif isinstance(network, UNet | OriginalUNet):
        graph, outputs = MaskGraph(network), dict(MASK_OUTPUTS)
    elif isinstance(network, JointNetwork):
        graph, outputs = JointGraph(network), {**CLASS_OUTPUTS, **MASK_OUTPUTS}
    else:
        raise ExportError(
            f"a {type(network).__name__} cannot be exported",
            expected="a classifier, a U-Net or a joint network",
            action="Load the run with dermfuse.training.prediction.load_run",
        )
    return graph.eval(), outputs


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


def trace_network(graph: nn.Module, *, size: int, outputs: Sequence[str]) -> onnx.ModelProto:
    """Returns the ONNX graph of a module that takes bytes.

    PyTorch's older exporter writes it: for networks without control flow both give the same
    operators once simplified, this one in about a second, the newer one in a minute. It folds
    each BatchNorm into the convolution before it. Its own warnings say that it is the older one,
    and that sizes become constants, which is intended.

    Args:
        graph: As ``build_graph`` returns it.
        size: S, the side of the square, in pixels.
        outputs: Their names, in order.
    """
    image = torch.zeros(1, size, size, 3, dtype=torch.uint8)
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.inference_mode():
        for category in (DeprecationWarning, TracerWarning):
            warnings.simplefilter("ignore", category)
        warnings.filterwarnings("ignore", "Constant folding", UserWarning)  # done afterwards
        path = Path(folder) / "traced.onnx"
        torch.onnx.export(
            graph,
            (image,),
            path,
            dynamo=False,
            input_names=[INPUT],
            output_names=list(outputs),
            opset_version=OPSET,
        )
        return simplify(onnx.load(path))


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
    """Makes padding a part of the convolution behind it, as ONNX allows on uneven sides.

    The networks pad rows and columns with zeros alone; were it otherwise, the graph would no longer
    answer as torch does, and would not be written.
    """
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    readers = Counter(name for node in graph.node for name in node.input)
    pads = {node.output[0]: node for node in graph.node if node.op_type == "Pad"}
    for node in graph.node:
        pad = pads.get(node.input[0]) if node.op_type == "Conv" else None
        if pad is None or readers[node.input[0]] > 1:
            continue
        extra = numpy_helper.to_array(constants[pad.input[1]]).reshape(2, 4)[:, 2:].flatten()
        own = next(each for each in node.attribute if each.name == "pads")
        total = extra + np.array(own.ints)  # top, left, bottom, right
        node.attribute.remove(own)
        node.attribute.append(onnx.helper.make_attribute("pads", total.tolist()))
        node.input[0] = pad.input[0]
        graph.node.remove(pad)
    _drop_unread(graph)


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
