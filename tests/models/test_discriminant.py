from typing import Literal

import pytest
import torch

from dermfuse.models import count_parameters
from dermfuse.models.backbones import build_backbone
from dermfuse.models.classifier import DiscriminantNetwork


@pytest.fixture(scope="module")
def network() -> DiscriminantNetwork:
    torch.manual_seed(0)
    return DiscriminantNetwork(build_backbone("mobilenet_v1")).eval()


@pytest.mark.parametrize(
    ("backbone", "trainable"), [("mobilenet_v1", 3_736_902), ("densenet121", 7_483_782)]
)
def test_the_pair_networks_have_the_papers_parameters(backbone: str, trainable: int) -> None:
    network = DiscriminantNetwork(build_backbone(backbone))
    assert count_parameters(network, trainable=True) == trainable


def test_a_pair_batch_gets_three_logits(network: DiscriminantNetwork) -> None:
    logits = network(torch.rand(3, 3, 32, 32), torch.rand(3, 3, 32, 32))
    assert logits._fields == ("class_a", "class_b", "discriminant")
    assert [tuple(values.shape) for values in logits] == [(3, 2), (3, 2), (3, 2)]


def test_both_streams_pass_one_backbone_at_once() -> None:
    network = DiscriminantNetwork(build_backbone("mobilenet_v1")).train()
    batches = []
    network.backbone.register_forward_hook(lambda _m, inputs, _o: batches.append(len(inputs[0])))
    network(torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32))
    assert batches == [4]


def test_forward_agrees_with_the_embeddings_of_each_stream(network: DiscriminantNetwork) -> None:
    a, b = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32)
    apart = network.pair_logits(network.embed(a), network.embed(b))
    for together, alone in zip(network(a, b), apart, strict=True):
        torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-5)


def test_swapping_the_streams_leaves_the_discriminant_alone(network: DiscriminantNetwork) -> None:
    a, b = torch.randn(4, 1024), torch.randn(4, 1024)
    forth, back = network.pair_logits(a, b), network.pair_logits(b, a)
    assert torch.equal(forth.discriminant, back.discriminant)
    assert not torch.equal(forth.class_a, back.class_a)


def test_an_image_beside_itself_is_judged_by_the_biases_alone(network: DiscriminantNetwork) -> None:
    a, b = torch.randn(1, 1024), torch.randn(1, 1024)
    of_a, of_b = network.pair_logits(a, a), network.pair_logits(b, b)
    assert torch.equal(of_a.discriminant, of_b.discriminant)
    assert torch.equal(of_a.discriminant, network.discriminant(torch.zeros(1, 1024)))


@pytest.mark.parametrize("head", ["a", "b"])
def test_the_deployed_classifier_answers_like_its_stream(
    network: DiscriminantNetwork, head: Literal["a", "b"]
) -> None:
    x = torch.rand(2, 3, 32, 32)
    classifier = network.deploy(head)
    logits = network(x, x)
    expected = logits.class_a if head == "a" else logits.class_b
    torch.testing.assert_close(classifier(x), expected, rtol=1e-3, atol=1e-5)


def test_the_mean_of_both_heads_is_one_head(network: DiscriminantNetwork) -> None:
    x = torch.rand(2, 3, 32, 32)
    logits = network(x, x)
    expected = (logits.class_a + logits.class_b) / 2
    before = network.head_a.weight.clone()
    torch.testing.assert_close(network.deploy("mean")(x), expected, rtol=1e-3, atol=1e-5)
    assert torch.equal(network.head_a.weight, before)


def test_the_deployed_classifier_shares_its_modules_and_drops_the_branch(
    network: DiscriminantNetwork,
) -> None:
    classifier = network.deploy("b")
    assert classifier.backbone is network.backbone
    assert classifier.head is network.head_b
    assert classifier.normalise is network.normalise
    assert not classifier.training
    assert count_parameters(classifier, trainable=True) == 3_736_902 - 2_050 - 525_826


def test_every_parameter_learns_from_the_three_logits() -> None:
    network = DiscriminantNetwork(build_backbone("mobilenet_v1"))
    logits = network(torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64))
    torch.stack([out.square().sum() for out in logits]).sum().backward()
    assert [name for name, p in network.named_parameters() if p.grad is None] == []
