import pytest
import torch

from dermfuse.data.labels import Label
from dermfuse.models import count_parameters
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.classifier import Classifier


@pytest.fixture(scope="module")
def classifier() -> Classifier:
    torch.manual_seed(0)
    return Classifier(build_backbone("mobilenet_v1")).eval()


@pytest.mark.parametrize(
    ("backbone", "total"),
    [
        ("mobilenet_v1", 3_230_914),
        ("densenet121", 7_039_554),
        ("squeezenet1_1", 1_237_498),
        ("resnet18", 11_187_915),
    ],
)
def test_the_baselines_have_the_papers_parameters(backbone: str, total: int) -> None:
    classifier = Classifier(build_backbone(backbone))
    assert count_parameters(classifier, trainable=False) == total


@pytest.mark.parametrize("backbone", sorted(BACKBONES))
def test_every_backbone_carries_a_classifier(backbone: str) -> None:
    classifier = Classifier(build_backbone(backbone)).eval()
    x = torch.rand(2, 3, 32, 64)
    with torch.inference_mode():
        assert classifier(x).shape == (2, 2)
        assert classifier.embed(x).shape == (2, classifier.backbone.embedding_channels)


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


def test_what_both_rows_of_the_head_share_is_no_evidence(classifier: Classifier) -> None:
    x = torch.rand(2, 3, 64, 64)
    before = classifier.activation_map(x)
    with torch.no_grad():
        classifier.head.weight += torch.randn(1, classifier.head.in_features)
    torch.testing.assert_close(classifier.activation_map(x), before, rtol=1e-3, atol=1e-4)


def test_pixels_are_normalised_inside() -> None:
    classifier = Classifier(build_backbone("mobilenet_v1")).eval()
    x = torch.rand(1, 3, 32, 32)
    logits = classifier(x)
    classifier.normalise = torch.nn.Identity()
    torch.testing.assert_close(classifier(2 * x - 1), logits)


def test_the_embedding_stays_float32_under_bf16_autocast(classifier: Classifier) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert classifier.embed(torch.rand(1, 3, 32, 32)).dtype == torch.float32


def test_the_memory_format_changes_no_answer(classifier: Classifier) -> None:
    x = torch.rand(2, 3, 32, 32)
    channels_last = x.contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(classifier(channels_last), classifier(x), rtol=1e-3, atol=1e-5)


def test_its_names_in_a_state_dict_are_a_public_format(classifier: Classifier) -> None:
    keys = list(classifier.state_dict())
    assert keys[0] == "backbone.stem.conv.weight"
    assert keys[-2:] == ["head.weight", "head.bias"]
    assert {key.split(".")[0] for key in keys} == {"backbone", "head"}


def test_it_exports_with_any_batch_size() -> None:
    classifier = Classifier(build_backbone("squeezenet1_1")).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    x = torch.rand(2, 3, 32, 32)
    program = torch.export.export(classifier, (x,), dynamic_shapes=({0: batch},))
    three = torch.rand(3, 3, 32, 32)
    torch.testing.assert_close(program.module()(three), classifier(three))
