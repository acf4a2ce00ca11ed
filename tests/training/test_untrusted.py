"""A run folder that is damaged, or that somebody else made, is used as meant or refused."""

import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dermfuse.cli import main
from dermfuse.config import Config, load_config
from dermfuse.data.splits import read_split
from dermfuse.errors import ConfigError, DermfuseError, RunError
from dermfuse.figures.sources import read_columns
from dermfuse.folders import RunFolder
from dermfuse.models import build_network
from dermfuse.training import predict, train
from dermfuse.training.prediction import load_run
from dermfuse.training.recorder import AtomicCheckpointIO, load_weights, write_weights

from .tiny import tiny


def _config(epochs: int) -> Config:
    return tiny("squeezenet", "augment.enabled=false", f"train.epochs={epochs}")


@pytest.fixture(scope="module")
def trained(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch; read only."""
    run = tmp_path_factory.mktemp("trained") / "run"
    train(_config(1), data=drawn, run=run)
    return run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained, tmp_path / "run")))


def _resume(run: RunFolder, drawn: Path) -> None:
    train(_config(2), data=drawn, run=run.path, resume=True)


def test_the_header_lists_names_in_order_and_the_tensors_stay(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    path = tmp_path / "w.safetensors"
    metadata = {key: key.upper() for key in "zyxwvutsrq"}
    write_weights(path, network, metadata)
    content = path.read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    assert length % 8 == 0
    assert list(header) == sorted(header)
    assert list(header["__metadata__"]) == sorted(metadata)
    found = load_file(path)
    assert found.keys() == network.state_dict().keys()
    assert all(torch.equal(found[key], value) for key, value in network.state_dict().items())
    assert load_weights(path, network) == metadata
    write_weights(tmp_path / "again.safetensors", network, dict(sorted(metadata.items())))
    assert (tmp_path / "again.safetensors").read_bytes() == content


def test_a_flipped_bit_in_the_state_is_refused_or_changes_nothing(
    run: RunFolder, drawn: Path, tmp_path: Path
) -> None:
    whole = run.state.read_bytes()
    with zipfile.ZipFile(run.state) as archive:
        parts = archive.infolist()
    inside = [part.header_offset + 200 for part in parts if part.file_size > 400]
    assert len(inside) > 10
    for at in [*inside[:: len(inside) // 5], len(whole) // 2]:
        changed = bytearray(whole)
        changed[at] ^= 4
        run.state.write_bytes(changed)
        with pytest.raises(RunError, match=r"the training state .* is damaged"):
            _resume(run, drawn)
    for at in range(0, len(whole), len(whole) // 60):
        changed = bytearray(whole)
        changed[at] ^= 1 << at % 8
        run.state.write_bytes(changed)
        _loads_alike_or_is_refused(run, whole, tmp_path)


def _loads_alike_or_is_refused(run: RunFolder, whole: bytes, tmp_path: Path) -> None:
    kept = tmp_path / "whole.ckpt"
    kept.write_bytes(whole)
    try:
        found = AtomicCheckpointIO().load_checkpoint(run.state)
    except RunError:
        return
    wanted = AtomicCheckpointIO().load_checkpoint(kept)["state_dict"]
    assert all(torch.equal(found["state_dict"][key], value) for key, value in wanted.items())


def _drop(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda state: state.pop(key)


@pytest.mark.parametrize(
    "change",
    [
        _drop("state_dict"),
        _drop("optimizer_states"),
        _drop("loops"),
        lambda s: s["callbacks"].pop("Recorder"),
        lambda s: s["state_dict"].popitem(),
        lambda s: next(iter(s["state_dict"].values())).fill_(float("nan")),
        lambda s: s["state_dict"].update(dict.fromkeys(s["state_dict"], torch.zeros(1))),
        lambda s: s["callbacks"]["Recorder"].pop("history"),
        lambda s: s["callbacks"]["Recorder"].update(history=[{"epoch": "x"}]),
        lambda s: s["callbacks"]["Recorder"].update(history=3),
        lambda s: s.update(optimizer_states=[{"state": {}, "param_groups": []}]),
        lambda s: s.update(loops={"fit_loop": 3}),
        lambda s: s.update(state_dict=3),
    ],
)
def test_a_state_that_is_none_is_refused_in_one_line(
    change: Callable[[dict[str, Any]], object], run: RunFolder, drawn: Path
) -> None:
    state = torch.load(run.state, weights_only=True)
    change(state)
    torch.save(state, run.state)
    before = run.metrics.read_text()
    with pytest.raises(RunError, match=r"the training state .* is damaged or of another network"):
        _resume(run, drawn)
    assert run.metrics.read_text() == before


def test_a_state_that_would_run_code_is_refused(run: RunFolder, drawn: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(run.path / "pwned"),)

    state = torch.load(run.state, weights_only=True)
    torch.save({**state, "loops": Code()}, run.state)
    with pytest.raises(RunError, match="the training state"):
        _resume(run, drawn)
    assert not (run.path / "pwned").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.popitem(), "is missing"),
        (lambda w: w.update(more=torch.zeros(1)), "more is unexpected"),
        (lambda w: next(iter(w.values())).view(-1)[:1].fill_(float("nan")), "are not finite"),
        (lambda w: next(iter(w.values())).view(-1)[:1].fill_(float("inf")), "are not finite"),
        (lambda w: w.update({next(iter(w)): torch.zeros(1)}), "not "),
    ],
)
def test_weights_that_do_not_fit_or_are_no_numbers_are_refused(
    change: Callable[[dict[str, Any]], object], said: str, run: RunFolder, drawn: Path
) -> None:
    weights = load_file(run.weights)
    change(weights)
    save_file(weights, run.weights)
    with pytest.raises(RunError, match=f"does not fit the run's network or is damaged .*{said}"):
        load_run(run.path)
    out = run.path.parent / "out"
    with pytest.raises(RunError):
        predict(run.path, data=drawn, split="test", out=out)
    assert not out.exists()


def test_damaged_weights_and_metadata_are_refused(run: RunFolder) -> None:
    whole = run.weights.read_bytes()
    for content in (b"", whole[:100], whole[:-4], b"\xff" * 8 + whole[8:], b"\0" * 64):
        run.weights.write_bytes(content)
        with pytest.raises(RunError, match="is damaged"):
            load_run(run.path)
    save_file(
        build_network(load_config(run.config).model).state_dict(), run.weights, {"epoch": "x"}
    )
    with pytest.raises(RunError, match="is damaged"):
        load_run(run.path)


RECORDS = [
    ("{", "cannot be read"),
    ("[]", "holds a list"),
    ('{"data": []}', r"run\.json: data is \[\]\. Expected: a table"),
    ('{"data": {"summary": 3}}', r"data\.summary is 3"),
    ('{"data": {"fingerprint": ["x"]}}', r"data\.fingerprint is \['x'\]"),
    ('{"epochs": "many"}', "epochs is 'many'"),
    ('{"seed": NaN}', "seed is nan"),
    ('{"seed": 1, "seed": 2}', "there twice"),
    ('{"a":' * 900 + "1" + "}" * 900, "nested too deeply"),
]


@pytest.mark.parametrize(("content", "message"), RECORDS)
def test_a_record_that_no_run_writes_is_refused(
    content: str, message: str, run: RunFolder, drawn: Path
) -> None:
    run.record.write_text(content)
    for use in (
        lambda: _resume(run, drawn),
        lambda: predict(run.path, data=drawn, split="test", out=run.path.parent / "out"),
    ):
        with pytest.raises(RunError, match=message):
            use()


@pytest.mark.parametrize(
    "content",
    [
        "", "[data", "data = 3\n", "[data]\ninput_size = nan\n", "[train]\nlearning_rate = inf\n",
        "[train]\nepochs = 1" + "0" * 400 + "\n", "[train]\nlearning_rate = 1" + "0" * 400 + "\n",
        "a = " + "[" * 5000, '"\\u001b" = 1\n', "[[train]]\n", "[model]\nnetwork = []\n", "\0",
    ],
)  # fmt: skip
def test_a_configuration_that_no_run_writes_is_refused_or_has_defaults(
    content: str, tmp_path: Path
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(content)
    if not content:
        assert load_config(path) == Config()
        return
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 600


@pytest.mark.parametrize(
    "content",
    [b"", b"image_id\n", b"image_id,part\na,test\n", b"image_id,part\na\n", b"\xff\xfe",
     b"image_id,part\na,train\na,validation\n", b"image_id,part\na,train,b\n"],
)  # fmt: skip
def test_a_split_that_no_run_writes_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "split.csv"
    path.write_bytes(content)
    with pytest.raises(RunError, match=r"split\.csv"):
        read_split(path)


@pytest.mark.parametrize(
    "content",
    ["", "\n", "epoch,auc\n", "epoch,auc\n1\n", "epoch,auc\n1,2,3\n", "epoch,auc\n1,inf\n",
     "epoch,auc\n1,nan\n", "epoch,epoch\n1,1\n", "epoch,auc\n,1\n", "auc\n1\n", 'epoch\n"1\n',
     "epoch,auc\n1,x\n", "epoch\n\0\n"],
)  # fmt: skip
def test_a_table_of_epochs_that_no_run_writes_is_refused(content: str, tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(RunError, match=r"metrics\.csv"):
        read_columns(path)


@pytest.mark.parametrize("name", ["config.toml", "run.json", "split.csv", "best.safetensors"])
def test_a_pipe_in_a_run_is_never_waited_for(name: str, run: RunFolder, drawn: Path) -> None:
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    out = run.path.parent / "out"
    try:
        predict(run.path, data=drawn, split="validation", out=out)
    except DermfuseError:
        assert not out.exists()
    else:
        assert name == "run.json"  # the manifest then says less


def test_every_command_refuses_in_one_line(
    run: RunFolder, drawn: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run.config.write_text("[data")
    out = str(run.path.parent / "out")
    for command in (
        ["predict", str(run.path), "--split", "test", "--out", out],
        ["export", str(run.path), "--out", out],
        ["figures", str(run.path), "--out", out],
        ["train", "squeezenet", "--run", str(run.path), "--resume"],
    ):
        assert main([*command, "--data", str(drawn)]) == 2, command
        said = capsys.readouterr().err
        assert "config.toml" in said
        assert "Traceback" not in said
    assert not Path(out).exists()


def test_paths_in_a_state_are_not_followed_and_a_moved_run_continues(
    run: RunFolder, drawn: Path
) -> None:
    victim = run.path / "victim.ckpt"
    victim.write_bytes(b"kept")
    state = torch.load(run.state, weights_only=True)
    (own,) = [key for key in state["callbacks"] if key.startswith("ModelCheckpoint")]
    state["callbacks"][own].update(dirpath=str(run.path), best_model_path=str(victim))
    torch.save(state, run.state)
    _resume(run, drawn)
    assert victim.read_bytes() == b"kept"
    assert len(run.metrics.read_text().splitlines()) == 3
