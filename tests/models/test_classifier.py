from typing import Literal

import pytest
import torch

from dermfuse.config import load_preset
from dermfuse.data.isic2016 import Label
from dermfuse.errors import ConfigError
from dermfuse.models import build_network, count_parameters
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.classifier import Classifier, DiscriminantNetwork, JointNetwork
from dermfuse.models.unet import UNet


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_backbone("mobilenet_v1")).eval()


@pytest.fixture(scope="module")
def pair() -> DiscriminantNetwork:
    torch.manual_seed(0)
    return DiscriminantNetwork(build_backbone("mobilenet_v1")).eval()


@pytest.fixture(scope="module")
def joint() -> JointNetwork:
    torch.manual_seed(0)
    return JointNetwork(build_backbone("mobilenet_v1")).eval()


@pytest.mark.parametrize(
    ("preset", "trainable", "total"),
    [
        ("mobilenetv1", 3_209_026, 3_230_914),
        ("densenet121", 6_955_906, 7_039_554),
        ("squeezenet", 1_237_498, 1_237_498),
        ("resnet18", 11_179_973, 11_187_915),
        ("dc-mobilenetv1", 3_736_902, 3_758_790),
        ("dc-densenet121", 7_483_782, 7_567_430),
    ],
)
def test_networks_have_the_papers_parameters(preset: str, trainable: int, total: int) -> None:
    network = build_network(load_preset(preset).model)
    assert count_parameters(network, trainable=True) == trainable
    assert count_parameters(network, trainable=False) == total


@pytest.mark.parametrize("name", sorted(BACKBONES))
def test_every_backbone_carries_every_head(name: str) -> None:
    joint = JointNetwork(build_backbone(name)).eval()
    classifier = Classifier(joint.backbone, head=joint.class_head).eval()
    x = torch.rand(2, 3, 32, 64)
    with torch.inference_mode():
        class_logits, mask_logits = joint(x)
        assert (class_logits.shape, mask_logits.shape) == ((2, 2), (2, 1, 32, 64))
        assert classifier(x).shape == (2, 2)
        assert classifier.embed(x).shape == (2, joint.backbone.embedding_channels)


def test_the_logits_are_the_head_of_the_embedding(classifier: Classifier) -> None:
    x = torch.rand(2, 3, 32, 32)
    assert torch.equal(classifier(x), classifier.head(classifier.embed(x)))


def test_the_mean_of_the_activation_map_is_the_log_odds_without_the_biases(
    classifier: Classifier,
) -> None:
    x = torch.rand(2, 3, 64, 96)
    activation = classifier.activation_map(x)
    assert activation.shape == (2, 2, 3)
    logits = classifier(x) - classifier.head.bias
    expected = logits[:, Label.MALIGNANT] - logits[:, Label.BENIGN]
    torch.testing.assert_close(activation.mean(dim=(1, 2)), expected)
    with torch.no_grad():  # what both rows of the head share is no evidence
        classifier.head.weight += torch.randn(1, classifier.head.in_features)
    torch.testing.assert_close(classifier.activation_map(x), activation, rtol=1e-3, atol=1e-4)


def test_pixels_are_normalised_inside() -> None:
    classifier = Classifier(build_backbone("mobilenet_v1")).eval()
    x = torch.rand(1, 3, 32, 32)
    logits = classifier(x)
    classifier.normalise = torch.nn.Identity()
    torch.testing.assert_close(classifier(2 * x - 1), logits)


def test_the_embedding_stays_float32_under_bf16_autocast(classifier: Classifier) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert classifier.embed(torch.rand(1, 3, 32, 32)).dtype == torch.float32


def test_the_memory_format_changes_no_answer(joint: JointNetwork) -> None:
    x = torch.rand(2, 3, 32, 32)
    for here, there in zip(joint(x.contiguous(memory_format=torch.channels_last)), joint(x)):  # noqa: B905
        torch.testing.assert_close(here, there, rtol=1e-3, atol=1e-4)


