"""How many trainings fit a machine side by side: by its cores, and by what each takes of memory.

Training several runs: a process for each, some of them side by side.

The process of a run predicts what is asked of it (``Run.parts``) once it is trained. Where that was
not to be, for the deadline or a kill came between, another process predicts.

How far a run has come, read from its folder.

One training of several.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from dermfuse.config import Config, load_config
from dermfuse.data.folders import DataFolders, list_folders
from dermfuse.errors import ConfigError, DermfuseError, RunError
from dermfuse.folders import RunFolder, core_count, is_fresh, write_json, write_text
from dermfuse.predictions.folder import MANIFEST_NAME

Jobs = int | Literal["auto"] | None
"""Trainings side by side: so many, as many as fit, or what is usual (see ``choose_jobs``)."""

_USABLE = 0.9  # of what is free: what a training takes is an estimate
_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class Memory:
    """What is free, or what one training takes.

    Attributes:
        gpu_mb: Of the GPU's memory, in 10^6 bytes; 0 without one.
        ram_mb: Of the machine's.
    """

    gpu_mb: float
    ram_mb: float


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


def default_jobs() -> int:
    """Returns how many trainings fit this machine's processor: one per core.

    On a CPU each has a core to itself. On a GPU they share the card, which a single process, bound
    by launching kernels, leaves idle half of the time.
    """
    return core_count()


def fitting_jobs(needs: Sequence[Memory], free: Memory, *, cores: int) -> int:
    """Returns how many trainings fit side by side, whichever they are; 1 at the least.

    Args:
        needs: What each of them takes.
        free: What there is.
        cores: More than so many are of no use.

    Example:
        >>> small, large = Memory(gpu_mb=0, ram_mb=1000), Memory(gpu_mb=0, ram_mb=3000)
        >>> fitting_jobs([small, small, large], Memory(gpu_mb=0, ram_mb=4800), cores=8)
        2
    """
    most = min(cores, len(needs))
    for what in ("gpu_mb", "ram_mb"):
        taken, usable = 0.0, _USABLE * getattr(free, what)
        largest = sorted((getattr(need, what) for need in needs), reverse=True)
        for count, size in enumerate(largest[:most]):
            taken += size
            if taken > usable:
                most = count
                break
    return max(most, 1)


def free_ram_mb(
    meminfo: Path = Path("/proc/meminfo"), cgroups: Path = Path("/sys/fs/cgroup")
) -> float:
    """Returns the memory that a process can have, in 10^6 bytes: the machine's, or its container's.

    Args:
        meminfo: Where Linux says what is available; elsewhere half of all is taken to be.
        cgroups: Where it says what a container may use.
    """
    return min(_bytes_free(meminfo, cgroups)) / 1e6


def _bytes_free(meminfo: Path, cgroups: Path) -> Iterator[float]:
    try:
        lines = dict(line.split(":", 1) for line in meminfo.read_text().splitlines() if ":" in line)
        yield 1024 * float(lines["MemAvailable"].split()[0])
    except (OSError, KeyError, ValueError):
        yield os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2
    for limit, usage in _CGROUPS:
        try:
            yield float((cgroups / limit).read_text()) - float((cgroups / usage).read_text())
        except (OSError, ValueError):  # no such file, or "max"
            continue


_FREE = ("threads", "device", "compile")  # where and how a run is trained, not what is trained


@dataclass(frozen=True, slots=True)
class Run:
    """One training.

    Attributes:
        name: Of its folder.
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

    Teachers are told by their names, so that a folder may be moved.
    """
    mapping = config.to_mapping()
    del mapping["name"], mapping["summary"]
    mapping["train"] = {k: v for k, v in mapping["train"].items() if k not in _FREE}
    mapping["train"]["teachers"] = [Path(teacher).name for teacher in config.train.teachers]
    return mapping


State = Literal["waiting", "running", "trained", "reused", "failed"]


@dataclass(frozen=True, slots=True)
class RunProgress:
    """One run of the overview.

    Attributes:
        name: Of the run.
        state: ``reused`` was finished before; ``waiting`` may be half done.
        epoch: Whole epochs that are trained.
        epochs: That it is to train.
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
        return self.state in ("trained", "reused", "failed")


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
    over = state in ("trained", "reused")
    left: float | None = 0.0 if over else None
    if not over and rate is not None and state != "failed":
        left = rate * max(epochs - epoch, 0)
        if since is not None and files.record.is_file():
            spent = time.time() - max(since, files.record.stat().st_mtime)
            left = max(left - spent, 0.0)
    return RunProgress(run.name, state, epoch, epochs, rate, left, error)


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

    def predictions_folder(self, run: Run) -> Path:
        """Returns the folder of what the run predicts."""
        return self.out / "predictions" / run.name

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
    if run.parts:
        command += ["--predict", str(place.predictions_folder(run)), "--parts", ",".join(run.parts)]
    return command + (["--imagenet", str(place.imagenet)] if place.imagenet else [])


