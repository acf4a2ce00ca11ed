"""The contract of all commands: what is printed where, the exit status, one line for an error."""

import errno
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from dermfuse import __version__
from dermfuse.cli import console, main
from dermfuse.data import audit as verification
from dermfuse.records.folders import NOTICE

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
OUTCOME = Path(__file__).parents[2] / "results" / "reproduction.json"


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
    ("command", "key"),
    [
        ("presets", "presets"),
        ("data verify data", "splits"),
        ("data audit data", "pairs"),
        ("analyze images --release release --out {out} --no-report", "analysed"),
        ("stress images --release release --out {out}", "rows"),
        ("evaluate a --truth truth --draws 9", "classification"),
        ("compare a b --truth truth --draws 9", "classification"),
        ("join third other --out {out}", "folder_count"),
        ("average a b --out {out}", "folder_count"),
        ("tabulate a b --truth truth --draws 9", "results"),
        ("ablate first=a second=b --truth truth --draws 9", "steps"),
        ("export --vectors --release release --out {out}", "images"),
        ("card --release measured", "networks"),
        (f"reproduce --render {OUTCOME} --out {{out}}", "tables"),
        ("web build --release release --compiled compiled --out {out}", "build"),
    ],
)
@pytest.mark.usefixtures("room")
def test_a_result_ends_in_the_notice_or_is_one_json_object_with_it(
    command: str, key: str, tmp_path: Path, run: Run
) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    assert NOTICE in run(command.format(out=out)).out.splitlines()[-1]
    assert key in run(command.format(out=other), "--json").record
    assert out.is_dir() == other.is_dir() == ("{out}" in command)


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("trian", "Did you mean 'train'? See: dermfuse --help"),
        ("presets --jsn", "No such option"),
        ("train", "Missing argument"),
        ("data", "Missing command"),
        ("predict run --data d --out o --split tset", "is not one of"),
        ("evaluate p --truth t --draws many", "--draws"),
        ("presets dc-mobilenetv1-foca", 'Did you mean "dc-mobilenetv1-focal"?'),
        ("train u-net --data d --run r", 'no preset is called "u-net"'),
        ("train unet --data d --run r --set train.epoch=1", 'Did you mean "epochs"'),
        ("train unet --data d --run r --devices 0", "devices is 0"),
        ("train dc-mobilenetv1 --data d --run r --set data.split=all", "train.schedule=cosine or"),
        ("train unet --data data --run r --parts test", "--parts is given alone"),
        ("train unet --data data --run r --predict p", "--predict is given alone"),
        ("train unet --data data --run r --predict p --parts all", 'no part is called "all"'),
        ("train mobilenetv1 --data data --run r --imagenet .", "random"),
        ("predict r --data data --out p", "neither or both are given"),
        ("predict r --data data --out p --split test --parts test", "or both are given"),
        ("predict r --data data --out p --parts test --tta", "with other options"),
        ("predict . --data data --out p --split test", "is no run folder"),
        ("analyze images --release none", "none is missing"),
        ("analyze images --release release --operating-point best", "best"),
        ("analyze images --release release --looks 3 --out o", "looks is 3"),
        ("analyze none.png --release release", "none.png"),
        ("analyze images --overlays --masks", "--overlays and --masks without --out"),
        ("analyze images --ray local", "--ray without --out"),
        ("stress images --release release --out a", "stress report"),
        ("demo --train --release r --out o", "--release with --train"),
        ("data verify new", "new is not a folder: no train images. Expected: a folder ISBI"),
        ("data synthesize new --size 80", "--size is '80'"),
        ("data synthesize new --size 8x8", "the image size is 8 x 8 px"),
        ("data synthesize new --train 0", "train_count is 0"),
        ("data synthesize a", "exists and is not empty"),
        ("data synthesize page.md/data", "cannot be written"),
        ("evaluate a --truth none", "none is missing"),
        ("evaluate other --truth truth", "other predicts other, unknown in truth"),
        ("fuse a b --out o --weight 1.5", "the weight of A is 1.5"),
        ("fuse a b --out o --fit-a x", "only some of --fit-a, --fit-b and --truth"),
        ("fuse a b --out o --weight 1 --fit-a x --fit-b y --truth z", "both a weight and"),
        ("fuse a b --out other", "exists and is not empty"),
        ("join a b --out o", "predicted in"),
        ("average a other --out o", "predicted in"),
        ("ablate a --truth truth", '"a" names no step'),
        ("submit a --out o --data data", "run.json is missing"),
        ("submit run --out o", "Add --data"),
        ("figures a --data data --out b", "the figures folder"),
        ("export --out o", "Expected: RUN"),
        ("export run --vectors --out o", "with --vectors"),
        ("export run --data d --release r --out o", "with --release"),
        ("export none --data d --out o", "is no run folder"),
        ("card --release measured --out card.html", "Expected: the name of a .md file"),
        ("card --release measured --stress none.json", "none.json is missing"),
        ("card --release measured --data none", "none is not a folder"),
        ("card --release measured --summary page.md", "has no place for this table"),
        ("release none --data data --out o", 'no plan is called "none"'),
        ("reproduce --out o", "neither --data nor --render"),
        ("reproduce --out o --data data --render o.json", "--render and --data are given"),
        ("reproduce --out o --render none.json", "none.json is missing. Expected: a file of that"),
        ("reproduce --out o --data data --jobs all", '--jobs is "all". Expected: 1 or more, or'),
        ("reproduce --out o --data data --deadline 0", "the deadline is 0 minutes. Expected"),
        ("reproduce --out o --data data --deadline -1 --dry-run", "the deadline is -1 minutes"),
        ("reproduce --out o --data data --minimum-learning-rate nan", "learning_rate is nan"),
        ("reproduce --out o --data data --tables V,leekage", 'Did you mean "leakage"'),
        ("web build --out o --release data", "is no release"),
    ],
)
def test_what_cannot_be_is_one_line_and_nothing_is_written(
    command: str, said: str, room: Path, run: Run
) -> None:
    before = sorted(room.rglob("*"))
    assert said in run(command, status=2).err.splitlines()[-1]
    assert sorted(room.rglob("*")) == before


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
    shown = run("data verify x", status=130 if isinstance(error, KeyboardInterrupt) else 2)
    assert said in shown.err.splitlines()[-1]
    assert "2 images left out" in shown.err.splitlines()


