"""A release whose networks can be followed by hand.

Class network of 32 px: the malignant logit is (mean red - 128) / 16; the embedding the mean
colours; the activation map the red of four quarters. Mask network of 32 px: lesion where green is
below 100. A release that is tilted has class networks that see the upper half of a square alone,
and mask networks that see no lesion there: what they answer depends on the orientation.
"""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from dermfuse.release.cards import NetworkCard, NetworkInput, Parity, digest_file, write_card
from dermfuse.release.folder import (
    Calibration,
    ClassRelease,
    Gate,
    MaskRelease,
    Member,
    OperatingPoint,
    Rate,
    Release,
    write_release,
)
from dermfuse.release.gate import Dermoscopy, fit_cloud, join_embeddings, write_dermoscopy

SIZE = 32
POINTS = tuple(
    OperatingPoint(name, at, Rate(0.9, 0.8, 0.95), Rate(0.6, 0.5, 0.7))
    for name, at in (("balanced", 0.5), ("sensitivity95", 0.1))
)
WEIGHTS = {1: [1.0], 2: [0.25, 0.75], 3: [0.2, 0.3, 0.5]}
"""Of so many networks of one task."""
CALIBRATION = Calibration(temperature=2.0, bias=-0.5)


def write_small_release(
    folder: Path,
    *,
    members: int = 2,
    outliners: int = 1,
    with_gate: bool = False,
    looks: int = 1,
    tilted: bool = False,
) -> Path:
    """Writes the release; its class networks have shifted reds and the weights of ``WEIGHTS``."""
    folder.mkdir(parents=True, exist_ok=True)
    names = ["reds-a", "reds-b", "reds-c"][:members]
    for name, middle in zip(names, (128.0, 144.0, 160.0), strict=False):
        write_network(
            folder, name, "classification", class_graph(middle, rows=SIZE // (1 + tilted))
        )
    outlining = ["greens", "greens-b", "greens-c"][:outliners]
    for name in outlining:
        write_network(folder, name, "segmentation", mask_graph(tilted=tilted))
    release = Release(
        name="small",
        classes=ClassRelease(
            members=tuple(map(Member, names, WEIGHTS[members])),
            calibration=CALIBRATION,
            operating_points=POINTS,
            default_point="balanced",
        ),
        masks=MaskRelease(members=tuple(map(Member, outlining, WEIGHTS[outliners])), threshold=0.5),
        gate=_write_gate(folder, members) if with_gate else None,
        looks=looks,
    )
    write_release(folder, release)
    return folder


def _write_gate(folder: Path, members: int) -> Gate:
    from dermfuse.imaging.quality import appearance

    rng = np.random.default_rng(0)
    images = [skin(rng.integers(0, 40), rng=rng) for _ in range(40)]
    embeddings = np.stack([image.mean(axis=(0, 1)) for image in images])
    found = Dermoscopy(
        fit_cloud(join_embeddings([embeddings] * members), axes=2),
        fit_cloud(np.stack([appearance(image) for image in images]), axes=8),
    )
    digest = write_dermoscopy(folder / "dermoscopy.npz", found)
    return Gate("dermoscopy.npz", digest, threshold=3.0)


def skin(red: int = 0, *, rng: np.random.Generator | None = None) -> np.ndarray:
    """Returns skin (red + 120, 120, 110) with a dark square lesion, 64 x 48."""
    rng = rng or np.random.default_rng(1)
    image = np.empty((48, 64, 3), np.int64)
    image[:] = (120 + red, 120, 110)
    image[12:36, 16:48] = (90 + red, 40, 30)
    return np.clip(image + rng.integers(-4, 5, image.shape), 0, 255).astype(np.uint8)


def write_network(
    folder: Path, name: str, task: str, graph: onnx.GraphProto, *, checked: bool = True
) -> None:
    """Writes a network and its card."""
    opsets = [helper.make_opsetid("", 17)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    if checked:
        onnx.checker.check_model(model)
    path = folder / f"{name}.onnx"
    path.write_bytes(model.SerializeToString())
    card = NetworkCard(
        name=name,
        task=task,  # type: ignore[arg-type]
        file=path.name,
        sha256=digest_file(path),
        bytes=path.stat().st_size,
        precision="float32",
        input=NetworkInput(size=SIZE),
        outputs={output.name: "as the test says" for output in graph.output},
        preset="small",
        backbone="none",
        parameters=1,
        epoch=1,
        training={"seed": 0},
        weights_licence="none",
        parity=Parity(against="itself", images=1, largest_difference={"lesion": 0.0}),
    )
    write_card(folder, card)


def class_graph(middle: float, *, rows: int) -> onnx.GraphProto:
    constants = {
        "rows": np.array([rows]),
        "zero": np.array([0]),
        "one": np.array([1]),
        "last": np.array([-1]),
        "middle": np.array(middle, np.float32),
        "scale": np.array(16.0, np.float32),
        "nothing": np.array([0.0], np.float32),
        "map_shape": np.array([-1, 2, 2]),
        "row": np.array([-1]),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["x", "zero", "rows", "one"], ["seen"]),
        helper.make_node("ReduceMean", ["seen"], ["embedding"], axes=[1, 2], keepdims=0),
        helper.make_node("Slice", ["embedding", "zero", "one", "one"], ["red"]),
        helper.make_node("Sub", ["red", "middle"], ["above"]),
        helper.make_node("Div", ["above", "scale"], ["m"]),
        helper.make_node("Mul", ["m", "nothing"], ["b"]),
        helper.make_node("Concat", ["b", "m"], ["logits"], axis=1),
        helper.make_node("Softmax", ["logits"], ["p"], axis=1),
        helper.make_node("Slice", ["p", "one", "two", "one"], ["p1"]),
        helper.make_node("Reshape", ["p1", "row"], ["malignant"]),
        helper.make_node("Transpose", ["x"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node(
            "AveragePool", ["planes"], ["quarters"], kernel_shape=[16, 16], strides=[16, 16]
        ),
        helper.make_node("Slice", ["quarters", "zero", "one", "one"], ["red_quarters"]),
        helper.make_node("Reshape", ["red_quarters", "map_shape"], ["activation_map"]),
    ]
    constants["two"] = np.array([2])
    shapes = {
        "logits": ["N", 2],
        "malignant": ["N"],
        "activation_map": ["N", 2, 2],
        "embedding": ["N", 3],
    }
    return _graph(nodes, constants, shapes)


def mask_graph(*, tilted: bool) -> onnx.GraphProto:
    constants = {
        "start": np.array([1]),
        "end": np.array([2]),
        "axis": np.array([3]),
        "limit": np.array(100.0, np.float32),
        "shape": np.array([-1, SIZE, SIZE]),
        "seen": np.full((1, SIZE, SIZE, 1), 1.0, np.float32),
    }
    if tilted:
        constants["seen"][:, : SIZE // 2] = 0.0
    nodes = [
        helper.make_node("Cast", ["image"], ["x"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["x", "start", "end", "axis"], ["green"]),
        helper.make_node("Less", ["green", "limit"], ["dark"]),
        helper.make_node("Cast", ["dark"], ["d"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["d", "seen"], ["there"]),
        helper.make_node("Reshape", ["there", "shape"], ["lesion"]),
    ]
    return _graph(nodes, constants, {"lesion": ["N", SIZE, SIZE]})


def _graph(
    nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray], shapes: dict[str, list]
) -> onnx.GraphProto:
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in shapes.items()
    ]
    used = {name for node in nodes for name in node.input}
    tensors = [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in used]
    return helper.make_graph(nodes, "small", [image], outputs, tensors)
