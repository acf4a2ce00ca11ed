"""Training several runs: a process for each, some of them side by side."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from dermfuse.config import load_config
from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.errors import DermfuseError, RunError
from dermfuse.jobs.progress import RunProgress, State, read_progress
from dermfuse.jobs.run import Run, identity
from dermfuse.runs import RunFolder, write_text

Watch = Callable[[Sequence[RunProgress]], None]
"""Called about once a second with all runs, in the plan's order."""

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_STOP = 30
_ERROR_MARK = "dermfuse: error: "


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where runs are trained, and from what.

    Args:
        out: The folder of all of them.
        data: The dataset folder, or several.
        imagenet: Folder of ImageNet weights; None downloads them.
    """

    out: Path
    data: DataFolders
    imagenet: Path | None

    def run_folder(self, run: Run) -> Path:
        """Returns the run folder."""
        return self.out / "runs" / run.name

    def config_file(self, run: Run) -> Path:
        """Returns the file of the resolved configuration."""
        return self.out / "configs" / f"{run.name}.toml"

    def log_file(self, run: Run) -> Path:
        """Returns what the training says."""
        return self.out / "logs" / f"{run.name}.log"


Command = Callable[[Run, Workplace], list[str]]
"""From a run to the command line of its process."""


def train_command(run: Run, place: Workplace) -> list[str]:
    """Returns ``dermfuse train``, going on where an interrupted run stopped."""
    command = [sys.executable, "-m", "dermfuse", "train", str(place.config_file(run))]
    for folder in list_folders(place.data):
        command += ["--data", str(folder)]
    command += ["--run", str(place.run_folder(run)), "--resume"]
    command += ["--leave-out", str(run.leave_out)] if run.leave_out else []
    command += ["--from", str(place.out / "runs" / run.start)] if run.start else []
    return command + (["--imagenet", str(place.imagenet)] if place.imagenet else [])


def is_finished(run: Run, folder: Path) -> bool:
    """Returns whether the folder holds this very run, trained to its end.

    Raises:
        RunError: It holds a finished run of another configuration.
    """
    files = RunFolder(folder)
    if not (files.config.is_file() and files.record.is_file()):
        return False
    if files.read_record().get("status") != "finished" or not files.weights.is_file():
        return False
    before, now = identity(load_config(files.config)), identity(run.config)
    if before == now:
        return True
    longer = {**now, "train": {**now["train"], "epochs": before["train"]["epochs"]}}
    if before == longer and now["train"]["epochs"] > before["train"]["epochs"]:
        return False  # the same run, to be trained on; the training itself refuses a cosine
    raise RunError(
        f"{folder} was trained with another configuration",
        expected="the one that is planned",
        action="Choose another --out or remove that run",
    )


@dataclass(slots=True)
class _Started:
    run: Run
    process: "subprocess.Popen[bytes]"
    began: float = field(default_factory=time.time)


def train_all(
    runs: Sequence[Run],
    place: Workplace,
    *,
    jobs: int = 1,
    deadline: float | None = None,
    watch: Watch | None = None,
    command: Command = train_command,
) -> tuple[RunProgress, ...]:
    """Trains the runs that are not finished, ``jobs`` at a time, and returns how each ended.

    A run begins once those it comes after are finished. One that fails is reported with the last
    error line of its log, as is what waits for it, and the rest go on. Where this is interrupted,
    or at the deadline, the trainings are stopped; they lose at most an epoch, and what was not
    finished is waiting.

    Args:
        runs: In the order they are begun.
        place: Where they are trained.
        jobs: How many processes side by side; on one GPU they share it.
        deadline: When to stop, in seconds of ``time.monotonic``; None trains to the end.
        watch: Called about once a second.
        command: What a process runs.
    """
    known = {run.name: _initial(run, place) for run in runs}
    waiting = [run for run in runs if known[run.name].state == "waiting"]
    started: list[_Started] = []
    try:
        while waiting or started:
            if deadline is not None and time.monotonic() >= deadline:
                break
            _give_up(waiting, known)
            while len(started) < jobs and (run := _next(waiting, known)):
                waiting.remove(run)
                started.append(_start(run, place, command, jobs))
            for each in list(started):
                known[each.run.name] = _look(each, place)
                if each.process.poll() is not None:
                    started.remove(each)
            if watch:
                watch([known[run.name] for run in runs])
            if started:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        _stop(started)
    for each in started:  # at the deadline
        known[each.run.name] = _stopped(each, place)
    if watch:
        watch([known[run.name] for run in runs])
    return tuple(known[run.name] for run in runs)


def survey(runs: Sequence[Run], place: Workplace) -> tuple[RunProgress, ...]:
    """Returns how far each run has come, without training any."""
    return tuple(_initial(run, place) for run in runs)


def _initial(run: Run, place: Workplace) -> RunProgress:
    folder = place.run_folder(run)
    try:
        state: State = "reused" if is_finished(run, folder) else "waiting"
    except DermfuseError as error:
        return replace(read_progress(run, folder, state="failed"), error=str(error))
    return read_progress(run, folder, state=state)


def _next(waiting: Sequence[Run], known: Mapping[str, RunProgress]) -> Run | None:
    """Returns the first run that waits for no other; runs that are not among these are there."""
    done = ("trained", "reused")
    for run in waiting:
        if all(known[name].state in done for name in run.after if name in known):
            return run
    return None


def _give_up(waiting: list[Run], known: dict[str, RunProgress]) -> None:
    """Fails the runs that wait for one that failed."""
    for run in list(waiting):
        failed = [n for n in run.after if n in known and known[n].state == "failed"]
        if failed:
            waiting.remove(run)
            error = f"{failed[0]} failed, which it comes after"
            known[run.name] = replace(known[run.name], state="failed", error=error)


def _stopped(each: "_Started", place: Workplace) -> RunProgress:
    """Returns what became of a run that was stopped; it may have finished by then."""
    ended = _look(each, place)
    if ended.state == "trained":
        return ended
    return read_progress(each.run, place.run_folder(each.run), state="waiting")


def _start(run: Run, place: Workplace, command: Command, jobs: int) -> _Started:
    write_text(place.config_file(run), run.config.to_toml())
    log = place.log_file(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if jobs > 1 and not run.config.train.threads:  # else each would take every core
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    with log.open("ab") as output:
        process = subprocess.Popen(  # noqa: S603 — our own command, no shell
            command(run, place),
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
    return _Started(run, process)


def _look(each: _Started, place: Workplace) -> RunProgress:
    folder = place.run_folder(each.run)
    status = each.process.poll()
    if status is None:
        return read_progress(each.run, folder, state="running", since=each.began)
    if status == 0 and is_finished(each.run, folder):
        return read_progress(each.run, folder, state="trained")
    failed = read_progress(each.run, folder, state="failed")
    return replace(failed, error=_last_error(place.log_file(each.run), status))


def _last_error(log: Path, status: int) -> str:
    """Returns the error in a log: dermfuse's own line, or else the last one."""
    lines = [line for line in log.read_text("utf-8", errors="replace").splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(_ERROR_MARK)]
    if marked:
        return marked[-1].removeprefix(_ERROR_MARK)
    if status < 0:
        return f"ended by signal {-status}"
    return lines[-1].strip() if lines else f"ended with status {status} and without a word"


def _stop(started: Sequence[_Started]) -> None:
    for each in started:
        if each.process.poll() is None:
            each.process.terminate()
    for each in started:
        try:
            each.process.wait(_SECONDS_TO_STOP)
        except subprocess.TimeoutExpired:
            each.process.kill()
            each.process.wait()
