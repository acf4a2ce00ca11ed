"""Whether what runs would learn from holds both classes: asked before any of them begins."""

from collections.abc import Sequence

from dermfuse.config import has_scores
from dermfuse.errors import DermfuseError
from dermfuse.jobs.execution import Workplace, survey
from dermfuse.jobs.run import Run
from dermfuse.training.samples import require_classes, select_lesions


def require_sides(runs: Sequence[Run], place: Workplace) -> None:
    """Refuses runs that are not finished and have a side of the split without one of the classes.

    What else keeps a run from its data is the run's to say: others may go on without it.

    Raises:
        DataError: Naming the run.
    """
    seen = set()
    for run, state in zip(runs, survey(runs, place), strict=True):
        config = run.config
        key = (config.data, config.model.task, config.train.seed, run.leave_out)
        if state.state != "waiting" or not has_scores(config.model.task) or key in seen:
            continue
        seen.add(key)
        try:
            chosen = select_lesions(place.data, config, leave_out=run.leave_out)
        except DermfuseError:
            continue
        require_classes(chosen, config, run=run.name)
