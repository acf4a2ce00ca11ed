import pytest

from dermfuse.errors import ConfigError
from dermfuse.models.backbones import BACKBONES, build_backbone


def test_there_are_nine_backbones_under_the_names_that_presets_spell() -> None:
    assert set(BACKBONES) == {
        "mobilenet_v1",
        "densenet121",
        "squeezenet1_1",
        "shufflenet_v1",
        "resnet18",
        "vgg16",
        "resnext50",
        "efficientnet_lite0",
        "mobilenet_v2",
    }


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no backbone 'densnet121'.*Did you mean densenet121\?"):
        build_backbone("densnet121")


def test_a_name_like_no_other_is_refused_with_the_list() -> None:
    with pytest.raises(ConfigError, match=r"one of mobilenet_v1, densenet121, .*mobilenet_v2\.$"):
        build_backbone("@")
