import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dermfuse.errors import ReleaseError
from dermfuse.release.cards import (
    HeldOutMetrics,
    NetworkCard,
    NetworkInput,
    Parity,
    digest_file,
    read_card,
    write_card,
)

CONTENT = b"\x3a\x07\x12\x05a net"  # a model whose graph has a name and nothing else


@pytest.fixture
def card(tmp_path: Path) -> NetworkCard:
    """A card, written beside its file."""
    (tmp_path / "net.onnx").write_bytes(CONTENT)
    made = NetworkCard(
        name="net",
        task="classification",
        file="net.onnx",
        sha256=digest_file(tmp_path / "net.onnx"),
        bytes=len(CONTENT),
        precision="int8",
        input=NetworkInput(size=224),
        outputs={"malignant": "probability"},
        preset="dc-mobilenetv1",
        backbone="mobilenet_v1",
        parameters=12,
        epoch=3,
        training={"seed": 0, "versions": {"torch": "2.6"}},
        weights_licence="CC0",
        parity=Parity(against="float", images=4, largest_difference={"malignant": 0.25}),
        measured=HeldOutMetrics(
            split="validation", n=10, metrics={"float32": {"auc": 0.75}, "int8": {"auc": 0.5}}
        ),
        quantization={"weights": "int8"},
    )
    write_card(tmp_path, made)
    return made


def test_a_card_is_read_as_it_was_written(card: NetworkCard, tmp_path: Path) -> None:
    assert read_card(tmp_path / "net.json") == card


def test_what_was_not_measured_is_absent(card: NetworkCard, tmp_path: Path) -> None:
    write_card(tmp_path, replace(card, measured=None, quantization={}))
    record = json.loads((tmp_path / "net.json").read_text())
    assert not {"measured", "quantization"} & record.keys()
    assert read_card(tmp_path / "net.json").measured is None
    assert record["format"] == 2
    assert record["input"]["layout"] == "NHWC"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (CONTENT[:-1] + b"x", r"SHA-256 .* Do not use it"),
        (b"a", r"has 1 bytes\. Expected: 9"),
        (None, r"net\.onnx is missing"),
    ],
)
def test_a_changed_network_is_refused(
    content: bytes | None, message: str, card: NetworkCard, tmp_path: Path
) -> None:
    (tmp_path / card.file).unlink()
    if content is not None:
        (tmp_path / card.file).write_bytes(content)
    with pytest.raises(ReleaseError, match=message):
        read_card(tmp_path / "net.json")
    (tmp_path / "net.json").unlink()
    with pytest.raises(ReleaseError, match=r"net\.json is missing.*dermfuse export"):
        read_card(tmp_path / "net.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda r: r.update(format=3), "has format 3"),
        (lambda r: r.update(task="guessing"), "task is 'guessing'. Expected: one of class"),
        (lambda r: r.update(precision="float16"), "precision is 'float16'"),
        (lambda r: r.update(bytes=True), "bytes is True"),
        (lambda r: r.update(bytes=1 << 60), "bytes is"),
        (lambda r: r.update(epoch=-1), "epoch is -1. Expected: a whole number from 0 to"),
        (lambda r: r.pop("sha256"), "sha256 is missing"),
        (lambda r: r["input"].pop("colour"), "input.colour is missing. Expected: the keys name"),
        (lambda r: r.update(sha256="x"), "sha256 is 'x'. Expected: a SHA-256"),
        (lambda r: r.update(file="../net.onnx"), "file is '../net.onnx'"),
        (lambda r: r.update(file="net.json"), "that ends in .onnx"),
        (lambda r: r["input"].update(size="224"), "input.size is '224'"),
        (lambda r: r["input"].update(size=10**6), "input.size is 1000000. Expected: a whole"),
        (lambda r: r["input"].update(size=0), "input.size is 0"),
        (lambda r: r["input"].update(dtype="float32"), "input.dtype is 'float32'"),
        (lambda r: r["input"].update(layout="NCHW"), "input.layout is 'NCHW'"),
        (lambda r: r.update(outputs=["malignant"]), "outputs is"),
        (lambda r: r["outputs"].update({"\x1b": 1}), "outputs.'\\x1b' is 1"),
        (lambda r: r["parity"]["largest_difference"].update(x="0"), "largest_difference.x is '0'"),
        (lambda r: r["parity"]["largest_difference"].update(x=1e400), "difference.x is inf"),
        (lambda r: r["parity"]["largest_difference"].update(x=10**400), "a finite number"),
        (lambda r: r["measured"]["metrics"].update(int8=None), "metrics.int8 is None"),
        (lambda r: r.update(quantization=[]), "quantization is"),
    ],
)
def test_a_card_with_a_wrong_value_is_refused_by_its_key(
    change: Callable[[dict[str, Any]], object], said: str, card: NetworkCard, tmp_path: Path
) -> None:
    path = tmp_path / f"{card.name}.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))
    with pytest.raises(ReleaseError) as caught:
        read_card(path)
    assert said in str(caught.value)
    assert "Expected: " in str(caught.value)


def test_reading_a_card_imports_neither_torch_nor_onnx(card: NetworkCard, tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "for name in ('torch', 'lightning', 'safetensors', 'onnx', 'onnxruntime'):\n"
        "    sys.modules[name] = None\n"
        "from pathlib import Path\n"
        "from dermfuse.release import read_card\n"
        "print(read_card(Path(sys.argv[1])).name)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / f"{card.name}.json")]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert done.stdout == "net\n"
