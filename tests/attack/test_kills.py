"""A folder run that is killed anywhere and called again leaves what an uninterrupted one leaves."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dermfuse

from ..small_release import skin, write_small_release

_RUN = """
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


@dataclass
class Runs:
    """Runs of one call, each in a process of its own."""

    release: Path
    images: Path
    out: Path

    def start(self) -> "subprocess.Popen[str]":
        """Returns the process once it is about to begin."""
        source = str(Path(dermfuse.__file__).parents[1])
        process = subprocess.Popen(
            [sys.executable, "-c", _RUN, str(self.release), str(self.images), str(self.out)],
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": source, "OMP_NUM_THREADS": "1"},
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    def finish(self) -> float:
        """Runs to the end and returns how many seconds that takes."""
        process, begin = self.start(), time.monotonic()
        process.communicate(timeout=60)
        assert process.returncode == 0
        return time.monotonic() - begin

    def kill(self, after: float) -> bool:
        """Kills a run so many seconds after its begin; returns whether it was still running."""
        process = self.start()
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.communicate(timeout=60)
        return process.returncode == -signal.SIGKILL

    def left(self) -> dict[str, bytes]:
        """Returns every file of the results folder, hidden ones too."""
        files = [path for path in self.out.rglob("*") if path.is_file()]
        left = {path.relative_to(self.out).as_posix(): path.read_bytes() for path in files}
        settings = json.loads(left["analysis.json"])
        settings.pop("commit")  # of the tree, which may be edited meanwhile
        return left | {"analysis.json": json.dumps(settings).encode()}


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder, draw = tmp_path / "images", np.random.default_rng(3)
    (folder / "more").mkdir(parents=True)
    for number in range(24):
        where = folder / "more" if number % 4 == 0 else folder
        Image.fromarray(skin(4 * number, rng=draw)).save(where / f"{number:02}.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8 cut off")
    return folder


def _compare(tmp_path: Path, images: Path, *, seed: int, kills: int, each: int) -> None:
    """Kills so many runs, ``each`` of them in one folder that a last run then finishes."""
    draw = random.Random(seed)
    release = write_small_release(tmp_path / "release")
    whole = Runs(release, images, tmp_path / "whole")
    seconds = whole.finish()
    expected = whole.left()
    assert len([name for name in expected if name.startswith("masks/")]) == 24
    killed = folders = 0
    while killed < kills:
        folders += 1
        assert folders < 3 * kills, "the runs end before they are killed"
        runs = Runs(release, images, tmp_path / f"killed-{folders}")
        dropped = images / "more" / "dropped.png"
        Image.fromarray(skin(9)).save(dropped)
        for number in range(min(each, kills - killed)):
            killed += runs.kill(draw.uniform(0, 1.2 * seconds))
            if number == 0:
                dropped.unlink()
        dropped.unlink(missing_ok=True)
        runs.finish()
        found = runs.left()
        assert found.keys() == expected.keys()
        assert {name for name in found if found[name] != expected[name]} == set()


def test_a_run_that_is_killed_three_times_ends_as_one_that_is_not(
    tmp_path: Path, images: Path
) -> None:
    _compare(tmp_path, images, seed=1, kills=3, each=3)


@pytest.mark.slow
def test_40_kills_change_nothing(tmp_path: Path, images: Path) -> None:
    _compare(tmp_path, images, seed=2, kills=40, each=4)
