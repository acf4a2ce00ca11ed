"""A release that somebody hostile wrote can only be refused: one line, exit code 2."""

import hashlib
import json
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.cli import main
from dermfuse.errors import DermfuseError, ReleaseError
from dermfuse.release.cards import require_file_name, write_card
from dermfuse.release.folder import Parcel, pack_release, read_cards, read_release
from dermfuse.web.build import add_release

from ..small_release import CARD, SIZE, make_model, mask_graph, skin, write_small_release

ABSENT = object()


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_small_release(tmp_path / "release", members=1, with_gate=True)


def _rewrite(path: Path, keys: str, value: object) -> None:
    """Sets a value in a record, or takes it away."""
    whole = record = json.loads(path.read_text())
    *parents, last = keys.split(".")
    for key in parents:
        record = record[int(key) if isinstance(record, list) else key]
    record[last] = value
    if value is ABSENT:
        del record[last]
    path.write_text(json.dumps(whole))


RECORD, CARD_FILE = "release.json", "greens.json"
POINT, MEMBER = "classes.operating_points.1", "classes.members.0"
PAIR = 2 * [{"name": "a", "weight": 0.5}]


@pytest.mark.parametrize(
    ("file", "keys", "value", "message"),
    [
        (RECORD, "format", 2, "has format 2"),
        (RECORD, "gate", ABSENT, r"gate is missing\. Expected: the keys name, classes"),
        (RECORD, "classes.\x1b", 1, r"no key .classes\.'\\x1b'.* of classes\.members"),
        (RECORD, f"{MEMBER}.weight", 0.9, r"the weights of classes add up to 0\.9"),
        (RECORD, f"{MEMBER}.weight", math.nan, r"0\.weight is nan\. Expected: a finite number"),
        (RECORD, f"{MEMBER}.weight", 3.0, r"weight is 3\.0\. Expected: a number from 0 to 1"),
        (RECORD, f"{MEMBER}.name", "Release", "Expected: a name other than"),
        (RECORD, "classes.members", PAIR, "members holds 2, 1 of different names"),
        (RECORD, "masks.members.0.name", "reds-a", r"reds-a\.json: outputs has no lesion"),
        (RECORD, "masks.threshold", 2, r"masks\.threshold is 2\. Expected: .* 0 to 1"),
        (RECORD, "classes.calibration.temperature", 1e-300, "temperature is 1e-300"),
        (RECORD, "classes.default_point", "none", 'called "none"'),
        (RECORD, f"{POINT}.name", "a\x1b[2J", r"'a\\x1b\[2J'"),
        (RECORD, "gate.sha256", "0" * 64 + "\n", "a SHA-256: 64 hexadecimal"),
        (RECORD, "classes.measured.withheld", 3, r"json: classes\.measured\.withheld is 3"),
        (CARD_FILE, "format", 3, "has format 3"),
        (CARD_FILE, "file", "greens.json", "the name of a file that ends in .onnx"),
        (CARD_FILE, "input.colour", ABSENT, "input.colour is missing. Expected: the keys name"),
        (CARD_FILE, "input.size", 4097, "input.size is 4097. Expected: a whole"),
        (CARD_FILE, "parity.largest_difference.x", 10**400, "Expected: a finite number"),
    ],
)
def test_a_record_or_a_card_that_does_not_add_up_is_refused_by_its_key(
    file: str, keys: str, value: object, message: str, release: Path
) -> None:
    _rewrite(release / file, keys, value)
    with pytest.raises(ReleaseError, match=message):
        read_cards(release, read_release(release))


NAMES = ["../a", "/etc/hosts", "..\\a", "..", "", ".a", "a\x1b[2J", "C:a", "x" * 300, "\ud800"]


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_a_path_is_refused_wherever_it_stands(name: str, release: Path) -> None:
    places = ((RECORD, f"{MEMBER}.name"), (RECORD, "gate.file"), (CARD_FILE, "file"))
    for file, keys in (*places, (CARD_FILE, "name")):
        before = (release / file).read_bytes()
        _rewrite(release / file, keys, name)
        with pytest.raises(ReleaseError, match="Expected: the name of a file") as caught:
            read_cards(release, read_release(release))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
        (release / file).write_bytes(before)
    for plain in ("net.onnx", "Ümlaut 1.json", "a..b", "x" * 250):
        assert require_file_name(plain, source="it") == plain


