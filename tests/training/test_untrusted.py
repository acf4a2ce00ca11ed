"""A run folder that is damaged, or that somebody else made, is used as meant or refused."""

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
from dermfuse.errors import DermfuseError, RunError
from dermfuse.records.folders import RunFolder
from dermfuse.training.prediction import predict
from dermfuse.training.recorder import AtomicCheckpointIO, load_weights, write_weights

from .tiny import Fit

SMALL = ("squeezenet", "augment.enabled=false")
Change = Callable[[dict[str, Any]], object]
REFUSED = r"the training state .* is damaged or of another network"


@pytest.fixture(scope="module")
def trained(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one epoch; read only."""
    return Fit(drawn, tmp_path_factory.mktemp("trained"))(*SMALL).run


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> RunFolder:
    return RunFolder(Path(shutil.copytree(trained, tmp_path / "run")))


def _resume(fit: Fit) -> None:
    fit(*SMALL, "train.epochs=2", resume=True)


def _first(values: dict[str, torch.Tensor]) -> torch.Tensor:
    return next(iter(values.values()))


def test_the_same_weights_are_the_same_bytes(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    path, again = tmp_path / "w.safetensors", tmp_path / "again.safetensors"
    metadata = {key: key.upper() for key in "zyxwvutsrq"}
    write_weights(path, network, metadata)
    torch.testing.assert_close(load_file(path), dict(network.state_dict()), rtol=0, atol=0)
    assert load_weights(path, network) == metadata
    write_weights(again, network, dict(sorted(metadata.items())))
    assert again.read_bytes() == path.read_bytes()


def test_a_flipped_bit_in_the_state_is_refused_or_changes_nothing(run: RunFolder) -> None:
    whole, read = run.state.read_bytes(), AtomicCheckpointIO().load_checkpoint
    wanted = read(run.state)["state_dict"]
    with zipfile.ZipFile(run.state) as archive:
        inside = [part.header_offset + 200 for part in archive.infolist() if part.file_size > 400]
    assert len(inside) > 10
    for at in [*inside[:: len(inside) // 5], len(whole) // 2]:
        run.state.write_bytes(whole[:at] + bytes([whole[at] ^ 4]) + whole[at + 1 :])
        try:
            found = read(run.state)["state_dict"]
        except RunError:
            continue
        assert all(torch.equal(found[key], value) for key, value in wanted.items())


@pytest.mark.parametrize(
    "change",
    [
        lambda s: s.pop("optimizer_states"),
        lambda s: s["state_dict"].popitem(),
        lambda s: _first(s["state_dict"]).fill_(float("nan")),
        lambda s: s["state_dict"].update(dict.fromkeys(s["state_dict"], torch.zeros(1))),
        lambda s: s["callbacks"]["Recorder"].update(history=[{"epoch": "x"}]),
        lambda s: s.update(optimizer_states=[{"state": {}, "param_groups": []}]),
        lambda s: s.update(loops={"fit_loop": 3}),
    ],
)
def test_a_state_that_is_none_is_refused_in_one_line(
    change: Change, run: RunFolder, fit: Fit
) -> None:
    before, state = run.metrics.read_text(), torch.load(run.state, weights_only=True)
    change(state)
    torch.save(state, run.state)
    with pytest.raises(RunError, match=REFUSED):
        _resume(fit)
    assert run.metrics.read_text() == before


def test_code_in_a_state_does_not_run_and_its_paths_are_not_followed(
    run: RunFolder, fit: Fit
) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(run.path / "pwned"),)

    state, victim = torch.load(run.state, weights_only=True), run.path / "victim.ckpt"
    torch.save({**state, "loops": Code()}, run.state)
    with pytest.raises(RunError, match=REFUSED):
        _resume(fit)
    assert not (run.path / "pwned").exists()
    victim.write_bytes(b"kept")
    (own,) = [key for key in state["callbacks"] if key.startswith("ModelCheckpoint")]
    state["callbacks"][own].update(dirpath=str(run.path), best_model_path=str(victim))
    torch.save(state, run.state)
    _resume(fit)
    assert victim.read_bytes() == b"kept"
    assert len(run.metrics.read_text().splitlines()) == 3


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.popitem(),
        lambda w: w.update(more=torch.zeros(1)),
        lambda w: _first(w).fill_(float("inf")),
        lambda w: w.update({next(iter(w)): torch.zeros(1)}),
    ],
)
def test_weights_that_do_not_fit_or_are_no_numbers_are_refused(
    change: Change, run: RunFolder, fit: Fit
) -> None:
    weights, out = load_file(run.weights), fit.folder / "out"
    change(weights)
    save_file(weights, run.weights)
    with pytest.raises(RunError, match="does not fit the run's network or is damaged"):
        predict(run.path, data=fit.data, split="test", out=out)
    assert not out.exists()


def test_damaged_weights_metadata_and_records_are_refused(run: RunFolder, fit: Fit) -> None:
    whole, record = run.weights.read_bytes(), run.record.read_bytes()
    save_file(load_file(run.weights), run.weights, {"epoch": "x"})
    fingerprint = rb'{"data": {"fingerprint": ["x"]}}'
    for weights, said, found in (
        (run.weights.read_bytes(), record, "is damaged"),
        (whole[:-4], record, "is damaged"),
        (b"\xff" * 8 + whole[8:], record, "is damaged"),
        (whole, fingerprint, r"data\.fingerprint is \['x'\]"),
    ):
        run.weights.write_bytes(weights)
        run.record.write_bytes(said)
        with pytest.raises(RunError, match=found):
            predict(run.path, data=fit.data, split="test", out=fit.folder / "out")
    with pytest.raises(RunError, match=found):
        _resume(fit)


@pytest.mark.parametrize("name", ["config.toml", "run.json", "split.csv", "best.safetensors"])
def test_a_pipe_in_a_run_is_never_waited_for(name: str, run: RunFolder, fit: Fit) -> None:
    (run.path / name).unlink()
    os.mkfifo(run.path / name)
    out = fit.folder / "out"
    try:
        predict(run.path, data=fit.data, split="validation", out=out)
    except DermfuseError:
        assert not out.exists()
    else:
        assert name == "run.json"  # the manifest then says less


def test_every_command_refuses_in_one_line(
    run: RunFolder, fit: Fit, capsys: pytest.CaptureFixture[str]
) -> None:
    run.config.write_text("[data")
    path, out = str(run.path), ["--out", str(fit.folder / "out")]
    for command in (
        ["predict", path, "--split", "test", *out],
        ["export", path, *out],
        ["figures", path, *out],
        ["train", "squeezenet", "--run", path, "--resume"],
    ):
        assert main([*command, "--data", str(fit.data)]) == 2, command
        said = capsys.readouterr().err
        assert ("config.toml" in said, "Traceback" in said) == (True, False)
    assert not (fit.folder / "out").exists()
