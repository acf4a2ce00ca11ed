"""The names that published weights have, and a backbone's random weights under them."""

import torch
from torch import Tensor

from dermfuse.models.backbones import build_backbone

CLASSIFIERS = {
    "densenet121": "classifier.weight",
    "efficientnet_lite0": "classifier.weight",
    "mobilenet_v1": "classifier.weight",
    "mobilenet_v2": "classifier.1.weight",
    "resnext50": "fc.weight",
    "vgg16": "classifier.6.weight",
}
"""A weight that the published file has and the backbone has not."""

_SEPARABLE = [f"blocks.{i}.{kind}" for i in range(13) for kind in ("dw", "pw")]
_DENSE = [
    f"features.denseblock{block}.denselayer{layer + 1}.{part}"
    for block, layers in enumerate((6, 12, 24, 16), start=1)
    for layer in range(layers)
    for part in ("norm1", "conv1", "norm2", "conv2")
]
_FIRES = [f"features.{number}" for number in (3, 4, 6, 7, 9, 10, 11, 12)]
_INVERTED = [
    f"blocks.{stage}.{block}.{part}"
    for stage, blocks in enumerate((2, 2, 3, 3, 4, 1), start=1)
    for block in range(blocks)
    for part in ("conv_pw", "bn1", "conv_dw", "bn2", "conv_pwl", "bn3")
]

MODULES = {
    "mobilenet_v1": [f"{part}.{i}" for part in ("conv_stem", *_SEPARABLE) for i in (0, 1)],
    "densenet121": [
        *("features.conv0", "features.norm0", *_DENSE),
        *(f"features.transition{i}.{part}" for i in (1, 2, 3) for part in ("norm", "conv")),
        "features.norm5",
    ],
    "squeezenet1_1": [
        "features.0",
        *(f"{fire}.{part}" for fire in _FIRES for part in ("squeeze", "expand1x1", "expand3x3")),
        "classifier.1",
    ],
    "vgg16": [f"features.{i}" for i in (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)],
    "efficientnet_lite0": [
        *("conv_stem", "bn1"),
        *(f"blocks.0.0.{part}" for part in ("conv_dw", "bn1", "conv_pw", "bn2")),
        *(*_INVERTED, "conv_head", "bn2"),
    ],
    "mobilenet_v2": [
        *("features.0.0", "features.0.1"),
        *(f"features.1.conv.{i}" for i in ("0.0", "0.1", "1", "2")),
        *(
            f"features.{number}.conv.{i}"
            for number in range(2, 18)
            for i in ("0.0", "0.1", "1.0", "1.1", "2", "3")
        ),
        *("features.18.0", "features.18.1"),
    ],
}
"""The published names of a backbone's modules, in the backbone's own order."""


def published_state(name: str) -> tuple[dict[str, Tensor], ...]:
    """Returns random weights of a backbone, under their published names and under its own."""
    own = build_backbone(name).state_dict()
    modules = list(dict.fromkeys(key.rpartition(".")[0] for key in own))
    names = modules if name == "resnext50" else MODULES[name]
    theirs = dict(zip(modules, names, strict=True))
    state = {}
    for key, tensor in own.items():
        module, _, leaf = key.rpartition(".")
        state[f"{theirs[module]}.{leaf}"] = tensor
    if name in CLASSIFIERS:
        state[CLASSIFIERS[name]] = torch.ones(5)
    return state, own


def keras_state() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Returns random MobileNetV1 weights as Keras's file has them, and under our names."""
    leaves = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    own = build_backbone("mobilenet_v1").state_dict()
    keras = {}
    for key, tensor in own.items():
        *path, module, leaf = key.split(".")
        layer = "conv1" if path == ["stem"] else f"conv_{path[2][0]}w_{int(path[1]) + 1}"
        if leaf == "num_batches_tracked":
            continue
        if module == "norm":
            keras[f"{layer}_bn/{layer}_bn/{leaves.get(leaf, 'gamma')}:0"] = tensor
        elif "_dw_" in layer:
            keras[f"{layer}/{layer}/depthwise_kernel:0"] = tensor.permute(2, 3, 0, 1)
        else:
            keras[f"{layer}/{layer}/kernel:0"] = tensor.permute(2, 3, 1, 0)
    return keras, own
