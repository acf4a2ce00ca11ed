"""A release that somebody hostile wrote can only be refused: one line, exit code 2."""

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.cli import main
from dermfuse.errors import ExportError, ReleaseError
from dermfuse.release.cards import (
    read_card,
    require_file_name,
    write_card,
)
from dermfuse.release.folder import Parcel, pack_release, read_cards, read_release
from dermfuse.web.build import add_release

from ..small_release import SIZE, skin, write_network, write_small_release

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_small_release(tmp_path / "release", with_gate=True)


def _rewrite(folder: Path, change: Change, *, name: str = "release.json") -> None:
    record = json.loads((folder / name).read_text())
    change(record)
    (folder / name).write_text(json.dumps(record))


def _member(key: str, value: object) -> Change:
    return lambda record: record["classes"]["members"][0].update({key: value})


NAMES = [
    "../victim", "/etc/hostname", "a/../../victim", "..\\victim", "..", ".", "", ".hidden",
    "a\0b", "a\nb", "a\x1b[2Jb", "C:victim", "x" * 300, " a", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_is_a_path_is_refused_wherever_it_stands(name: str, release: Path) -> None:
    changes: list[tuple[str, Change]] = [
        ("release.json", _member("name", name)),
        ("release.json", lambda record: record["gate"].update(file=name)),
        ("greens.json", lambda card: card.update(file=name)),
        ("greens.json", lambda card: card.update(name=name)),
    ]
    for file, change in changes:
        before = (release / file).read_bytes()
        _rewrite(release, change, name=file)
        with pytest.raises(ReleaseError, match="Expected: the name of a file") as caught:
            read_cards(release, read_release(release))
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 400
        (release / file).write_bytes(before)


def test_nothing_outside_the_folder_is_read_or_written(
    release: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for end in ("json", "onnx"):
        (tmp_path / f"victim.{end}").write_bytes((release / f"reds-a.{end}").read_bytes())
    _rewrite(tmp_path, lambda card: card.update(file="victim.onnx"), name="victim.json")
    _rewrite(release, _member("name", "../victim"))
    app = tmp_path / "app"
    app.mkdir()
    for refused in (pack_release, lambda folder: add_release(app, folder), Analyzer):
        with pytest.raises(ReleaseError, match=r"name is '\.\./victim'"):
            refused(release)
    assert not list(app.iterdir())
    for command in (["analyze", "x.jpg"], ["web", "build", "--out", str(tmp_path / "site")]):
        assert main([*command, "--release", str(release)]) == 2
        said = capsys.readouterr().err.strip()
        assert "../victim" in said
        assert "Traceback" not in said
    assert not (tmp_path / "site").exists()


def test_what_is_written_is_called_after_no_path(release: Path, tmp_path: Path) -> None:
    parcel = Parcel({"a.json": b"1", "../victim": b"2"})
    (tmp_path / "there").mkdir()
    with pytest.raises(ReleaseError, match=r"'\.\./victim'"):
        parcel.unpack(tmp_path / "there", digest=parcel.digest)
    assert not list((tmp_path / "there").iterdir())
    card = replace(read_card(release / "greens.json"), name="../victim")
    with pytest.raises(ExportError, match=r"the network's name is '\.\./victim'"):
        write_card(release, card)


@pytest.mark.parametrize("name", ["release.json", "reds-a.json", "greens.onnx", "dermoscopy.npz"])
def test_a_link_out_of_the_folder_is_refused_and_one_within_is_not(
    name: str, release: Path, tmp_path: Path
) -> None:
    inside = release / f"kept-{name}"
    (release / name).rename(inside)
    (release / name).symlink_to(inside.name)
    assert set(pack_release(release).files) >= {name}
    assert Analyzer(release).release.name == "small"
    outside = tmp_path / name
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


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"format": 1, "format": 1}', "the key 'format' is there twice"),
        ("[" * 100_000, "nested too deeply"),
        ('{"a":' * 500 + "1" + "}" * 500, "nested too deeply"),
        ("[1]", "holds a list"),
        ('{"threshold": 1e999}', "threshold is inf. Expected: a finite number"),
        ("", "cannot be read"),
        ('{"format": ' + "9" * 5000 + "}", "cannot be read"),
        ('{"format": "' + "9" * 5000 + '"}', "has format '999.{,80}Expected"),
        ("\xff", "cannot be read"),
    ],
)
def test_json_that_no_program_of_ours_writes_is_refused(
    content: str, message: str, release: Path
) -> None:
    for name in ("release.json", "greens.json"):
        (release / name).write_bytes(content.encode("latin-1"))
        with pytest.raises(ReleaseError, match=message):
            read_release(release) if name == "release.json" else read_card(release / name)


def test_a_network_in_the_place_of_another_is_refused(release: Path) -> None:
    _rewrite(release, lambda r: r["masks"]["members"][0].update(name="reds-a"))
    with pytest.raises(ReleaseError, match=r"reds-a\.json: outputs has no lesion"):
        read_cards(release, read_release(release))


