from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.errors import ReleaseError
from dermfuse.records.folders import read_json
from dermfuse.release.cards import HeldOutMetrics, digest_file, read_card, write_card

from ..small_release import CARD

CONTENT = b"\x3a\x07\x12\x05a net"  # a model whose graph has a name and nothing else


def test_a_card_is_read_as_it_was_written_and_with_no_other_network(tmp_path: Path) -> None:
    path, network = tmp_path / "net.json", tmp_path / "net.onnx"
    network.write_bytes(CONTENT)
    plain = replace(CARD, sha256=digest_file(network), bytes=len(CONTENT))
    measured = HeldOutMetrics(split="validation", n=10, metrics={"int8": {"auc": 0.5}})
    for card in (replace(plain, measured=measured, quantization={"weights": "int8"}), plain):
        write_card(tmp_path, card)
        assert read_card(path) == card
    assert not {"measured", "quantization"} & read_json(path).keys()
    for content, message in (
        (CONTENT[:-1] + b"x", r"net\.onnx has SHA-256 .* Do not use it"),
        (b"a", r"has 1 bytes\. Expected: 9"),
    ):
        network.write_bytes(content)
        with pytest.raises(ReleaseError, match=message):
            read_card(path)
    network.unlink()
    for name, missing in (("net.json", r"net\.onnx is missing"), ("no.json", "dermfuse export")):
        with pytest.raises(ReleaseError, match=missing):
            read_card(tmp_path / name)
