"""Calls in processes of their own that are killed anywhere, and called again until they end."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import dermfuse

MOST_SECONDS = 120


@dataclass
class Call:
    """A script that prints ``ready`` before its work, with its arguments."""

    script: str
    arguments: tuple[Path, ...]

    def start(self) -> "subprocess.Popen[str]":
        """Returns the process once it is about to begin."""
        process = subprocess.Popen(
            [sys.executable, "-c", self.script, *self.arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ
            | {"PYTHONPATH": str(Path(dermfuse.__file__).parents[1]), "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def finish(self) -> float:
        """Runs to the end and returns how many seconds that takes."""
        process, begin = self.start(), time.monotonic()
        process.communicate(timeout=MOST_SECONDS)
        assert process.returncode == 0
        return time.monotonic() - begin

    def kill(self, after: float) -> bool:
        """Kills a run so many seconds after its begin; returns whether it was still running."""
        process = self.start()
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=MOST_SECONDS)
        return process.returncode == -signal.SIGKILL


def kill_and_compare(
    folder: Path,
    call: Callable[[Path], Call],
    left: Callable[[Path], dict[str, bytes]],
    *,
    kills: int,
    each: int,
    share: float,
    between: Callable[[int], object] = lambda _: None,
) -> dict[str, bytes]:
    """Asserts that killed runs, continued, leave what a whole one leaves, and returns that.

    Args:
        folder: Holds the outputs.
        call: The call that writes into an output.
        left: What an output holds.
        kills: How many runs are killed in all.
        each: How many of them before one output is finished.
        share: Of the seconds of a whole run, within which it is killed.
        between: Called with -1 before the first, and with the number of each kill after it.
    """
    draw, killed, outputs = random.Random(kills), 0, 0
    whole = folder / "whole"
    whole.mkdir()
    seconds = call(whole).finish()
    expected = left(whole)
    while killed < kills:
        outputs += 1
        assert outputs < 3 * kills, "the runs end before they are killed"
        out = folder / f"killed-{outputs}"
        out.mkdir()
        between(-1)
        for number in range(min(each, kills - killed)):
            killed += call(out).kill(draw.uniform(0, share * seconds))
            between(number)
        call(out).finish()
        found = left(out)
        assert found.keys() == expected.keys()
        assert {name for name in found if found[name] != expected[name]} == set()
    return expected
