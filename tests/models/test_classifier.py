from typing import Literal

import pytest
import torch

from dermfuse.data.isic2016 import Label
from dermfuse.models import count_parameters
from dermfuse.models.backbones import build_backbone
from dermfuse.models.classifier import Classifier, DiscriminantNetwork, JointNetwork
from dermfuse.models.unet import UNet


@pytest.fixture(scope="module")
def pair() -> DiscriminantNetwork:
    torch.manual_seed(0)
    return DiscriminantNetwork(build_backbone("mobilenet_v1")).eval()


def test_the_mean_of_the_activation_map_is_the_log_odds_without_the_biases() -> None:
    classifier = Classifier(build_backbone("mobilenet_v1")).eval()
    x = torch.rand(2, 3, 64, 96)
    activation = classifier.activation_map(x)
    assert activation.shape == (2, 2, 3)
    logits = classifier(x) - classifier.head.bias
    expected = logits[:, Label.MALIGNANT] - logits[:, Label.BENIGN]
    torch.testing.assert_close(activation.mean(dim=(1, 2)), expected)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert classifier.embed(x).dtype == torch.float32
    with torch.no_grad():  # what both rows of the head share is no evidence
        classifier.head.weight += torch.randn(1, classifier.head.in_features)
    torch.testing.assert_close(classifier.activation_map(x), activation, rtol=1e-3, atol=1e-4)


def test_both_streams_pass_one_backbone_at_once_and_get_the_logits_of_each(
    pair: DiscriminantNetwork,
) -> None:
    batches: list[int] = []
    count = pair.backbone.register_forward_hook(lambda _m, x, _o: batches.append(len(x[0])))
    a, b = torch.rand(2, 2, 3, 32, 32)
    together = pair(a, b)
    count.remove()
    assert batches == [4]
    assert together._fields == ("class_a", "class_b", "discriminant")
    for both, alone in zip(together, pair.pair_logits(pair.embed(a), pair.embed(b)), strict=True):
        assert both.shape == (2, 2)
        torch.testing.assert_close(both, alone, rtol=1e-3, atol=1e-5)


def test_swapping_the_streams_leaves_the_discriminant_alone(pair: DiscriminantNetwork) -> None:
    a, b = torch.randn(2, 4, 1024)
    forth, back = pair.pair_logits(a, b), pair.pair_logits(b, a)
    assert torch.equal(forth.discriminant, back.discriminant)
    assert not torch.equal(forth.class_a, back.class_a)
    by_biases = pair.discriminant(torch.zeros(4, 1024))
    assert torch.equal(pair.pair_logits(a, a).discriminant, by_biases), "an image beside itself"


@pytest.mark.parametrize("head", ["a", "b", "mean"])
def test_what_is_deployed_answers_like_its_stream_or_the_mean_of_both_without_the_branch(
    pair: DiscriminantNetwork, head: Literal["a", "b", "mean"]
) -> None:
    x, before = torch.rand(2, 3, 32, 32), pair.head_a.weight.clone()
    a, b, _ = pair(x, x)
    classifier = pair.deploy(head)
    expected = {"a": a, "b": b, "mean": (a + b) / 2}[head]
    torch.testing.assert_close(classifier(x), expected, rtol=1e-3, atol=1e-5)
    weight_a, weight_b = pair.head_a.weight, pair.head_b.weight
    kept = {"a": weight_a, "b": weight_b, "mean": (weight_a + weight_b) / 2}[head]
    torch.testing.assert_close(classifier.head.weight, kept)
    assert torch.equal(pair.head_a.weight, before)
    assert classifier.backbone is pair.backbone
    assert not classifier.training
    assert count_parameters(classifier, trainable=True) == 3_736_902 - 2_050 - 525_826


def test_a_u_nets_weights_and_a_class_head_make_a_joint_network() -> None:
    joint, unet = (network(build_backbone("mobilenet_v1")) for network in (JointNetwork, UNet))
    faults = joint.load_state_dict(unet.state_dict(), strict=False)
    assert faults.missing_keys == ["class_head.weight", "class_head.bias"]
    assert not faults.unexpected_keys
    x = torch.rand(2, 3, 32, 64)
    with torch.inference_mode():
        torch.testing.assert_close(joint.eval()(x).mask_logits, unet.eval()(x))