def test_nothing_outside_the_folder_is_read_or_written(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _rewrite(release / RECORD, f"{MEMBER}.name", "../victim")
    out, parcel = tmp_path / "out", Parcel({"a": b"1", "../victim": b"2"})
    out.mkdir()
    for refused in (
        lambda: pack_release(release),
        lambda: Analyzer(release),
        lambda: add_release(out, release),
        lambda: parcel.unpack(out, digest=parcel.digest),
        lambda: write_card(out, replace(CARD, name="../victim")),
    ):
        with pytest.raises(DermfuseError, match=r"is '\.\./victim'"):
            refused()
    for command in (["analyze", "x.jpg"], ["web", "build", "--out", str(out / "site")]):
        assert main([*command, "--release", str(release)]) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert "../victim" in said
    assert not list(out.iterdir())


@pytest.mark.parametrize("name", ["release.json", "reds-a.json", "greens.onnx", "dermoscopy.npz"])
def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(
    name: str, release: Path, tmp_path: Path
) -> None:
    inside, outside = release / f"kept-{name}", tmp_path / name
    (release / name).rename(inside)
    (release / name).symlink_to(inside.name)
    assert set(pack_release(release).files) >= {name}
    inside.rename(outside)
    (release / name).unlink()
    (release / name).symlink_to(outside)
    for refused in (pack_release, Analyzer):
        with pytest.raises(ReleaseError, match=r"is a link that leads out of its folder"):
            refused(release)
    (release / name).unlink()
    os.mkfifo(release / name)  # and a pipe is never waited for
    with pytest.raises(ReleaseError, match="is no file"):
        Analyzer(release)


def _outside(key: str) -> bytes:
    """A network that takes a number from another file, which it names under a key."""
    graph = mask_graph(tilted=False)
    tensor = next(one for one in graph.initializer if one.name == "limit")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key=key, value="../victim")
    return make_model(graph)


def _answer(outputs: dict[str, Any], *, side: int = SIZE, **changed: Any) -> bytes:
    """A network that answers the same whatever it sees."""
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", side, side, 3])
    nodes, declared = [], []
    for name, value in {**outputs, **changed}.items():
        tensor = numpy_helper.from_array(value)
        nodes.append(helper.make_node("Constant", [], [name], value=tensor))
        declared.append(helper.make_tensor_value_info(name, tensor.data_type, [None] * value.ndim))
    return make_model(helper.make_graph(nodes, "constant", [image], declared))


def _replace(release: Path, name: str, content: bytes) -> None:
    (release / f"{name}.onnx").write_bytes(content)
    _rewrite(release / f"{name}.json", "bytes", len(content))
    _rewrite(release / f"{name}.json", "sha256", hashlib.sha256(content).hexdigest())


MASK = {"lesion": np.zeros((1, 4, 4), np.float32)}
CLASS = {
    "logits": np.zeros((1, 2), np.float32),
    "malignant": np.full(1, 0.5, np.float32),
    "activation_map": np.zeros((1, 2, 2), np.float32),
    "embedding": np.ones((1, 3), np.float32),
}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("greens", b"____ORTM", "cannot be run"),
        ("greens", _outside("location"), "takes numbers from other files"),
        ("greens", _answer(MASK, side=8), "takes something else than its card states"),
        ("greens", _answer({"lesion": np.zeros((1, 4, 4))}), "answers no 'lesion' in float32"),
        ("greens", _answer({"lesion": MASK["lesion"] + 2}), "answers 'lesion' from 2 to 2"),
        ("reds-a", _answer(CLASS, malignant=CLASS["malignant"] + 1), "'malignant' from 1.5"),
        ("reds-a", _answer(CLASS, malignant=CLASS["malignant"] - 1), "'malignant' from -0.5"),
        ("reds-a", _answer(CLASS, malignant=CLASS["malignant"] * np.nan), "'malignant' from nan"),
        ("reds-a", _answer(CLASS, malignant=CLASS["logits"]), r"'malignant' of shape \(1, 2\)"),
        ("reds-a", _answer(CLASS, activation_map=CLASS["activation_map"][..., :1]), "of shape"),
        ("reds-a", _answer(CLASS, activation_map=MASK["lesion"][:, :0, :0]), "of shape"),
        ("reds-a", _answer(CLASS, embedding=CLASS["embedding"] * np.inf), "'embedding' from inf"),
    ],
)
def test_what_is_not_the_network_of_its_card_is_refused(
    name: str, content: bytes, message: str, release: Path
) -> None:
    _replace(release, "reds-a", _answer(CLASS))
    assert Analyzer(release, score_all=True).analyze(skin()).scores == {"reds-a": 0.5}
    _replace(release, name, content)
    with pytest.raises(ReleaseError, match=rf"{name}\.onnx .*{message}"):
        Analyzer(release, score_all=True).analyze(skin())
