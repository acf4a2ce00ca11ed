from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from dermfuse.errors import ExportError
from dermfuse.folders import NOTICE, write_json
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.backbones.base import Normalise
from dermfuse.models.classifier import DiscriminantNetwork
from dermfuse.publishing import onnx as network_module
from dermfuse.publishing.graphs import Pixels
from dermfuse.publishing.onnx import export_network, open_session, run_onnx
from dermfuse.release.cards import read_card

from .conftest import MakeTrained


@pytest.mark.parametrize("backbone", BACKBONES)
def test_the_file_answers_as_torch_does_on_every_backbone(
    backbone: str, make_trained: MakeTrained, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    trained = make_trained("joint", backbone)
    card = export_network(trained, tmp_path, images=images)
    model = onnx.load(tmp_path / card.file)
    answers = run_onnx(open_session(tmp_path / card.file), images)
    with torch.inference_mode():
        x = torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255
        class_logits, mask_logits = trained.network(x)
    assert np.ptp(answers["logits"][:, 1]) > 1e-2 * np.abs(answers["logits"]).max()  # told apart
    expected = class_logits.softmax(1)[:, 1].numpy()
    assert np.allclose(answers["malignant"], expected, rtol=0, atol=1e-4)
    assert np.allclose(answers["lesion"], mask_logits.sigmoid()[:, 0].numpy(), rtol=0, atol=1e-4)
    assert list(card.parity.largest_difference) == list(card.outputs) == list(answers)
    assert max(card.parity.largest_difference.values()) <= 1e-4
    operators = Counter(node.op_type for node in model.graph.node)
    assert not operators.keys() & {"Identity", "Shape", "Pad", "Constant", "Dropout"}
    assert operators["Cast"] == operators["Gemm"] == operators["Sigmoid"] == 1


@pytest.mark.parametrize(
    ("kind", "backbone", "outputs"),
    [
        ("classifier", "squeezenet1_1", ["logits", "malignant", "activation_map", "embedding"]),
        ("discriminant", "mobilenet_v1", ["logits", "malignant", "activation_map", "embedding"]),
        ("unet", "mobilenet_v1", ["lesion"]),
        ("unet_original", "", ["lesion"]),
    ],
)
def test_every_kind_of_network_has_its_outputs_for_any_number_of_images(
    kind: str,
    backbone: str,
    outputs: list[str],
    make_trained: MakeTrained,
    images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    card = export_network(make_trained(kind, backbone), tmp_path, images=images)
    session = open_session(tmp_path / "tiny-run.onnx")
    assert list(card.outputs) == [output.name for output in session.get_outputs()] == outputs
    assert session.get_inputs()[0].shape == ["N", 32, 32, 3]
    together = session.run(None, {"image": images})
    alone = [session.run(None, {"image": images[i : i + 1]}) for i in range(len(images))]
    for index, answer in enumerate(together):
        assert len(answer) == len(images)
        single = np.concatenate([each[index] for each in alone])
        assert np.allclose(answer, single, rtol=1e-4, atol=1e-5)


def test_the_activation_map_and_the_embedding_explain_the_logits(
    make_trained: MakeTrained, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    trained = make_trained("classifier", "mobilenet_v1")
    export_network(trained, tmp_path, images=images)
    answers = run_onnx(open_session(tmp_path / "tiny-run.onnx"), images)
    benign, malignant = trained.network.head.bias.tolist()
    from_map = answers["activation_map"].mean(axis=(1, 2)) + malignant - benign
    log_odds = answers["logits"][:, 1] - answers["logits"][:, 0]
    assert np.allclose(from_map, log_odds, atol=1e-4)
    head = trained.network.head.weight.detach().numpy()
    from_embedding = answers["embedding"] @ head.T + trained.network.head.bias.detach().numpy()
    assert np.allclose(from_embedding, answers["logits"], atol=1e-4)


def test_batch_normalisation_lies_in_the_convolutions_and_the_network_stays_as_it_was(
    make_trained: MakeTrained, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    trained = make_trained("unet", "mobilenet_v1")
    before = {key: value.clone() for key, value in trained.network.state_dict().items()}
    card = export_network(trained, tmp_path, images=images)
    model = onnx.load(tmp_path / card.file)
    operators = Counter(node.op_type for node in model.graph.node)
    assert operators["Conv"] == 38
    assert "BatchNormalization" not in operators
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    after = trained.network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())
    assert type(trained.network.normalise).__name__ == "Normalise"


def test_the_card_says_what_the_run_was_and_where_its_weights_began(
    make_trained: MakeTrained, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    trained = make_trained("discriminant", "mobilenet_v1")
    record = {"seed": 4, "epochs": 9, "device": "CPU", "data": {"summary": "717 images"}}
    write_json(trained.run / "run.json", record)
    card = export_network(trained, tmp_path, images=images)
    assert read_card(tmp_path / "tiny-run.json") == card
    assert (card.name, card.preset, card.epoch) == ("tiny-run", "tiny", 7)
    assert card.parameters == 3_206_976 + 2 * 1024 + 2
    expected = {"data": "717 images", "init": "random", "seed": 4, "epochs": 9, "device": "CPU"}
    assert card.training == expected
    assert card.parity.images == 5
    assert card.notice == NOTICE
    assert "random" in card.weights_licence
    imagenet = replace(trained, config=trained.config.override(["model.init=imagenet"]))
    licence = export_network(imagenet, tmp_path, images=images).weights_licence
    assert "ImageNet weights of mobilenet_v1" in licence


def test_what_cannot_be_exported_is_refused_and_nothing_is_written(
    make_trained: MakeTrained,
    images: NDArray[np.uint8],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    trained = make_trained("classifier", "squeezenet1_1")
    for shape in ((2, 64, 64, 3), (2, 3, 32, 32), (0, 32, 32, 3)):
        with pytest.raises(ExportError, match=r"Expected: uint8 of shape \(N, 32, 32, 3\)"):
            export_network(trained, tmp_path, images=np.zeros(shape, np.uint8))
    letterboxed = replace(trained, config=trained.config.override(["data.fit=letterbox"]))
    with pytest.raises(ExportError, match=r"data\.fit letterbox\. Expected: squeeze"):
        export_network(letterboxed, tmp_path, images=images)
    uncut = replace(trained, network=DiscriminantNetwork(trained.network.backbone).eval())
    with pytest.raises(ExportError, match="DiscriminantNetwork cannot be exported"):
        export_network(uncut, tmp_path, images=images)
    true_answers = network_module.run_torch(trained.network, images)
    shifted = {**true_answers, "malignant": true_answers["malignant"] + np.float32(2e-4)}
    monkeypatch.setattr(network_module, "run_torch", lambda *_: shifted)
    with pytest.raises(ExportError, match="malignant of the exported network differs"):
        export_network(trained, tmp_path, images=images)
    assert not list(tmp_path.glob("*.onnx"))


def test_bytes_are_scaled_plane_by_plane_to_the_numbers_that_pixel_by_pixel_gives() -> None:
    normalise = Normalise(build_backbone("mobilenet_v1").normalisation)
    image = torch.randint(0, 256, (2, 5, 7, 3), dtype=torch.uint8)
    pixels = Pixels(normalise)
    by_pixel = image.float() * pixels.scale.flatten() + pixels.shift.flatten()
    assert torch.equal(pixels(image), by_pixel.permute(0, 3, 1, 2))
    expected = normalise(image.permute(0, 3, 1, 2).float() / 255)
    torch.testing.assert_close(pixels(image), expected, rtol=1e-5, atol=1e-5)
