"""What a new process costs: its time to the first analysis, and its memory."""

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_CHILD = """\
import time
start = time.perf_counter()
from dermfuse.analysis.analyzer import Analyzer
imported = time.perf_counter() - start
import json, sys
from pathlib import Path

def peak_mb():
    try:  # ru_maxrss would count the parent's memory, which a child shares until it is replaced
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10

release, image, count, looks = sys.argv[1:]
analyzer = Analyzer(Path(release), looks=int(looks))
analyzer.analyze(Path(image))
print(json.dumps({"import": imported, "peak": peak_mb()}), flush=True)
for _ in range(int(count)):
    analyzer.analyze(Path(image))
print(json.dumps({"peak": peak_mb()}), flush=True)
"""


@dataclass(frozen=True, slots=True)
class ColdStart:
    """What a new process costs; medians.

    Args:
        starts: New processes.
        first_analysis_seconds: From the start of the process until its first analysis is there.
        import_seconds: Of these, for importing the Analyzer.
        peak_mb: The largest resident memory until then, in 2^20 bytes; None where the system
            does not tell.
        later_images: Analyses that one process went on with.
        later_peak_mb: Its largest resident memory after these.
    """

    starts: int
    first_analysis_seconds: float
    import_seconds: float
    peak_mb: float | None
    later_images: int
    later_peak_mb: float | None

    def to_dict(self) -> dict[str, Any]:
        """Returns JSON values, rounded to what can be told."""
        return {
            key: round(value, 3) if isinstance(value, float) else value
            for key, value in asdict(self).items()
        }


def measure_cold_start(
    release: Path, image: Path, *, looks: int, starts: int, later_images: int
) -> ColdStart:
    """Returns what new processes cost that analyse an image by a release on one thread.

    The files are warm: they were read before, by this process or the first child.

    Args:
        release: Its folder.
        image: A file.
        looks: At how many orientations of it each network looks.
        starts: How many processes.
        later_images: Analyses that the last of them goes on with.
    """
    counts = [0] * (starts - 1) + [later_images]
    runs = [_run(release, image, count, looks) for count in counts]
    peaks = [run.peak_mb for run in runs if run.peak_mb is not None]
    return ColdStart(
        starts=starts,
        first_analysis_seconds=statistics.median(run.seconds for run in runs),
        import_seconds=statistics.median(run.import_seconds for run in runs),
        peak_mb=statistics.median(peaks) if peaks else None,
        later_images=later_images,
        later_peak_mb=runs[-1].later_peak_mb,
    )


@dataclass(frozen=True, slots=True)
class _Run:
    seconds: float
    import_seconds: float
    peak_mb: float | None
    later_peak_mb: float | None


def _run(release: Path, image: Path, count: int, looks: int) -> _Run:
    command = [sys.executable, "-c", _CHILD, str(release), str(image), str(count), str(looks)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    start = time.perf_counter()
    with subprocess.Popen(  # noqa: S603 — this Python, and a program that stands above
        command, stdout=subprocess.PIPE, text=True, env=environment
    ) as child:
        lines = iter(child.stdout or ())
        line = next(lines, "")
        seconds = time.perf_counter() - start
        later = next(lines, "")
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, command[:2])
    first, last = json.loads(line), json.loads(later)
    return _Run(seconds, first["import"], first["peak"], last["peak"])
