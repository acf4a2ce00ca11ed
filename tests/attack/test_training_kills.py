"""A training that is killed anywhere and resumed leaves what an uninterrupted one leaves."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import dermfuse

_TRAIN = """
import sys
from dermfuse.config import load_preset
from dermfuse.training import train

config = load_preset("dc-mobilenetv1").override([
    "data.input_size=32", "data.validation_fraction=0.3", "model.init=random",
    "augment.benign_copies=1", "augment.malignant_copies=2", "train.epochs=6",
    "train.batch_size=8", "train.device=cpu", "train.threads=1", "train.ema_decay=0.9",
    "train.plateau_patience=1", "train.learning_rate=0.05",
])
print("ready", flush=True)
train(config, data=sys.argv[1], run=sys.argv[2], resume=True)
"""


def _start(data: Path, run: Path) -> "subprocess.Popen[str]":
    """Returns a training once it is about to begin."""
    process = subprocess.Popen(
        [sys.executable, "-c", _TRAIN, str(data), str(run)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(dermfuse.__file__).parents[1])},
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def _finish(data: Path, run: Path) -> float:
    """Trains to the end and returns how many seconds that takes."""
    process, begin = _start(data, run), time.monotonic()
    process.communicate(timeout=120)
    assert process.returncode == 0
    return time.monotonic() - begin


def _kill(data: Path, run: Path, after: float) -> bool:
    """Kills a training so many seconds after its begin; returns whether it was still running."""
    process = _start(data, run)
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=60)
    return process.returncode == -signal.SIGKILL


def _left(run: Path) -> dict[str, bytes]:
    return {name: (run / name).read_bytes() for name in ("best.safetensors", "metrics.csv")}


@pytest.mark.slow
def test_40_kills_of_trainings_change_nothing(drawn: Path, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    seconds = _finish(drawn, tmp_path / "whole")
    expected = _left(tmp_path / "whole")
    rates = [line.split(b",")[1] for line in expected["metrics.csv"].splitlines()[1:]]
    assert len(rates) == 6
    assert len(set(rates)) > 1, "the rule has nothing to get wrong"
    draw, killed, runs = random.Random(4), 0, 0
    while killed < 40:
        runs += 1
        assert runs < 40, "the trainings end before they are killed"
        run = tmp_path / f"killed-{runs}"
        run.mkdir()
        for _ in range(4):
            killed += _kill(drawn, run, draw.uniform(0, 0.6 * seconds))
        _finish(drawn, run)
        assert _left(run) == expected
        assert not [path.name for path in run.glob(".*")]
