"""Every kind of bomb: pixels or one line that says why, in bounded memory and time.

Time is the processor's: other work on the machine does not count.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import dermfuse
from dermfuse.imaging.limits import MAX_PIXELS

from .bombs import BOMBS, MOST_BYTES, encode, png

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

MOST_SECONDS = 10
_READ = r"""
import json, re, resource, sys, time
from pathlib import Path
from dermfuse.analysis.isolation import Decoders
from dermfuse.errors import ImageError
from dermfuse.imaging.reading import read_any

def used():
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    status = Path("/proc/self/status").read_text()
    here = int(re.search(r"VmHWM:\s+(\d+)", status)[1])
    peak = children.ru_maxrss if sys.argv[1] == "apart" else here
    return time.process_time() + children.ru_utime + children.ru_stime, peak / 1024

for path in sys.argv[2:]:
    before, _ = used()
    with Decoders(1) as decoders:
        data = Path(path).read_bytes()
        try:
            read = decoders.read if sys.argv[1] == "apart" else read_any
            said = repr(read(data, name="it").shape)
        except ImageError as error:
            said = str(error)
    seconds, peak = used()
    print(json.dumps([Path(path).name, said, seconds - before, peak]), flush=True)
"""


def _read(folder: Path, *, apart: bool) -> list[tuple[str, str, float, float]]:
    """Reads the files of a folder in a process of its own, or in decoders of that one.

    Returns:
        Of each its name, what was said, processor seconds, and the peak of memory so far in MB.
    """
    found = subprocess.run(
        [sys.executable, "-c", _READ, "apart" if apart else "here", *sorted(folder.iterdir())],
        env={"PYTHONPATH": str(Path(dermfuse.__file__).parents[1])},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return [tuple(json.loads(line)) for line in found.stdout.splitlines()]


def _assert_bounded(folder: Path, names: list[str], *, apart: bool, most_mb: float) -> None:
    for name in names:
        assert (folder / name).write_bytes(BOMBS[name][0]()) <= MOST_BYTES, name
    found = _read(folder, apart=apart)
    assert sorted(name for name, *_ in found) == sorted(names)
    wrong = [each for each in found if BOMBS[each[0]][1] not in each[1] or "\n" in each[1]]
    assert wrong == []
    assert [each for each in found if each[2] > MOST_SECONDS or each[3] > most_mb] == []


def test_what_is_refused_or_small_takes_little_in_this_process(tmp_path: Path) -> None:
    names = [name for name, (_, said) in BOMBS.items() if said]
    _assert_bounded(tmp_path, names, apart=False, most_mb=400)


@pytest.mark.parametrize("said", ["pixels or fewer", pytest.param("", marks=pytest.mark.slow)])
def test_claims_or_all_are_read_or_refused_by_a_decoder(tmp_path: Path, said: str) -> None:
    names = [name for name, (_, words) in BOMBS.items() if said in words]
    _assert_bounded(tmp_path, names, apart=True, most_mb=600)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "PNG16", "TIFF", "GIF", "WEBP"])
def test_the_largest_picture_of_a_kind_stays_below_600_mb(kind: str, tmp_path: Path) -> None:
    share = {"PNG16": 8 / 13, "WEBP": 8 / 18}.get(kind, 1.0)
    side = int((share * MAX_PIXELS) ** 0.5)
    if kind == "PNG16":
        data = png(size=(side, side), bits=48)
    else:
        options = {"TIFF": {"compression": "tiff_adobe_deflate"}, "JPEG": {"progressive": True}}
        data = encode(Image.new("RGB", (side, side), (90, 60, 50)), kind, **options.get(kind, {}))
    (tmp_path / kind).write_bytes(data)
    [(_, said, _, peak)] = _read(tmp_path, apart=False)
    assert said == f"({side}, {side}, 3)"
    assert peak < 600
