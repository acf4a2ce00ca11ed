import copy
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from dermfuse.errors import ExportError
from dermfuse.models.backbones import BACKBONES
from dermfuse.models.classifier import DiscriminantNetwork
from dermfuse.publishing import onnx as module
from dermfuse.publishing.onnx import export_network, open_session, run_onnx
from dermfuse.records.folders import write_json
from dermfuse.release.cards import read_card

from .conftest import MakeTrained

CLASSES = ["logits", "malignant", "activation_map", "embedding"]
IDLE = {"Identity", "Shape", "Pad", "Constant", "Dropout"}


@pytest.mark.parametrize(
    ("kind", "backbone", "outputs"),
    [
        *(("joint", backbone, [*CLASSES, "lesion"]) for backbone in BACKBONES),
        ("classifier", "squeezenet1_1", CLASSES),
        ("discriminant", "mobilenet_v1", CLASSES),
        ("unet", "mobilenet_v1", ["lesion"]),
        ("unet_original", "", ["lesion"]),
    ],
)
def test_the_file_answers_as_torch_does_for_any_number_of_images(
    kind: str,
    backbone: str,
    outputs: list[str],
    make_trained: MakeTrained,
    images: NDArray[np.uint8],
    tmp_path: Path,
) -> None:
    trained = make_trained(kind, backbone)
    before = copy.deepcopy(trained.network.state_dict())
    card = export_network(trained, tmp_path, images=images)
    session = open_session(tmp_path / card.file)
    answers, alone = run_onnx(session, images), run_onnx(session, images[:1])
    with torch.inference_mode():
        found = trained.network(torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255)
    for logits in (found,) if isinstance(found, torch.Tensor) else found:
        scores = logits.softmax(1)[:, 1] if logits.ndim == 2 else logits.sigmoid()[:, 0]
        answer = answers["malignant" if logits.ndim == 2 else "lesion"]
        assert np.allclose(answer, scores.numpy(), rtol=0, atol=1e-4)
    if kind == "joint":
        told_apart = np.ptp(answers["logits"][:, 1])
        assert told_apart > 1e-2 * np.abs(answers["logits"]).max()
    assert list(card.parity.largest_difference) == list(card.outputs) == list(answers) == outputs
    assert session.get_inputs()[0].shape == ["N", 32, 32, 3]
    for name, answer in answers.items():
        assert np.allclose(answer[:1], alone[name], rtol=1e-4, atol=1e-5 * np.abs(answer).max())
    model = onnx.load(tmp_path / card.file)
    operators = Counter(node.op_type for node in model.graph.node)
    assert not operators.keys() & (
        IDLE | ({"BatchNormalization"} if "mobile" in backbone else set())
    )
    assert operators["Cast"] == 1
    assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 17)]
    after = trained.network.state_dict()
    assert all(torch.equal(after[key], value) for key, value in before.items())


def test_the_card_says_what_the_run_was_and_where_its_weights_began(
    make_trained: MakeTrained, images: NDArray[np.uint8], tmp_path: Path
) -> None:
    trained = make_trained("discriminant", "mobilenet_v1")
    record = {"seed": 4, "epochs": 9, "device": "CPU", "data": {"summary": "717 images"}}
    write_json(trained.run / "run.json", record)
    card = export_network(trained, tmp_path, images=images)
    assert read_card(tmp_path / "tiny-run.json") == card
    assert (card.preset, card.epoch, card.parameters) == ("tiny", 7, 3_206_976 + 2 * 1024 + 2)
    assert card.training == {**record, "data": "717 images", "init": "random"}
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
    letterboxed = replace(trained, config=trained.config.override(["data.fit=letterbox"]))
    uncut = replace(trained, network=DiscriminantNetwork(trained.network.backbone).eval())
    for network, shape, message in (
        (trained, (2, 64, 64, 3), r"Expected: uint8 of shape \(N, 32, 32, 3\)"),
        (trained, (0, 32, 32, 3), "one or more"),
        (letterboxed, images.shape, r"data\.fit letterbox\. Expected: squeeze"),
        (uncut, images.shape, "DiscriminantNetwork cannot be exported"),
    ):
        with pytest.raises(ExportError, match=message):
            export_network(network, tmp_path, images=np.zeros(shape, np.uint8))
    answers = module.run_torch(trained.network, images)
    shifted = {**answers, "malignant": answers["malignant"] + np.float32(2e-4)}
    monkeypatch.setattr(module, "run_torch", lambda *_: shifted)
    with pytest.raises(ExportError, match="malignant of the exported network differs"):
        export_network(trained, tmp_path, images=images)
    assert not list(tmp_path.glob("*.onnx"))