def predict_command(run: Run, place: Workplace) -> list[str]:
    """Returns ``dermfuse predict`` for all parts that the run is asked for."""
    command = [sys.executable, "-m", "dermfuse", "predict", str(place.run_folder(run))]
    for folder in list_folders(place.data):
        command += ["--data", str(folder)]
    return [*command, "--out", str(place.predictions_folder(run)), "--parts", ",".join(run.parts)]


def has_predicted(run: Run, place: Workplace) -> bool:
    """Returns whether all that is asked of a run is predicted, by its weights of now."""
    files, folder = RunFolder(place.run_folder(run)), place.predictions_folder(run)
    made_from = [files.weights, files.record]
    return all(is_fresh(folder / part / MANIFEST_NAME, made_from) for part in run.parts)


def is_begun(run: Run, folder: Path) -> bool:
    """Returns whether the folder holds this very run, not trained to its end, with whole epochs."""
    files = RunFolder(folder)
    if not (files.config.is_file() and files.record.is_file() and files.weights.is_file()):
        return False
    record, before = files.read_record(), identity(load_config(files.config))
    whole = record.get("status") != "finished" and record.get("epochs", 0) > 0
    return whole and before == identity(run.config)


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
    trains: bool  # or predicts alone
    log_start: int  # where the log begins to be this process's
    began: float = field(default_factory=time.time)


def train_all(
    runs: Sequence[Run],
    place: Workplace,
    *,
    jobs: int = 1,
    deadline: float | None = None,
    watch: Watch | None = None,
    command: Command = train_command,
    predict: Command = predict_command,
) -> tuple[RunProgress, ...]:
    """Trains the runs that are not finished, ``jobs`` at a time, and returns how each ended.

    A run begins once those it comes after are finished. One that fails is reported with the last
    error line of its log, as is what waits for it, and the rest go on. Where this is interrupted,
    or at the deadline, the trainings are stopped; they lose at most an epoch, and what was not
    finished is waiting. What such runs are asked to predict is predicted by their whole epochs.

    Args:
        runs: In the order they are begun.
        place: Where they are trained.
        jobs: How many processes side by side; on one GPU they share it.
        deadline: When to stop, in seconds of ``time.monotonic``; None trains to the end.
        watch: Called about once a second.
        command: What the process of a run runs.
        predict: What the process of a run runs that is to predict alone.
    """
    queue = _Queue(runs, place)
    try:
        while queue.is_open:
            if deadline is not None and time.monotonic() >= deadline:
                queue.end_trainings()
            queue.give_up()
            while len(queue.started) < jobs and (each := queue.next()):
                run, trains = each
                made = (command if trains else predict)(run, place)
                queue.started.append(_start(run, place, made, jobs, trains=trains))
            queue.look()
            if watch:
                watch(queue.progress())
            if queue.started:
                time.sleep(_SECONDS_BETWEEN_LOOKS)
    finally:
        _stop(queue.started)
    if watch:
        watch(queue.progress())
    return queue.progress()


