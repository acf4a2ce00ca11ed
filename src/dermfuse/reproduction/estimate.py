"""What a plan would cost before it is begun: time and disk."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from dermfuse.data.folders import DataFolders, has_split, load_dataset
from dermfuse.jobs.capacity import Jobs
from dermfuse.jobs.estimate import RunEstimate
from dermfuse.jobs.execution import Workplace
from dermfuse.jobs.queue import make_queue
from dermfuse.reproduction.plan import Plan
from dermfuse.runs import NOTICE

_MAP_FACTOR = 8  # an 8-bit map takes about that many times the bytes of its mask


@dataclass(frozen=True, slots=True)
class PlanEstimate:
    """What all of it is expected to cost.

    Attributes:
        runs: In the order they begin.
        jobs: How many are trained side by side.
        seconds: Of all trainings, side by side, at the least.
        most_seconds: The same at the pace of the slowest steps that were timed.
        disk_mb: Of all folders, predictions with maps included, in 10^6 bytes.
    """

    runs: tuple[RunEstimate, ...]
    jobs: int
    seconds: float
    most_seconds: float
    disk_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the estimate as JSON values."""
        return {**asdict(self), "notice": NOTICE}


def estimate(
    plan: Plan,
    place: Workplace,
    *,
    jobs: Jobs = None,
    minutes: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> PlanEstimate:
    """Returns what a plan will cost on this machine; nothing is written.

    Args:
        plan: What is to be trained.
        place: Where; what is finished there costs nothing more.
        jobs: How many runs are trained side by side; see ``estimate_runs``.
        minutes: The deadline; it is checked alone.
        progress: Called with (done, all) runs.

    Raises:
        DermfuseError: As for ``make_queue``.
    """
    found = make_queue(plan.runs, place, jobs=jobs, minutes=minutes, progress=progress).estimate
    disk = sum(each.disk_mb for each in found.runs) + _predictions_mb(plan, place.data)
    return PlanEstimate(found.runs, found.jobs, found.seconds, found.most_seconds, round(disk, 1))


def _predictions_mb(plan: Plan, data: DataFolders) -> float:
    """Returns the bytes of masks and maps, of validation and test, as the true masks are large."""
    lesions = load_dataset(data, "train").lesions
    sizes = [lesion.mask_path.stat().st_size for lesion in lesions if lesion.mask_path]
    tested = _test_count(data)
    segmenters = [run for run in plan.runs if run.config.model.task != "classification"]
    mean = sum(sizes) / max(len(sizes), 1)
    validated = sum(sum(sizes) / max(run.config.data.folds, 1) for run in segmenters)
    return (validated + len(segmenters) * mean * tested) * (1 + _MAP_FACTOR) / 1e6


def _test_count(data: DataFolders) -> int:
    if not has_split(data, "test"):
        return 0
    return len(load_dataset(data, "test").lesions)
