"""The error contract: what is printed where, and the exit status."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from dermfuse import __version__
from dermfuse.cli import console as extras_module
from dermfuse.cli import main
from dermfuse.data import audit as verification
from dermfuse.folders import NOTICE

WITHOUT_TORCH = """
import sys
for name in ("torch", "lightning", "safetensors", "tensorboard"):
    sys.modules[name] = None
from dermfuse.cli import main
status = main(sys.argv[1:])
assert "PIL" not in sys.modules or sys.argv[1] == "data"
sys.exit(status)
"""


def raising(error: BaseException) -> Callable[..., NoReturn]:
    def fail(*_: object, **__: object) -> NoReturn:
        raise error

    return fail


def lines(capsys: pytest.CaptureFixture[str]) -> tuple[list[str], list[str]]:
    captured = capsys.readouterr()
    return captured.out.splitlines(), captured.err.splitlines()


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out, _ = lines(capsys)
    for command in (
        "data",
        "presets",
        "train",
        "predict",
        "fuse",
        "join",
        "average",
        "evaluate",
        "compare",
        "demo",
        "reproduce",
        "serve",
    ):
        assert any(line.strip().startswith(command) for line in out)


def test_no_command_prints_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    assert "Usage: dermfuse" in capsys.readouterr().out


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"dermfuse {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["trian"], "Did you mean"),
        (["presets", "--jsn"], "No such option"),
        (["train"], "Missing argument"),
        (["data"], "Missing command"),
        (
            ["predict", "run", "--data", "d", "--out", "o", "--split", "tset"],
            "'tset' is not one of",
        ),
        (["evaluate", "p", "--truth", "t", "--draws", "many"], "--draws"),
        (["presets", "dc-mobilenetv1-foca"], 'Did you mean "dc-mobilenetv1-focal"'),
        (["train", "u-net", "--data", "d", "--run", "r"], 'no preset is called "u-net"'),
        (
            ["train", "unet", "--data", "d", "--run", "r", "--set", "train.epoch=1"],
            'Did you mean "epochs"',
        ),
        (["train", "unet", "--data", "d", "--run", "r", "--set", "epochs"], "table.key=value"),
        (["train", "unet", "--data", "d", "--run", "r", "--set", "train.epochs=0"], "epochs is 0"),
    ],
)
def test_a_wrong_command_line_is_told_in_one_line(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    out, err = lines(capsys)
    assert out == []
    assert len(err) == 1
    assert err[0].startswith("dermfuse: error: ")
    assert said in err[0]


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "memory is full"),
        (OSError(errno.ENOSPC, "No space left on device", "/disk/x"), "/disk/x cannot be read or"),
        (OSError(errno.EROFS, "Read-only file system"), "a file cannot be read or written"),
        (PermissionError(errno.EACCES, "Permission denied", "/root"), "(Permission denied)"),
    ],
)
def test_a_full_machine_is_told_in_one_line(
    error: Exception,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(verification, "verify_isic2016", raising(error))
    assert main(["data", "verify", "x"]) == 2
    _, err = lines(capsys)
    assert err[-1].startswith("dermfuse: error: ")
    assert said in err[-1]


def test_an_interrupt_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(verification, "verify_isic2016", raising(KeyboardInterrupt()))
    assert main(["data", "verify", "x"]) == 130
    assert lines(capsys)[1][-1] == "dermfuse: interrupted"


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(errno.EIO, "I/O error")])
def test_a_fault_of_dermfuse_itself_keeps_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "verify_isic2016", raising(error))
    with pytest.raises(type(error)):
        main(["data", "verify", "x"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "unet", "--data", "d", "--run", "r"],
        ["predict", "run", "--data", "d", "--split", "test", "--out", "o"],
        ["demo", "--train", "--out", "o"],
        ["reproduce", "--data", "d", "--out", "o"],
    ],
)
def test_commands_that_need_torch_say_how_to_install_it(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(extras_module, "find_spec", lambda _: None)
    assert main(arguments) == 2
    (err,) = lines(capsys)[1]
    assert "not installed here" in err
    assert "pip install -e '.[train]'" in err


def test_the_core_runs_without_torch() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "presets"],
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == NOTICE


def test_a_closed_pipe_is_no_error() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, "presets"],
        check=False,
        stdout=writer,
        stderr=subprocess.PIPE,
    )
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b""


def test_a_warning_of_the_library_goes_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import logging

    def warn(*_: object, **__: object) -> NoReturn:
        logging.getLogger("dermfuse.data").warning("%d images left out", 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(verification, "verify_isic2016", warn)
    main(["data", "verify", str(tmp_path)])
    assert "2 images left out" in lines(capsys)[1]
