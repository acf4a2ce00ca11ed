"""From a module to an ONNX graph."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import torch
from torch import nn
from torch.jit import TracerWarning  # type: ignore[attr-defined]

from dermfuse.export.simplification import simplify

OPSET = 17
"""What ONNX Runtime reads since 1.12 of 2022, on servers, phones and in browsers alike."""
INPUT = "image"


def trace_network(graph: nn.Module, *, size: int, outputs: Sequence[str]) -> onnx.ModelProto:
    """Returns the ONNX graph of a module that takes bytes.

    PyTorch's older exporter writes it: for networks without control flow both give the same
    operators once simplified, this one in about a second, the newer one in a minute. It folds
    each BatchNorm into the convolution before it. Its own warnings say that it is the older one,
    and that sizes become constants, as they shall.

    Args:
        graph: Of ``build_graph``; in evaluation mode.
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
