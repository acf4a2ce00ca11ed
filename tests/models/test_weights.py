import os
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from dermfuse.errors import WeightsError
from dermfuse.imaging.preprocess import squeeze
from dermfuse.models.backbones import build_backbone
from dermfuse.models.backbones.base import SamePadConv2d
from dermfuse.models.weights import (
    PUBLISHED,
    load_imagenet,
    load_imagenet_classifier,
    load_strictly,
    read_weights,
)

CATS = {281, 282, 283, 284, 285}  # tabby, tiger cat, Persian, Siamese, Egyptian cat
SOURCE = Path("weights.safetensors")


def _layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def _state(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    state = {key: torch.ones_like(value) for key, value in _layers().state_dict().items()}
    return {key: value for key, value in (state | changes).items() if value is not None}


def _squeezenet(folder: Path, **changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    """Writes random SqueezeNet weights under torchvision's names."""
    names = {"conv1": "features.0", "conv10": "classifier.1"}
    indices = iter((3, 4, 6, 7, 9, 10, 11, 12))
    state = {}
    for key, value in build_backbone("squeezenet1_1").state_dict().items():
        module, rest = (
            key.split(".", 1) if not key.startswith("stages") else (key[:10], key.split(".", 3)[3])
        )
        if module not in names:
            names[module] = f"features.{next(indices)}"
        state[f"{names[module]}.{rest}"] = value
    folder.mkdir(exist_ok=True)
    state = {key: value for key, value in (state | changes).items() if value is not None}
    save_file(state, folder / PUBLISHED["squeezenet1_1"].file)
    return state


def test_weights_that_fit_are_copied() -> None:
    layers = _layers()
    load_strictly(layers, _state(), source=SOURCE)
    assert all(bool((value == 1).all()) for value in layers.state_dict().values())


def test_half_precision_weights_are_widened() -> None:
    layers = _layers()
    load_strictly(layers, _state(**{"0.weight": torch.full((2, 2), 0.5).half()}), source=SOURCE)
    assert layers[0].weight.dtype == torch.float32
    assert layers[0].weight.tolist() == [[0.5, 0.5], [0.5, 0.5]]


def test_batch_counters_may_be_absent() -> None:
    load_strictly(_layers(), _state(**{"1.num_batches_tracked": None}), source=SOURCE)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"0.bias": None}, r"0\.bias is missing"),
        ({"2.bias": torch.ones(2)}, r"2\.bias is unexpected"),
        ({"0.weight": torch.ones(3, 2)}, r"0\.weight is \(3, 2\), not \(2, 2\)"),
        ({"1.running_var": torch.tensor([1.0, float("nan")])}, r"1\.running_var .* not finite"),
        ({str(i): torch.ones(1) for i in range(5, 10)}, r"and 2 more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_none_is_copied(
    changes: dict[str, torch.Tensor | None], complaint: str
) -> None:
    layers = _layers()
    before = {key: value.clone() for key, value in layers.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"weights\.safetensors does not fit .*{complaint}"):
        load_strictly(layers, _state(**changes), source=SOURCE)
    assert all(torch.equal(value, before[key]) for key, value in layers.state_dict().items())


@pytest.mark.parametrize("content", [b"", b"not a weight file at all", b"\xff" * 64])
def test_a_damaged_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "damaged.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"damaged\.safetensors cannot be read"):
        read_weights(path)


def test_a_truncated_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "cut.safetensors"
    save_file({"a": torch.rand(64)}, path)
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(WeightsError, match=r"cut\.safetensors cannot be read"):
        read_weights(path)


def test_a_local_folder_fills_a_backbone(tmp_path: Path) -> None:
    state = _squeezenet(tmp_path)
    backbone = build_backbone("squeezenet1_1")
    load_imagenet(backbone, folder=tmp_path)
    assert torch.equal(backbone.conv1.weight, state["features.0.weight"])
    assert torch.equal(backbone.conv10.bias, state["classifier.1.bias"])


def test_a_missing_file_is_named_with_two_ways_out(tmp_path: Path) -> None:
    with pytest.raises(WeightsError) as caught:
        load_imagenet(build_backbone("squeezenet1_1"), folder=tmp_path)
    message = str(caught.value)
    assert str(tmp_path / "squeezenet1_1.safetensors") in message
    assert "Leave --imagenet out to download them, or set model.init=random." in message


def test_a_network_without_published_weights_is_refused_with_a_way_out(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"neither .* for shufflenet_v1.*model\.init=random"):
        load_imagenet(build_backbone("shufflenet_v1"), folder=tmp_path)


@pytest.mark.parametrize("alien", ["features.5.weight", "strange"])
def test_a_file_with_foreign_names_is_refused(tmp_path: Path, alien: str) -> None:
    _squeezenet(tmp_path, **{alien: torch.ones(1)})
    with pytest.raises(WeightsError, match="names"):
        load_imagenet(build_backbone("squeezenet1_1"), folder=tmp_path)


def test_the_file_of_another_network_is_refused(tmp_path: Path) -> None:
    _squeezenet(tmp_path)
    (tmp_path / "squeezenet1_1.safetensors").rename(tmp_path / "mobilenet_v1.safetensors")
    with pytest.raises(WeightsError, match="does not fit the network"):
        load_imagenet(build_backbone("mobilenet_v1"), folder=tmp_path)


