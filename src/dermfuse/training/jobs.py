"""Several trainings, each in a process of its own, some of them side by side.

A run's process also predicts what is asked of it (``Run.parts``) once the run is trained.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dermfuse.config import Config, load_config
from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.errors import ConfigError, DermfuseError, RunError
from dermfuse.records.folders import RunFolder, core_count, lock, new_folder, write_json, write_text

Jobs = int | Literal["auto"] | None
"""Trainings side by side: so many, as many as fit, or what is usual."""

DONE = ("trained", "reused")
"""The states of a run that is trained to its end."""

_FREE = ("threads", "device", "compile")  # where and how a run is trained, not what is trained
State = Literal["waiting", "running", "trained", "reused", "failed"]

Stage = Callable[[str, int, int], None]
"""Called with (what begins, its number from 1, how many)."""

_SECONDS_BETWEEN_LOOKS = 0.5
_SECONDS_TO_STOP = 30
_ERROR_MARK = "dermfuse: error: "
_QUEUE = "DERMFUSE_QUEUE"  # the process that began a training


def parse_jobs(text: str | None) -> Jobs:
    """Returns what ``--jobs`` says.

    Raises:
        ConfigError: It is neither ``auto`` nor a count of 1 or more.
    """
    if text is None:
        return None
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdecimal() and 0 < int(text) <= 10_000):
        raise ConfigError(
            f'--jobs is "{text}"',
            expected="1 or more, or auto for as many as fit",
            action="Give --jobs 2, say",
        )
    return int(text)


@dataclass(frozen=True, slots=True)
class Run:
    """One training.

    Attributes:
        name: Its folder's name.
        preset: What it is made from.
        config: Resolved.
        after: Names of the runs that must be finished before it can begin: they teach it, or it
            starts from one.
        leave_out: A list of what may not be used; see ``dermfuse.data.groups``.
        start: Name of the run whose weights it starts from, which is one of ``after``.
        parts: What its process predicts when it is trained; see ``training.prediction.PARTS``.
    """

    name: str
    preset: str
    config: Config
    after: tuple[str, ...] = ()
    leave_out: Path | None = None
    start: str = ""
    parts: tuple[str, ...] = ()


def identity(config: Config) -> dict[str, Any]:
    """Returns what makes a run this run: not its name, nor where and how it is trained.

    Teachers are known by their names, so that a folder may be moved.
    """
    mapping = config.to_mapping()
    del mapping["name"], mapping["summary"]
    mapping["train"] = {k: v for k, v in mapping["train"].items() if k not in _FREE}
    mapping["train"]["teachers"] = [Path(teacher).name for teacher in config.train.teachers]
    return mapping


@dataclass(frozen=True, slots=True)
class Workplace:
    """Where runs are trained, from what, how many side by side, and until when.

    Args:
        out: The folder of all of them; one that was begun is continued.
        data: The dataset folder, or several.
        imagenet: Folder of ImageNet weights; None downloads them.
        jobs: Trainings side by side; ``auto`` is one per core up to what fits the memory, and so
            is None with a GPU.
        minutes: When trainings are stopped; None trains to the end.

    Raises:
        ConfigError: ``jobs`` or ``minutes`` is not above 0.
    """

    out: Path
    data: DataFolders
    imagenet: Path | None = None
    jobs: Jobs = None
    minutes: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "out", Path(self.out))
        if self.imagenet is not None:
            object.__setattr__(self, "imagenet", Path(self.imagenet))
        if isinstance(self.jobs, int) and self.jobs < 1:
            raise ConfigError(f"jobs is {self.jobs}", expected="1 or more")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"the deadline is {self.minutes:g} minutes", expected="more than 0")

    def run_folder(self, run: Run) -> Path:
        """Returns the run folder."""
        return self.out / "runs" / run.name

    def predictions_folder(self, run: Run) -> Path:
        """Returns the folder of what the run predicts."""
        return self.out / "predictions" / run.name

    def config_file(self, run: Run) -> Path:
        """Returns the file of the resolved configuration."""
        return self.out / "configs" / f"{run.name}.toml"

    def log_file(self, run: Run) -> Path:
        """Returns what the training says."""
        return self.out / "logs" / f"{run.name}.log"

    def open(self, *, what: str, must_exist: bool = False) -> None:
        """Makes the folder, or continues one that was begun; see ``require_place``."""
        self.require_place(what=what, must_exist=must_exist)
        if not (runs := self.out / "runs").is_dir():
            new_folder(runs, what=what)

    def require_place(self, *, what: str, must_exist: bool = False) -> None:
        """Refuses a folder that was not begun here; nothing is written.

        Args:
            what: What is made in it, for messages.
            must_exist: Whether it must have been begun.

        Raises:
            RunError: It holds something else, or is not there and must be.
        """
        is_free = not self.out.exists() or (self.out.is_dir() and not any(self.out.iterdir()))
        if not (self.out / "runs").is_dir() and (must_exist or not is_free):
            raise RunError(
                f"{self.out} {f'is no {what}' if self.out.exists() else 'is missing'}",
                expected="one that was begun by this command"
                + ("" if must_exist else ", or nothing"),
                action="Choose another --out",
            )


@dataclass(frozen=True, slots=True)
class RunProgress:
    """How far one run has come.

    Attributes:
        name: The run's name.
        state: ``reused`` was finished before; ``waiting`` may be half done.
        epoch: Whole epochs that are trained.
        epochs: How many it is to train.
        seconds_per_epoch: Mean so far; None before the end of the first.
        seconds_left: What is left at that rate; None where it is not known, 0 at the end.
        error: Why it failed, in one line; of a waiting run, why it did when it was last tried.
    """

    name: str
    state: State
    epoch: int
    epochs: int
    seconds_per_epoch: float | None
    seconds_left: float | None
    error: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self.state in (*DONE, "failed")


def read_progress(
    run: Run, folder: Path, *, state: State, since: float | None = None
) -> RunProgress:
    """Returns how far a run folder has come.

    Args:
        run: What is trained in it.
        folder: The run folder; it may not be there yet.
        state: As the process that trains it says.
        since: When that process began, in seconds of ``time.time``.
    """
    files = RunFolder(folder)
    epoch, seconds, error = 0, 0.0, ""
    try:
        record = files.read_record() if files.record.is_file() else {}
        epoch, seconds = int(record.get("epochs", 0)), float(record.get("seconds", 0.0))
        if state == "waiting" and record.get("status") == "failed":
            error = str(record.get("error", ""))
    except (DermfuseError, TypeError, ValueError):
        pass  # a folder that is no run's is the training's to refuse
    epochs = run.config.train.epochs
    rate = seconds / epoch if epoch and seconds else None
    left: float | None = 0.0 if state in DONE else None
    if left is None and rate is not None and state != "failed":
        left = rate * max(epochs - epoch, 0)
        if since is not None and files.record.is_file():
            spent = time.time() - max(since, files.record.stat().st_mtime)
            left = max(left - spent, 0.0)
    return RunProgress(run.name, state, epoch, epochs, rate, left, error)


def survey(
    runs: Sequence[Run], place: Workplace, *, finished: State = "reused"
) -> tuple[RunProgress, ...]:
    """Returns how far each run has come, without training any.

    Args:
        runs: The runs.
        place: Where they are trained.
        finished: What a run is called that is trained to its end.
    """
    found = []
    for run in runs:
        folder = place.run_folder(run)
        try:
            state: State = finished if is_finished(run, folder) else "waiting"
            found.append(read_progress(run, folder, state=state))
        except DermfuseError as error:
            failed = read_progress(run, folder, state="failed")
            found.append(replace(failed, error=str(error)))
    return tuple(found)


def is_begun(run: Run, folder: Path) -> bool:
    """Returns whether the folder holds this very run, not trained to its end, with whole epochs."""
    files = RunFolder(folder)
    record = _record_of(files)
    is_open = record.get("status") != "finished" and record.get("epochs", 0) > 0
    return is_open and identity(load_config(files.config)) == identity(run.config)


def is_finished(run: Run, folder: Path) -> bool:
    """Returns whether the folder holds this very run, trained to its end.

    Raises:
        RunError: It holds a finished run of another configuration.
    """
    files = RunFolder(folder)
    if _record_of(files).get("status") != "finished":
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


def seconds_left(runs: Sequence[RunProgress], *, jobs: int) -> float | None:
    """Returns what is left of all runs, ``jobs`` side by side; None where too little is known.

    A run whose rate is not known yet is taken to need as long as the mean of those known.
    """
    open_runs = [run for run in runs if not run.is_over]
    totals = [r.seconds_per_epoch * r.epochs for r in runs if r.seconds_per_epoch]
    if not open_runs:
        return 0.0
    if not totals:
        return None
    mean = sum(totals) / len(totals)
    left = [mean if run.seconds_left is None else run.seconds_left for run in open_runs]
    return max(*left, sum(left) / jobs)


def duration_in_words(seconds: float) -> str:
    """Returns a duration in at most two units.

    Example:
        >>> duration_in_words(59), duration_in_words(3 * 3600 + 120)
        ('59 s', '3 h 2 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "min"), (rest, "s")]
    first = next((i for i, (value, _) in enumerate(parts) if value), 3)
    shown = [(value, unit) for value, unit in parts[first : first + 2] if value]
    return " ".join(f"{value} {unit}" for value, unit in shown) or "0 s"


def range_in_words(least: float, most: float) -> str:
    """Returns a range of durations, or one of them where both are the same in words.

    Example:
        >>> range_in_words(3600, 5400), range_in_words(61.2, 61.4)
        ('1 h to 1 h 30 min', '1 min 1 s')
    """
    words = [duration_in_words(seconds) for seconds in (least, most)]
    return words[0] if words[0] == words[1] else " to ".join(words)


Watch = Callable[[Sequence[RunProgress]], None]
"""Called about once a second with all runs, in their order."""

Command = Callable[[Run, Workplace], list[str]]
"""From a run to the command line of its process."""


def train_command(run: Run, place: Workplace) -> list[str]:
    """Returns ``dermfuse train``, which continues where an interrupted run stopped."""
    command = [sys.executable, "-m", "dermfuse", "train", str(place.config_file(run))]
    for folder in list_folders(place.data):
        command += ["--data", str(folder)]
    command += ["--run", str(place.run_folder(run)), "--resume"]
    command += ["--leave-out", str(run.leave_out)] if run.leave_out else []
    command += ["--from", str(place.out / "runs" / run.start)] if run.start else []
    if run.parts:
        command += ["--predict", str(place.predictions_folder(run)), "--parts", ",".join(run.parts)]
    return command + (["--imagenet", str(place.imagenet)] if place.imagenet else [])


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
    error line of its log, as is what waits for it, and the rest continue. Where this is
    interrupted, or at the deadline, the trainings are stopped; they lose at most an epoch, and
    what was not finished is waiting.

    Args:
        runs: In the order they are begun.
        place: Where they are trained.
        jobs: How many processes side by side; on one GPU they share it.
        deadline: When to stop, in seconds of ``time.monotonic``; None trains to the end.
        watch: Called about once a second.
        command: What the process of a run runs.

    Raises:
        RunError: Another call trains there, or what it began has not ended.
    """
    trainings = _Trainings(runs, place)
    with _alone_in(place.out / "runs") as held:
        try:
            while trainings.waiting or trainings.started:
                if deadline is not None and time.monotonic() >= deadline:
                    trainings.end()
                while len(trainings.started) < jobs and (run := trainings.next()):
                    process = _start(run, place, command(run, place), jobs, held=held)
                    trainings.started.append(process)
                trainings.look()
                if watch:
                    watch(trainings.progress())
                if trainings.started:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
        finally:
            _stop(trainings.started)
    if watch:
        watch(trainings.progress())
    return trainings.progress()


def follow_queue() -> None:
    """Ends this process, if a queue began it, once that is no more: killed, it could not do so."""
    queue = os.environ.pop(_QUEUE, "")

    def watch() -> None:
        while os.getppid() == int(queue):
            time.sleep(1)
        os.kill(os.getpid(), signal.SIGTERM)

    if queue and sys.platform != "win32":  # where a parent's number stays
        threading.Thread(target=watch, daemon=True).start()


@contextmanager
def _alone_in(runs: Path) -> Iterator[tuple[int, ...]]:
    """Keeps other queues out of a folder; yields what trainings inherit to do so until they end."""
    if sys.platform == "win32" or not runs.is_dir():  # nothing is inherited; nothing to train
        yield ()
        return
    handle = os.open(runs / ".lock", os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            lock(handle)
        except BlockingIOError as error:
            raise RunError(
                f"another process trains in {runs}",
                expected="one at a time",
                action="Wait for it, end it, or choose another --out",
            ) from error
        yield (handle,)
    finally:
        os.close(handle)


def _record_of(files: RunFolder) -> dict[str, Any]:
    """Returns the record of a run that has a configuration and weights; else an empty one."""
    is_whole = all(path.is_file() for path in (files.config, files.record, files.weights))
    return files.read_record() if is_whole else {}


@dataclass(slots=True)
class _Started:
    run: Run
    process: "subprocess.Popen[bytes]"
    log_start: int  # where the log begins to be this process's
    began: float = field(default_factory=time.time)


class _Trainings:
    """Which runs wait, which are trained now, and how far all of them have come."""

    def __init__(self, runs: Sequence[Run], place: Workplace) -> None:
        self.place = place
        self.known = {each.name: _without_old_error(each) for each in survey(runs, place)}
        self.waiting = [run for run in runs if self.known[run.name].state == "waiting"]
        self.started: list[_Started] = []

    def progress(self) -> tuple[RunProgress, ...]:
        """Returns how far all have come, in their order."""
        return tuple(self.known.values())

    def next(self) -> Run | None:
        """Takes out the run to begin; fails those that wait for one that failed."""
        for run in list(self.waiting):  # runs that are not among these are there
            states = {name: self.known[name].state for name in run.after if name in self.known}
            failed = [name for name, state in states.items() if state == "failed"]
            if failed:
                error = f"{failed[0]} failed, which it comes after"
                self.known[run.name] = replace(self.known[run.name], state="failed", error=error)
            if failed or all(state in DONE for state in states.values()):
                self.waiting.remove(run)
            if not failed and run not in self.waiting:
                return run
        return None

    def look(self) -> None:
        """Reads how far what was started has come, and takes out what has ended."""
        for each in list(self.started):
            status = each.process.poll()
            self.known[each.run.name] = _look(each, status, self.place)
            if status is not None:
                self.started.remove(each)

    def end(self) -> None:
        """Stops trainings and begins none; one that is trained may predict to its end."""
        ending = [
            each
            for each in self.started
            if not is_finished(each.run, self.place.run_folder(each.run))
        ]
        _stop(ending)
        for each in ending:
            self.started.remove(each)
            (found,) = survey([each.run], self.place, finished="trained")
            self.known[each.run.name] = _without_old_error(found)
        self.waiting = []


def _without_old_error(found: RunProgress) -> RunProgress:
    """Returns a run without the error of the last time, if it is tried again."""
    return replace(found, error="") if found.state == "waiting" else found


def _start(
    run: Run, place: Workplace, command: Sequence[str], jobs: int, *, held: tuple[int, ...]
) -> _Started:
    write_text(place.config_file(run), run.config.to_toml())
    log = place.log_file(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, _QUEUE: str(os.getpid())}
    if jobs > 1 and not run.config.train.threads:  # else each would take every core
        environment.setdefault("OMP_NUM_THREADS", str(max(1, core_count() // jobs)))
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(  # noqa: S603 — our own command, no shell
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            pass_fds=held,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
    return _Started(run, process, log_start)


def _look(each: _Started, status: int | None, place: Workplace) -> RunProgress:
    folder = place.run_folder(each.run)
    if status is None:
        return read_progress(each.run, folder, state="running", since=each.began)
    if status == 0 and is_finished(each.run, folder):
        return read_progress(each.run, folder, state="trained")
    error = _last_error(each, status, place)
    _note_failure(RunFolder(folder), error)
    return replace(read_progress(each.run, folder, state="failed"), error=error)


def _note_failure(files: RunFolder, error: str) -> None:
    """Writes into the record of a run, if it has one, why its training failed."""
    try:
        record = files.read_record()
    except DermfuseError:  # it has none
        return
    if record.get("status") != "finished":
        write_json(files.record, {**record, "status": "failed", "error": error})


def _last_error(each: _Started, status: int, place: Workplace) -> str:
    """Returns the error in a log: dermfuse's own line, or else the last one."""
    content = place.log_file(each.run).read_bytes()[each.log_start :]
    lines = [line for line in content.decode(errors="replace").splitlines() if line.strip()]
    marked = [line for line in lines if line.startswith(_ERROR_MARK)]
    if marked:
        return marked[-1].removeprefix(_ERROR_MARK)
    if status < 0:
        return f"ended by signal {-status}"
    return lines[-1].strip() if lines else f"ended with status {status} and without a message"


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
