"""The error contract: what is printed where, and the exit status."""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import NoReturn

import pytest

from dermfuse import __version__
from dermfuse.cli import console, main
from dermfuse.data import audit as verification
from dermfuse.folders import NOTICE

from .conftest import Run

WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning", "safetensors", "tensorboard"):
    sys.modules[name] = None
from dermfuse.cli import main
status = main(sys.argv[1:])
assert "PIL" not in sys.modules or sys.argv[1] == "data"
sys.exit(status)
"""
COMMANDS = """analyze stress card presets train predict demo fuse evaluate compare join average
submit convert tabulate ablate figures export release reproduce serve data web"""
UNET = ["train", "unet", "--data", "d", "--run", "r"]


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        logging.getLogger("dermfuse.data").warning("%d images left out", 2)
        raise error

    return fail


def test_help_lists_every_command_and_no_command_prints_it(run: Run) -> None:
    shown = run("--help").out
    for command in COMMANDS.split():
        assert any(line.strip().startswith(f"{command} ") for line in shown.splitlines()), command
    assert "Usage: dermfuse" in run().out
    assert run("--version").out == f"dermfuse {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "Did you mean"),
        (["presets", "--jsn"], "No such option"),
        (["train"], "Missing argument"),
        (["data"], "Missing command"),
        (["predict", "run", "--data", "d", "--out", "o", "--split", "tset"], "is not one of"),
        (["evaluate", "p", "--truth", "t", "--draws", "many"], "--draws"),
        (["presets", "dc-mobilenetv1-foca"], 'Did you mean "dc-mobilenetv1-focal"'),
        (["train", "u-net", *UNET[2:]], 'no preset is called "u-net"'),
        ([*UNET, "--set", "train.epoch=1"], 'Did you mean "epochs"'),
        ([*UNET, "--set", "epochs"], "table.key=value"),
        ([*UNET, "--set", "train.epochs=0"], "epochs is 0"),
    ],
)
def test_a_wrong_command_line_is_one_line(arguments: list[str], said: str, run: Run) -> None:
    error = run(*arguments, status=2)
    assert said in error.err
    assert error.err.count("\n") == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory is full"),
        (OSError(errno.ENOSPC, "No space left on device", "/disk/x"), "/disk/x cannot be read or"),
        (OSError(errno.EROFS, "Read-only file system"), "a file cannot be read or written"),
        (PermissionError(errno.EACCES, "Permission denied", "/root"), "(Permission denied)"),
        (FileNotFoundError(errno.ENOENT, "No such file", "/gone"), "/gone cannot be read"),
        (KeyboardInterrupt(), "dermfuse: interrupted"),
    ],
)
def test_a_full_machine_and_an_interrupt_are_one_line_after_the_warnings(
    error: BaseException, said: str, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(verification, "verify_isic2016", raising(error))
    shown = run("data", "verify", "x", status=130 if isinstance(error, KeyboardInterrupt) else 2)
    assert said in shown.error
    assert "2 images left out" in shown.err.splitlines()


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(errno.EIO, "I/O error")])
def test_a_fault_of_dermfuse_itself_keeps_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "verify_isic2016", raising(error))
    with pytest.raises(type(error)):
        main(["data", "verify", "x"])


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        (UNET, "train"),
        (["predict", "run", "--data", "d", "--split", "test", "--out", "o"], "train"),
        (["demo", "--train", "--out", "o"], "train"),
        (["reproduce", "--data", "d", "--out", "o"], "train"),
        (["export", "run", "--data", "d", "--out", "o"], "export"),
        (["figures", "run", "--data", "d", "--out", "o"], "figures"),
        (["serve"], "serve"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(
    arguments: list[str], extra: str, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(console, "find_spec", lambda _: None)
    error = run(*arguments, status=2).err
    assert f"dermfuse {arguments[0]}" in error
    assert "not installed here" in error
    assert f"pip install -e '.[{extra}]'" in error
    assert error.count("\n") == 1


def test_the_core_runs_without_torch() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "presets"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == NOTICE


def test_a_closed_pipe_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-c", WITHOUT_TORCH, "presets"]
    done = subprocess.run(command, check=False, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (1, b"")


def test_bars_are_drawn_on_a_terminal_and_the_last_left_is_that_of_the_training(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.progress import Progress

    monkeypatch.setattr(console, "on_terminal", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich then draws as on a terminal
    with console.progress("Reading images") as advance:
        advance(2, 2)
        with Progress():  # raises if another bar is still drawn
            pass
    with console.count_progress("Analysing images") as count:
        count()
    err = capsys.readouterr().err
    assert "2/2" in err
    assert "Analysing images" in err