def test_names_in_a_state_dict_are_a_public_format(
    classifier: Classifier, pair: DiscriminantNetwork, joint: JointNetwork
) -> None:
    parts = [
        list(dict.fromkeys(key.split(".")[0] for key in network.state_dict()))
        for network in (classifier, pair, joint)
    ]
    assert parts == [
        ["backbone", "head"],
        ["backbone", "head_a", "head_b", "discriminant"],
        ["backbone", "decoder", "head", "class_head"],
    ]
    assert next(iter(classifier.state_dict())) == "backbone.stem.conv.weight"


@pytest.mark.parametrize("name", ["squeezenet1_1", "mobilenet_v1"])
def test_a_network_exports_with_any_batch_size(name: str) -> None:
    network = Classifier(build_backbone(name)).eval()
    if name == "mobilenet_v1":
        network = UNet(network.backbone).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    program = torch.export.export(
        network, (torch.rand(2, 3, 32, 64),), dynamic_shapes=({0: batch},)
    )
    three = torch.rand(3, 3, 32, 64)
    torch.testing.assert_close(program.module()(three), network(three), rtol=1e-3, atol=1e-4)


def test_both_streams_pass_one_backbone_at_once_and_get_three_logits() -> None:
    network = DiscriminantNetwork(build_backbone("mobilenet_v1")).train()
    batches = []
    network.backbone.register_forward_hook(lambda _m, inputs, _o: batches.append(len(inputs[0])))
    logits = network(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    assert batches == [4]
    assert logits._fields == ("class_a", "class_b", "discriminant")
    assert [tuple(values.shape) for values in logits] == [(2, 2)] * 3


def test_forward_agrees_with_the_embeddings_of_each_stream(pair: DiscriminantNetwork) -> None:
    a, b = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    apart = pair.pair_logits(pair.embed(a), pair.embed(b))
    for together, alone in zip(pair(a, b), apart, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)


def test_swapping_the_streams_leaves_the_discriminant_alone(pair: DiscriminantNetwork) -> None:
    a, b = torch.randn(4, 1024), torch.randn(4, 1024)
    forth, back = pair.pair_logits(a, b), pair.pair_logits(b, a)
    assert torch.equal(forth.discriminant, back.discriminant)
    assert not torch.equal(forth.class_a, back.class_a)
    by_biases = pair.discriminant(torch.zeros(4, 1024))
    assert torch.equal(pair.pair_logits(a, a).discriminant, by_biases), "an image beside itself"


@pytest.mark.parametrize("head", ["a", "b", "mean"])
def test_the_deployed_classifier_answers_like_its_stream_or_the_mean_of_both(
    pair: DiscriminantNetwork, head: Literal["a", "b", "mean"]
) -> None:
    x, before = torch.rand(2, 3, 32, 32), pair.head_a.weight.clone()
    a, b, _ = pair(x, x)
    expected = {"a": a, "b": b, "mean": (a + b) / 2}[head]
    torch.testing.assert_close(pair.deploy(head)(x), expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(pair.head_a.weight, before)


def test_the_deployed_classifier_shares_its_modules_and_drops_the_branch(
    pair: DiscriminantNetwork,
) -> None:
    classifier = pair.deploy("b")
    assert classifier.backbone is pair.backbone
    assert classifier.head is pair.head_b
    assert classifier.normalise is pair.normalise
    assert not classifier.training
    assert count_parameters(classifier, trainable=True) == 3_736_902 - 2_050 - 525_826


def test_each_head_of_the_joint_network_answers_as_the_network_of_its_task_would(
    joint: JointNetwork,
) -> None:
    x = torch.rand(2, 3, 32, 64)
    state = joint.state_dict()
    unet = UNet(build_backbone("mobilenet_v1")).eval()
    unet.load_state_dict({k: v for k, v in state.items() if not k.startswith("class_head.")})
    classifier = Classifier(joint.backbone, head=joint.class_head).eval()
    with torch.inference_mode():
        logits = joint(x)
        torch.testing.assert_close(logits.mask_logits, unet(x))
        torch.testing.assert_close(logits.class_logits, classifier(x))


def test_the_joint_network_refuses_a_size_that_does_not_fit(joint: JointNetwork) -> None:
    with pytest.raises(ConfigError, match=r"48 x 64 pixels.*to 64 x 64"):
        joint(torch.rand(1, 3, 48, 64))