def test_a_gates_file_is_the_one_of_the_record(release: Path) -> None:
    path = release / "dermoscopy.npz"
    path.write_bytes(path.read_bytes() + b"x")
    for refused in (pack_release, Analyzer):
        with pytest.raises(ReleaseError, match=r"dermoscopy\.npz has SHA-256"):
            refused(release)


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("location", r"greens\.onnx takes numbers from other files"),
        ("Location", r"greens\.onnx cannot be run"),
        (None, r"greens\.onnx cannot be run"),
    ],
)
def test_a_network_in_several_files_is_never_run(
    key: str | None, message: str, release: Path, tmp_path: Path
) -> None:
    model = onnx.load(release / "greens.onnx")
    tensor = next(one for one in model.graph.initializer if one.name == "limit")
    (tmp_path / "victim").write_bytes(numpy_helper.to_array(tensor).tobytes())
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    if key:
        tensor.external_data.add(key=key, value="../victim")
    write_network(release, "greens", "segmentation", model.graph, checked=False)
    with pytest.raises(ReleaseError, match=message):
        Analyzer(release)
    if key == "location":
        with pytest.raises(ReleaseError, match=message):
            pack_release(release)


@pytest.mark.parametrize("content", [b"", b"\x3a", b"\xff" * 20, b"PK\x03\x04", b"____ORTM"])
def test_what_is_no_onnx_file_is_never_run(content: bytes, release: Path) -> None:
    (release / "greens.onnx").write_bytes(content)
    _rewrite(
        release,
        lambda card: card.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content)),
        name="greens.json",
    )
    with pytest.raises(ReleaseError, match=r"greens\.onnx cannot be run"):
        Analyzer(release)


def _constant_graph(
    outputs: dict[str, np.ndarray], *, side: int = SIZE, dtype: int = TensorProto.UINT8
) -> onnx.GraphProto:
    """A network that answers the same whatever it sees."""
    image = helper.make_tensor_value_info("image", dtype, ["N", side, side, 3])
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
        for name, value in outputs.items()
    ]
    declared = [
        helper.make_tensor_value_info(
            name, helper.np_dtype_to_tensor_dtype(value.dtype), [None] * value.ndim
        )
        for name, value in outputs.items()
    ]
    return helper.make_graph(nodes, "constant", [image], declared)


def _class_answers(malignant: object) -> dict[str, np.ndarray]:
    return {
        "malignant": np.array(malignant, np.float32),
        "activation_map": np.zeros((1, 2, 2), np.float32),
        "embedding": np.ones((1, 3), np.float32),
    }


def _lone(folder: Path, outputs: dict[str, np.ndarray]) -> Path:
    """A release of one class network, which is replaced by one that answers ``outputs``."""
    release = write_small_release(folder, members=1)
    write_network(release, "reds-a", "classification", _constant_graph(outputs))
    return release


def test_an_answer_that_is_a_probability_passes(tmp_path: Path) -> None:
    release = _lone(tmp_path / "release", _class_answers([0.5]))
    assert Analyzer(release).analyze(skin()).scores == {"reds-a": 0.5}


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("malignant", np.full(1, 2.0), r"reds-a\.onnx answers 'malignant' from 2 to 2"),
        ("malignant", np.full(1, -0.5), "answers 'malignant' from -0.5"),
        ("malignant", np.full(1, np.nan), "answers 'malignant' from nan"),
        ("malignant", np.full(1, np.inf), "answers 'malignant' from inf"),
        ("malignant", np.zeros((1, 2)), r"answers 'malignant' of shape \(1, 2\)"),
        ("malignant", np.zeros(2), r"answers 'malignant' of shape \(2,\)"),
        ("activation_map", np.zeros((1, 2, 3)), r"answers 'activation_map' of shape \(1, 2, 3\)"),
        ("activation_map", np.zeros((1, 0, 0)), "of shape"),
        ("activation_map", np.full((1, 2, 2), np.nan), "answers 'activation_map' from nan"),
        ("embedding", np.full((1, 3), np.inf), "answers 'embedding' from inf"),
        ("embedding", np.zeros(1), r"answers 'embedding' of shape \(1,\)"),
        ("lesion", np.full((1, 4, 4), 2.0), "answers 'lesion' from 2 to 2"),
    ],
)
def test_an_answer_that_no_network_may_give_is_refused(
    name: str, value: np.ndarray, message: str, tmp_path: Path
) -> None:
    answer = {name: value.astype(np.float32)}
    release = _lone(tmp_path / "release", {**_class_answers([0.5]), **answer})
    if name == "lesion":
        write_network(release, "greens", "segmentation", _constant_graph(answer))
    with pytest.raises(ReleaseError, match=message):
        Analyzer(release).analyze(skin())
    if name == "malignant":
        with pytest.raises(ReleaseError, match=message):
            Analyzer(release).score(skin())


@pytest.mark.parametrize(
    ("odd", "message"),
    [
        ({"side": 8}, r"reds-a\.onnx takes something else than its card states"),
        ({"dtype": TensorProto.FLOAT}, "takes something else"),
        ({"malignant": np.array([0.5])}, r"answers no 'malignant' in float32"),
    ],
)
def test_a_network_that_takes_or_answers_something_else_is_refused_when_loaded(
    odd: dict[str, Any], message: str, tmp_path: Path
) -> None:
    release = write_small_release(tmp_path / "release", members=1)
    answers = _class_answers([0.5])
    answers["malignant"] = odd.pop("malignant", answers["malignant"])
    write_network(release, "reds-a", "classification", _constant_graph(answers, **odd))
    with pytest.raises(ReleaseError, match=message):
        Analyzer(release)


@pytest.mark.parametrize("name", ["net.onnx", "Ümlaut 1.json", "a..b", "x" * 250])
def test_plain_names_are_names(name: str) -> None:
    assert require_file_name(name, source="it") == name
