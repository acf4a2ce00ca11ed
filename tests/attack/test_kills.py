"""What is killed anywhere and called again leaves what an uninterrupted call leaves."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermfuse

from ..small_release import skin, write_small_release

_MOST_SECONDS = 120
_ANALYZE = """
import sys
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths

release, images, out = sys.argv[1:]
analyzer = Analyzer(release)
print("ready", flush=True)
analyze_paths(
    analyzer, [images], out, options=BulkOptions(threads=2, masks=True, overlays=True)
)
"""
_TRAIN = """
import sys
from dermfuse.config import load_preset
from dermfuse.training.train import train

config = load_preset("dc-mobilenetv1").override([
    "data.input_size=32", "data.validation_fraction=0.3", "model.init=random",
    "augment.benign_copies=1", "augment.malignant_copies=2", "train.epochs=6",
    "train.batch_size=8", "train.device=cpu", "train.threads=1", "train.ema_decay=0.9",
    "train.plateau_patience=1", "train.learning_rate=0.05",
])
print("ready", flush=True)
train(config, data=sys.argv[1], run=sys.argv[2], resume=True)
"""


def _start(script: str, *arguments: Path) -> "subprocess.Popen[str]":
    """Returns a process that is about to begin its work, which it says as ``ready``."""
    source = str(Path(dermfuse.__file__).parents[1])
    process = subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert process.stdout.readline() == "ready\n"
    return process


def _finish(script: str, *arguments: Path) -> float:
    """Runs to the end and returns how many seconds that takes."""
    process, begin = _start(script, *arguments), time.monotonic()
    process.communicate(timeout=_MOST_SECONDS)
    assert process.returncode == 0
    return time.monotonic() - begin


def _kill(script: str, *arguments: Path, after: float) -> bool:
    """Kills a run so many seconds after its begin; returns whether it was still running."""
    process = _start(script, *arguments)
    time.sleep(after)
    process.kill()
    process.communicate(timeout=_MOST_SECONDS)
    return process.returncode == -signal.SIGKILL


def _kill_and_compare(
    folder: Path, script: str, sources: tuple[Path, ...], left: Callable[[Path], dict[str, bytes]],
    *, kills: int, each: int, share: float, between: Callable[[int], object] = lambda _: None,
) -> dict[str, bytes]:  # fmt: skip
    """Asserts that killed runs, continued, leave what a whole one leaves, and returns that.

    So many runs are killed in all, ``each`` of them before one output is finished, and every one
    within a share of the seconds of a whole run. ``between`` is called with -1 before the first of
    an output, and with the number of each kill after it.
    """
    draw, killed, outputs = random.Random(kills), 0, 0
    whole = folder / "whole"
    whole.mkdir()
    seconds = _finish(script, *sources, whole)
    expected = left(whole)
    while killed < kills:
        outputs += 1
        assert outputs < 3 * kills, "the runs end before they are killed"
        out = folder / f"killed-{outputs}"
        out.mkdir()
        between(-1)
        for number in range(min(each, kills - killed)):
            killed += _kill(script, *sources, out, after=draw.uniform(0, share * seconds))
            between(number)
        _finish(script, *sources, out)
        found = left(out)
        assert found.keys() == expected.keys()
        assert {name for name in found if found[name] != expected[name]} == set()
    return expected


def _results(out: Path) -> dict[str, bytes]:
    """Returns every file of a results folder, hidden ones too."""
    files = [path for path in out.rglob("*") if path.is_file()]
    left = {path.relative_to(out).as_posix(): path.read_bytes() for path in files}
    settings = json.loads(left["analysis.json"])
    settings.pop("commit")  # of the tree, which may be edited meanwhile
    return left | {"analysis.json": json.dumps(settings).encode()}


@pytest.mark.parametrize(("kills", "each"), [(3, 3), pytest.param(40, 4, marks=pytest.mark.slow)])
def test_kills_of_a_folder_run_change_nothing(tmp_path: Path, kills: int, each: int) -> None:
    images, draw = tmp_path / "images", np.random.default_rng(3)
    (images / "more").mkdir(parents=True)
    for number in range(24):
        where = images / "more" if number % 4 == 0 else images
        Image.fromarray(skin(4 * number, rng=draw)).save(where / f"{number:02}.png")
    (images / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    release, dropped = write_small_release(tmp_path / "release"), images / "more" / "dropped.png"

    def drop(number: int) -> None:
        """Lets an image be there until the first kill."""
        if number < 0:
            Image.fromarray(skin(9)).save(dropped)
        else:
            dropped.unlink(missing_ok=True)

    expected = _kill_and_compare(
        tmp_path, _ANALYZE, (release, images), _results,
        kills=kills, each=each, share=1.2, between=drop,
    )  # fmt: skip
    assert len([name for name in expected if name.startswith("masks/")]) == 24


def _run(run: Path) -> dict[str, bytes]:
    assert not [path.name for path in run.glob(".*")]
    return {name: (run / name).read_bytes() for name in ("best.safetensors", "metrics.csv")}


@pytest.mark.slow
def test_40_kills_of_trainings_change_nothing(drawn: Path, tmp_path: Path) -> None:
    expected = _kill_and_compare(tmp_path, _TRAIN, (drawn,), _run, kills=40, each=4, share=0.6)
    rates = [line.split(b",")[1] for line in expected["metrics.csv"].splitlines()[1:]]
    assert len(rates) == 6
    assert len(set(rates)) > 1, "the rule has nothing to get wrong"
