import pytest
import torch

from dermfuse.models import count_parameters
from dermfuse.models.backbones.efficientnet_lite import EfficientNetLite0, convert_timm

OUTER = {"stem.conv": "conv_stem", "stem.norm": "bn1", "top.conv": "conv_head", "top.norm": "bn2"}
FIRST = {
    "depthwise.conv": "conv_dw",
    "depthwise.norm": "bn1",
    "project.conv": "conv_pw",
    "project.norm": "bn2",
}
LATER = {
    "expand.conv": "conv_pw",
    "expand.norm": "bn1",
    "depthwise.conv": "conv_dw",
    "depthwise.norm": "bn2",
    "project.conv": "conv_pwl",
    "project.norm": "bn3",
}


@pytest.fixture(scope="module")
def backbone() -> EfficientNetLite0:
    torch.manual_seed(0)
    return EfficientNetLite0().eval()


def _timm_names(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    timm = {}
    for key, tensor in state.items():
        *path, part, module, leaf = key.split(".")
        if path:
            names = FIRST if path[1] == "0" else LATER
            timm[f"blocks.{path[1]}.{path[2]}.{names[f'{part}.{module}']}.{leaf}"] = tensor
        else:
            timm[f"{OUTER[f'{part}.{module}']}.{leaf}"] = tensor
    return timm


def test_it_has_the_published_parameters(backbone: EfficientNetLite0) -> None:
    published, dense = 4_652_008, 1280 * 1000 + 1000
    assert count_parameters(backbone, trainable=True) == published - dense


def test_its_maps_have_the_promised_channels_and_strides(backbone: EfficientNetLite0) -> None:
    maps = backbone.features(torch.rand(2, 3, 64, 96))
    assert [tuple(m.shape) for m in maps] == [
        (2, 16, 32, 48),
        (2, 24, 16, 24),
        (2, 40, 8, 12),
        (2, 112, 4, 6),
        (2, 320, 2, 3),
    ]


def test_the_embedding_is_wider_than_the_deepest_map(backbone: EfficientNetLite0) -> None:
    assert backbone(torch.rand(1, 3, 64, 96)).shape == (1, 1280, 2, 3)


def test_a_pixel_of_127_becomes_zero() -> None:
    normalisation = EfficientNetLite0.normalisation
    scaled = [
        (127 / 255 - m) / s for m, s in zip(normalisation.mean, normalisation.std, strict=True)
    ]
    assert scaled == [0, 0, 0]
    assert (255 / 255 - normalisation.mean[0]) / normalisation.std[0] == pytest.approx(1)


def test_timm_names_become_its_own(backbone: EfficientNetLite0) -> None:
    state = backbone.state_dict()
    converted = convert_timm(_timm_names(state))
    assert set(converted) == set(state)
    assert all(tensor is state[key] for key, tensor in converted.items())