def test_a_backbone_that_ends_in_its_classifier_answers_itself(tmp_path: Path) -> None:
    _squeezenet(tmp_path)
    classifier = load_imagenet_classifier("squeezenet1_1", folder=tmp_path)
    assert classifier(torch.rand(1, 3, 64, 64)).shape == (1, 1000)
    assert not classifier.training


def _efficientnet(folder: Path, **classifier: torch.Tensor) -> None:
    """Writes random EfficientNet-Lite0 weights under timm's names."""
    names = {"stem.conv": "conv_stem", "stem.norm": "bn1", "top.conv": "conv_head"}
    names["top.norm"] = "bn2"
    state = dict(classifier)
    for key, value in build_backbone("efficientnet_lite0").state_dict().items():
        *path, part, module, leaf = key.split(".")
        if path:
            order = (
                ("depthwise", "project") if path[1] == "0" else ("expand", "depthwise", "project")
            )
            conv = {"depthwise": "conv_dw", "expand": "conv_pw", "project": "conv_pwl"}[part]
            conv = "conv_pw" if path[1] == "0" and part == "project" else conv
            own = conv if module == "conv" else f"bn{order.index(part) + 1}"
            state[f"blocks.{path[1]}.{path[2]}.{own}.{leaf}"] = value
        else:
            state[f"{names[f'{part}.{module}']}.{leaf}"] = value
    save_file(state, folder / PUBLISHED["efficientnet_lite0"].file)


def test_a_published_dense_layer_is_used_by_the_imagenet_classifier_only(tmp_path: Path) -> None:
    weight, bias = torch.zeros(7, 1280), torch.arange(7.0)
    _efficientnet(tmp_path, **{"classifier.weight": weight, "classifier.bias": bias})
    load_imagenet(build_backbone("efficientnet_lite0"), folder=tmp_path)
    classifier = load_imagenet_classifier("efficientnet_lite0", folder=tmp_path)
    assert classifier(torch.rand(1, 3, 32, 32)).tolist() == [bias.tolist()]


def test_a_file_without_its_dense_layer_makes_no_imagenet_classifier(tmp_path: Path) -> None:
    _efficientnet(tmp_path)
    with pytest.raises(WeightsError, match="holds no ImageNet classifier for efficientnet_lite0"):
        load_imagenet_classifier("efficientnet_lite0", folder=tmp_path)


@pytest.fixture
def imagenet() -> Path:
    folder = os.environ.get("DERMFUSE_IMAGENET")
    if not folder:
        pytest.skip("DERMFUSE_IMAGENET does not name a folder with ImageNet weights")
    return Path(folder)


@pytest.fixture
def cat() -> torch.Tensor:
    data = pytest.importorskip("skimage.data")
    try:
        photograph = data.chelsea()
    except (OSError, ImportError):
        pytest.skip("scikit-image came without its cat")
    pixels = squeeze(np.ascontiguousarray(photograph), 224)
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0) / 255


def _probabilities(classifier: nn.Module, x: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return classifier(x).softmax(dim=1)[0]


@pytest.mark.real
@pytest.mark.parametrize(
    ("backbone", "background"),
    [
        ("mobilenet_v1", 1),
        ("efficientnet_lite0", 0),
        ("squeezenet1_1", 0),
        ("mobilenet_v2", 0),
    ],
)
def test_a_cat_is_named_a_cat(
    imagenet: Path, cat: torch.Tensor, backbone: str, background: int
) -> None:
    classifier = load_imagenet_classifier(backbone, folder=imagenet)
    probabilities = _probabilities(classifier, cat)
    assert int(probabilities.argmax()) - background in CATS
    assert float(probabilities[[index + background for index in CATS]].sum()) > 0.8


@pytest.mark.real
@pytest.mark.parametrize("backbone", ["mobilenet_v1", "efficientnet_lite0"])
def test_symmetric_padding_would_change_the_answer(
    imagenet: Path, cat: torch.Tensor, backbone: str
) -> None:
    classifier = load_imagenet_classifier(backbone, folder=imagenet)
    right = _probabilities(classifier, cat)
    for parent in list(classifier.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, SamePadConv2d):
                setattr(parent, name, _symmetric(child))
    assert float((_probabilities(classifier, cat) - right).abs().max()) > 0.02


def _symmetric(same: SamePadConv2d) -> nn.Conv2d:
    padding = tuple(size // 2 for size in same.kernel_size)
    symmetric = nn.Conv2d(
        same.in_channels,
        same.out_channels,
        same.kernel_size,
        same.stride,
        padding,
        groups=same.groups,
        bias=False,
    )
    symmetric.weight = same.weight
    return symmetric


@pytest.mark.real
@pytest.mark.parametrize("backbone", sorted(PUBLISHED))
def test_every_local_file_fits_its_backbone(imagenet: Path, backbone: str) -> None:
    if not (imagenet / PUBLISHED[backbone].file).is_file():
        pytest.skip(f"{imagenet} has no {PUBLISHED[backbone].file}")
    network = build_backbone(backbone).eval()
    load_imagenet(network, folder=imagenet)
    with torch.inference_mode():
        assert bool(torch.isfinite(network(torch.rand(1, 3, 64, 64))).all())