class _Queue:
    """Which runs wait, which are going, and how far all of them have come."""

    def __init__(self, runs: Sequence[Run], place: Workplace) -> None:
        self.runs = runs
        self.place = place
        self.known = {run.name: _untried(_initial(run, place)) for run in runs}
        self.waiting = [run for run in runs if self.known[run.name].state == "waiting"]
        self.unpredicted = [run for run in runs if self._lacks_predictions(run)]
        self.started: list[_Started] = []

    @property
    def is_open(self) -> bool:
        """Whether there is something to do."""
        return bool(self.waiting or self.unpredicted or self.started)

    def progress(self) -> tuple[RunProgress, ...]:
        """Returns how far all have come, in their order."""
        return tuple(self.known[run.name] for run in self.runs)

    def next(self) -> tuple[Run, bool] | None:
        """Takes out what is to be begun: a run, and whether it is to be trained."""
        if self.unpredicted:
            return self.unpredicted.pop(0), False
        done = ("trained", "reused")
        for run in self.waiting:  # runs that are not among these are there
            if all(self.known[name].state in done for name in run.after if name in self.known):
                self.waiting.remove(run)
                return run, True
        return None

    def give_up(self) -> None:
        """Fails the runs that wait for one that failed."""
        for run in list(self.waiting):
            failed = [n for n in run.after if n in self.known and self.known[n].state == "failed"]
            if failed:
                self.waiting.remove(run)
                self._fail(run, f"{failed[0]} failed, which it comes after")

    def look(self) -> None:
        """Reads how far what was started has come, and takes out what has ended."""
        for each in list(self.started):
            status = each.process.poll()
            if each.trains:
                self.known[each.run.name] = _look(each, status, self.place)
            if status is not None:
                self.started.remove(each)
                if not each.trains and status:
                    self._fail(each.run, _last_error(each, status, self.place))

    def end_trainings(self) -> None:
        """Stops trainings and begins none; what has whole epochs is left to be predicted by."""
        ending = [each for each in self.started if each.trains and not self._is_trained(each.run)]
        _stop(ending)
        for each in ending:
            self.started.remove(each)
            self.known[each.run.name] = _stopped(each, self.place)
        left = [*(each.run for each in ending), *self.waiting]
        self.waiting = []
        self.unpredicted += [run for run in left if self._lacks_predictions(run)]

    def _is_trained(self, run: Run) -> bool:
        return is_finished(run, self.place.run_folder(run))

    def _lacks_predictions(self, run: Run) -> bool:
        """Returns whether a run could predict and has not; one that waits will do so later."""
        state = self.known[run.name].state
        is_there = state in ("trained", "reused") or (
            state == "waiting"
            and run not in self.waiting
            and is_begun(run, self.place.run_folder(run))
        )
        return is_there and not has_predicted(run, self.place)

    def _fail(self, run: Run, error: str) -> None:
        self.known[run.name] = replace(self.known[run.name], state="failed", error=error)


def _untried(found: RunProgress) -> RunProgress:
    """Returns a run without the error of the last time, if it is tried again."""
    return replace(found, error="") if found.state == "waiting" else found


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


def _stopped(each: "_Started", place: Workplace) -> RunProgress:
    """Returns what became of a run that was stopped; it may have finished by then."""
    folder = place.run_folder(each.run)
    state: State = "trained" if is_finished(each.run, folder) else "waiting"
    return _untried(read_progress(each.run, folder, state=state))


def _start(
    run: Run, place: Workplace, command: Sequence[str], jobs: int, *, trains: bool
) -> _Started:
    write_text(place.config_file(run), run.config.to_toml())
    log = place.log_file(run)
    log.parent.mkdir(parents=True, exist_ok=True)
    environment = dict(os.environ)
    if jobs > 1 and not run.config.train.threads:  # else each would take every core
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // jobs)))
    with log.open("ab") as output:
        log_start = output.tell()
        process = subprocess.Popen(  # noqa: S603 — our own command, no shell
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,  # Ctrl-C is ours to pass on
        )
    return _Started(run, process, trains, log_start)


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
