"""The queue of trainings of ``reproduce`` and ``release``: in which order, how many, until when."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dermfuse.errors import ConfigError
from dermfuse.jobs.estimate import RunsEstimate, estimate_runs, order_runs
from dermfuse.jobs.trainings import (
    Command,
    Jobs,
    Run,
    RunProgress,
    Watch,
    Workplace,
    duration_in_words,
    predict_command,
    train_all,
    train_command,
)


@dataclass(frozen=True, slots=True)
class Queue:
    """Trainings in the order in which they begin.

    Attributes:
        runs: First those that the longest work hangs on.
        estimate: What they will cost, in that order, and how many go side by side.
        spent: Seconds that it took to find that out; they count towards a deadline.
    """

    runs: tuple[Run, ...]
    estimate: RunsEstimate
    spent: float = 0.0


def make_queue(
    runs: Sequence[Run],
    place: Workplace,
    *,
    jobs: Jobs = None,
    on_cpu: int = 1,
    minutes: float | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Queue:
    """Returns the order, the number and the cost of trainings; nothing is written.

    Args:
        runs: What is to be trained.
        place: Where; what is finished there costs nothing more.
        jobs: How many side by side; see ``estimate_runs``.
        on_cpu: How many where ``jobs`` is None and there is no GPU.
        minutes: The deadline.
        progress: Called with (done, all) runs while steps are timed.

    Raises:
        ConfigError: ``jobs`` or ``minutes`` is not above 0.
        DermfuseError: As for ``estimate_runs``.
    """
    if isinstance(jobs, int) and jobs < 1:
        raise ConfigError(f"jobs is {jobs}", expected="1 or more")
    if minutes is not None and not minutes > 0:
        raise ConfigError(f"the deadline is {minutes:g} minutes", expected="more than 0")
    began = time.monotonic()
    found = estimate_runs(runs, place, jobs=jobs, on_cpu=on_cpu, progress=progress)
    by_name = {each.name: each for each in found.runs}
    ordered = order_runs(runs, {name: each.seconds for name, each in by_name.items()})
    estimate = replace(found, runs=tuple(by_name[run.name] for run in ordered))
    return Queue(ordered, estimate, time.monotonic() - began)


def require_time(queue: Queue, minutes: float | None) -> None:
    """Refuses a deadline before the end of the first epoch of whatever is trained.

    Raises:
        ConfigError: It is one.
    """
    epochs = [run.seconds / run.epochs for run in queue.estimate.runs if run.epochs and run.seconds]
    if minutes is None or not epochs:
        return
    shortest = min(epochs)
    if shortest > 60 * minutes - queue.spent:
        raise ConfigError(
            f"a deadline of {minutes:g} minutes leaves no time for one epoch",
            expected=f"about {duration_in_words(shortest + queue.spent)} or more",
            action="Give it more time, or use a faster machine",
        )


def train_queue(
    queue: Queue,
    place: Workplace,
    *,
    minutes: float | None = None,
    watch: Watch | None = None,
    command: Command = train_command,
    predict: Command = predict_command,
) -> tuple[RunProgress, ...]:
    """Trains what is not finished, until the deadline; see ``train_all``.

    Args:
        queue: What is trained.
        place: Where.
        minutes: To the deadline, those included that making the queue took; None trains to the end.
        watch: Called about once a second.
        command: What the process of a run runs.
        predict: What the process of a run runs that is to predict alone.
    """
    deadline = None if minutes is None else time.monotonic() + 60 * minutes - queue.spent
    return train_all(
        queue.runs,
        place,
        jobs=queue.estimate.jobs,
        deadline=deadline,
        watch=watch,
        command=command,
        predict=predict,
    )