@pytest.mark.parametrize("error", [ZeroDivisionError(), OSError(errno.EIO, "I/O error")])
def test_a_fault_of_dermfuse_itself_keeps_its_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verification, "verify_isic2016", raising(error))
    with pytest.raises(type(error)):
        main(["data", "verify", "x"])


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("train unet --data d --run r", "train"),
        ("predict run --data d --split test --out o", "train"),
        ("submit run --data d --out o", "train"),
        ("demo --train --out o", "train"),
        ("reproduce --data d --out o", "train"),
        ("export run --data d --out o", "export"),
        ("release shipped --data d --out o", "export"),
        ("figures run --data d --out o", "figures"),
        ("serve", "serve"),
    ],
)
def test_a_missing_package_is_one_line_that_names_the_extra(
    command: str, extra: str, monkeypatch: pytest.MonkeyPatch, run: Run
) -> None:
    monkeypatch.setattr(console, "find_spec", lambda _: None)
    (error,) = run(command, status=2).err.splitlines()
    assert f"dermfuse {command.split(maxsplit=1)[0]}" in error
    assert (
        f"not installed here. Install in dermfuse's checkout with: pip install -e '.[{extra}]'"
        in error
    )


def test_the_core_runs_without_torch_and_a_closed_pipe_is_no_error() -> None:
    command = [sys.executable, "-c", WITHOUT_TORCH, "presets"]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == NOTICE
    reader, writer = os.pipe()
    os.close(reader)
    for env in (None, {**os.environ, "PYTHONUNBUFFERED": "1"}):  # at the end, and at once
        pipes: dict[str, Any] = {"stdout": writer, "stderr": subprocess.PIPE}
        closed = subprocess.run(command, check=False, env=env, **pipes)
        assert (closed.returncode, closed.stderr) == (141, b"")
    os.close(writer)


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
