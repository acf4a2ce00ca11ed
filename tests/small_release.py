"""A release whose networks can be followed by hand.

Class network of 32 px: the malignant logit is (mean red - 128) / 16; the embedding the mean
colours; the activation map the red of four quarters. Mask network of 32 px: lesion where green is
below 100. A release that is tilted has class networks that see the upper half of a square alone,
and mask networks that see no lesion there: what they answer depends on the orientation.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser
from onnx import helper, numpy_helper

from dermfuse.release.cards import (
    RESIZE,
    NetworkCard,
    NetworkInput,
    Parity,
    digest_file,
    write_card,
)
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
CARD = NetworkCard(
    name="net",
    task="classification",
    file="net.onnx",
    sha256="0" * 64,
    bytes=1,
    precision="float32",
    input=NetworkInput(
        name="image", dtype="uint8", layout="NHWC", size=SIZE, colour="RGB", resize=RESIZE
    ),
    outputs={"malignant": "probability"},
    preset="small",
    backbone="none",
    parameters=1,
    epoch=1,
    training={"seed": 0},
    weights_licence="none",
    parity=Parity(against="itself", images=1, largest_difference={"lesion": 0.0}),
)
"""Of no network in particular."""


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


def make_model(graph: onnx.GraphProto) -> bytes:
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8).SerializeToString()


def write_network(folder: Path, name: str, task: str, graph: onnx.GraphProto) -> None:
    """Writes a network and its card."""
    path = folder / f"{name}.onnx"
    path.write_bytes(make_model(graph))
    onnx.checker.check_model(onnx.load(path))
    card = replace(
        CARD,
        name=name,
        task=task,  # type: ignore[arg-type]
        file=path.name,
        sha256=digest_file(path),
        bytes=path.stat().st_size,
        outputs={output.name: "as the test says" for output in graph.output},
    )
    write_card(folder, card)


def class_graph(middle: float, *, rows: int) -> onnx.GraphProto:
    return onnx.parser.parse_graph(f"""
        small (uint8[N,{SIZE},{SIZE},3] image) => (
            float[N,2] logits, float[N] malignant,
            float[N,2,2] activation_map, float[N,3] embedding
        )
        <
            int64[1] zero = {{0}}, int64[1] one = {{1}}, int64[1] two = {{2}},
            int64[1] rows = {{{rows}}}, int64[1] row = {{-1}}, int64[3] map_shape = {{-1, 2, 2}},
            float middle = {{{middle}}}, float scale = {{16.0}}, float[1] nothing = {{0.0}}
        >
        {{
            x = Cast <to = 1> (image)
            seen = Slice (x, zero, rows, one)
            embedding = ReduceMean <axes = [1, 2], keepdims = 0> (seen)
            red = Slice (embedding, zero, one, one)
            above = Sub (red, middle)
            m = Div (above, scale)
            b = Mul (m, nothing)
            logits = Concat <axis = 1> (b, m)
            p = Softmax <axis = 1> (logits)
            p1 = Slice (p, one, two, one)
            malignant = Reshape (p1, row)
            planes = Transpose <perm = [0, 3, 1, 2]> (x)
            quarters = AveragePool <kernel_shape = [16, 16], strides = [16, 16]> (planes)
            red_quarters = Slice (quarters, zero, one, one)
            activation_map = Reshape (red_quarters, map_shape)
        }}
    """)


def mask_graph(*, tilted: bool) -> onnx.GraphProto:
    seen = np.ones((1, SIZE, SIZE, 1), np.float32)
    if tilted:
        seen[:, : SIZE // 2] = 0.0
    graph = onnx.parser.parse_graph(f"""
        small (uint8[N,{SIZE},{SIZE},3] image) => (float[N,{SIZE},{SIZE}] lesion)
        <
            int64[1] start = {{1}}, int64[1] end = {{2}}, int64[1] axis = {{3}},
            float limit = {{100.0}}, int64[3] shape = {{-1, {SIZE}, {SIZE}}}
        >
        {{
            x = Cast <to = 1> (image)
            green = Slice (x, start, end, axis)
            dark = Less (green, limit)
            d = Cast <to = 1> (dark)
            there = Mul (d, seen)
            lesion = Reshape (there, shape)
        }}
    """)
    graph.initializer.append(numpy_helper.from_array(seen, "seen"))
    return graph
