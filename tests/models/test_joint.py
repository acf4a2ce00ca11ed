import pytest
import torch

from dermfuse.errors import ConfigError
from dermfuse.models import count_parameters
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.classifier import Classifier, JointNetwork
from dermfuse.models.unet import UNet


@pytest.fixture(scope="module")
def network() -> JointNetwork:
    torch.manual_seed(0)
    return JointNetwork(build_backbone("mobilenet_v1")).eval()


def test_it_is_the_unet_and_one_dense_layer(network: JointNetwork) -> None:
    unet = UNet(build_backbone("mobilenet_v1"))
    dense = 1024 * 2 + 2
    assert count_parameters(network, trainable=True) == count_parameters(unet, trainable=True) + (
        dense
    )


def test_each_head_answers_as_the_network_of_its_task_would(network: JointNetwork) -> None:
    x = torch.rand(2, 3, 32, 64)
    state = network.state_dict()
    unet = UNet(build_backbone("mobilenet_v1")).eval()
    unet.load_state_dict({k: v for k, v in state.items() if not k.startswith("class_head.")})
    classifier = Classifier(network.backbone, head=network.class_head).eval()
    with torch.inference_mode():
        logits = network(x)
        torch.testing.assert_close(logits.mask_logits, unet(x))
        torch.testing.assert_close(logits.class_logits, classifier(x))


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_carries_both_heads(name: str) -> None:
    network = JointNetwork(build_backbone(name)).eval()
    with torch.inference_mode():
        class_logits, mask_logits = network(torch.rand(1, 3, 32, 64))
    assert (class_logits.shape, mask_logits.shape) == ((1, 2), (1, 1, 32, 64))


def test_every_parameter_learns_from_both_answers() -> None:
    network = JointNetwork(build_backbone("mobilenet_v2"))
    class_logits, mask_logits = network(torch.rand(2, 3, 64, 64))
    (class_logits.square().mean() + mask_logits.square().mean()).backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []


def test_a_size_that_does_not_fit_is_refused_with_one_that_does(network: JointNetwork) -> None:
    with pytest.raises(ConfigError, match=r"48 x 64 pixels.*to 64 x 64"):
        network(torch.rand(1, 3, 48, 64))
