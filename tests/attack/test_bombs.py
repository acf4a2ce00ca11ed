"""Every kind of bomb through the processes that decode: bounded memory, bounded time, one line.

Time is the processor's: other work on the machine does not count.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import dermfuse

from .bombs import BOMBS, MOST_BYTES

MOST_MB = 600
MOST_SECONDS = 10
_QUICK = ("webp_header", "jpeg_claims", "gif_claims", "bmp_claims", "dicom_jpeg_2000")

_READ = """
import json, resource, sys
from pathlib import Path
from dermfuse.analysis.isolation import Decoders
from dermfuse.errors import DermfuseError

seconds = 0.0
for path in map(Path, sys.argv[1:]):
    with Decoders(1) as decoders:
        data = path.read_bytes()
        try:
            said = str(decoders.read(data, name="image").shape)
        except DermfuseError as error:
            said = str(error)
        except Exception as error:
            said = "FOREIGN " + repr(error)
        decoders.close()
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        before, seconds = seconds, used.ru_utime + used.ru_stime
    peak = used.ru_maxrss / 1024
    print(json.dumps([path.name, said, seconds - before, peak]), flush=True)
"""


def _read_all(folder: Path, names: tuple[str, ...]) -> list[tuple[str, str, float, float]]:
    """Reads bombs in a process of its own, whose children are decoders alone."""
    for name in names:
        data = BOMBS[name]()
        assert len(data) <= MOST_BYTES, name
        (folder / name).write_bytes(data)
    found = subprocess.run(
        [sys.executable, "-c", _READ, *(str(folder / name) for name in names)],
        env={"PYTHONPATH": str(Path(dermfuse.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=True,
    )
    return [tuple(json.loads(line)) for line in found.stdout.splitlines()]


def _assert_bounded(found: list[tuple[str, str, float, float]]) -> None:
    assert [each for each in found if "FOREIGN" in each[1] or "\n" in each[1]] == []
    assert [each for each in found if each[2] > MOST_SECONDS] == []
    assert [each for each in found if each[3] > MOST_MB] == []


def test_bombs_that_lie_in_their_header_are_refused(tmp_path: Path) -> None:
    found = _read_all(tmp_path, _QUICK)
    assert len(found) == len(_QUICK)
    assert [each for each in found if each[1].startswith("(")] == []
    _assert_bounded(found)


@pytest.mark.slow
def test_every_bomb_is_read_or_refused_within_bounds(tmp_path: Path) -> None:
    found = _read_all(tmp_path, tuple(BOMBS))
    assert len(found) == len(BOMBS)
    _assert_bounded(found)
