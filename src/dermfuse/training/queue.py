"""The queue of ``reproduce`` and ``release``: in which order, how many side by side, until when.

What trainings cost is known before they begin: their time from timed steps, memory and disk.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from functools import cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from dermfuse.config import Config, DataConfig, ModelConfig, has_scores
from dermfuse.data.augment import CYCLE
from dermfuse.data.folders import DataFolders, load_dataset
from dermfuse.data.isic2016 import Label, name_some
from dermfuse.data.splits import Split, read_split
from dermfuse.errors import ConfigError, DermfuseError, RunError, WeightsError
from dermfuse.models import build_network, count_parameters
from dermfuse.models.classifier import DiscriminantNetwork
from dermfuse.records.folders import NOTICE, RunFolder, core_count
from dermfuse.training.distributed import explain_memory
from dermfuse.training.jobs import (
    Command,
    Run,
    RunProgress,
    Watch,
    Workplace,
    duration_in_words,
    survey,
    train_all,
    train_command,
)
from dermfuse.training.samples import TrainingSet, require_classes, select_lesions
from dermfuse.training.train import accelerator_of, precision_of

_TIMED_STEPS = 4
_TIMED_SECONDS = 20.0  # after which no further step of a network is begun, once one is timed
_FORWARD_SHARE = 1 / 3  # of a training step: the backward pass costs about twice the forward
_STATES = 4  # numbers kept per parameter: best weights, last weights, Adam's two moments
_WEIGHT_COPIES = 5  # weights, gradients, Adam's two moments, one while it is written
_CHANNELS = 5  # bytes of a decoded pixel: three colours, the mask and what a teacher says of it
_PROCESS_MB, _CUDA_PROCESS_MB, _CONTEXT_MB = 900.0, 4000.0, 1000.0
"""A process that trains on the CPU, one that trains on a GPU, and what that has of the GPU."""
_CARD_SHARE = 0.5  # of a run's time on a GPU the card computes; the rest may be another run's
_USABLE = 0.9  # of what is free: what a training takes is an estimate
_CGROUPS = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What one run is expected to cost.

    Attributes:
        name: The run.
        state: ``waiting``, ``reused`` or ``failed``, as the folder says.
        epochs: How many are left to train.
        seconds: Until it is trained, at the least; 0 where it is.
        most_seconds: The same at the pace of the slowest step that was timed.
        basis: What that is inferred from.
        disk_mb: Size of the run folder, in 10^6 bytes.
        gpu_mb: GPU memory that its process takes, in 10^6 bytes; 0 where it is not trained.
        ram_mb: The machine's memory that it takes.
    """

    name: str
    state: str
    epochs: int
    seconds: float
    most_seconds: float
    basis: str
    disk_mb: float
    gpu_mb: float = 0.0
    ram_mb: float = 0.0


@dataclass(frozen=True, slots=True)
class Queue:
    """Trainings in the order in which they begin: those that the longest work hangs on come first.

    Attributes:
        runs: The trainings.
        estimates: What each costs.
        jobs: How many are trained side by side.
        seconds: What all take at the least: the longest chain, or all of them shared by the jobs.
        most_seconds: The same at the pace of the slowest steps.
        disk_mb: Size of their folders, in 10^6 bytes.
        spent: Seconds that it took to find that out; they count towards a deadline.
    """

    runs: tuple[Run, ...]
    estimates: tuple[RunEstimate, ...]
    jobs: int
    seconds: float
    most_seconds: float
    disk_mb: float
    spent: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Returns what the trainings will cost as JSON values."""
        return {
            "runs": [asdict(each) for each in self.estimates],
            "jobs": self.jobs,
            "seconds": self.seconds,
            "most_seconds": self.most_seconds,
            "disk_mb": self.disk_mb,
            "notice": NOTICE,
        }


def make_queue(
    runs: Sequence[Run],
    place: Workplace,
    *,
    on_cpu: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Queue:
    """Returns the order, the number and the cost of trainings; nothing is written.

    A network that a finished run of the folder has trained is taken to need as long per epoch
    again; of any other some steps are timed at the run's own batch size. The fastest of them says
    what the machine can do, the slowest what it does while others use it. A run whose steps cannot
    be timed, for want of memory, say, is there with 0 seconds and the reason.

    Args:
        runs: What is to be trained.
        place: Where, and how many side by side; what is finished there costs nothing more.
        on_cpu: How many where the place does not say and there is no GPU.
        progress: Called with (done, all) runs while steps are timed.

    Raises:
        DermfuseError: The dataset cannot be read; see ``require_images``.
    """
    began = time.monotonic()
    if place.imagenet is not None and not place.imagenet.is_dir():
        raise WeightsError(
            f"{place.imagenet} is no folder",
            expected="that of the ImageNet weights",
            action="Correct --imagenet, or leave it out to download them",
        )
    require_images(runs, place)
    images = _count_images(place.data)
    states = survey(runs, place)
    known = {
        _kind(run.config): state.seconds_per_epoch
        for run, state in zip(runs, states, strict=True)
        if state.state == "reused" and state.seconds_per_epoch
    }
    jobs = place.jobs or ("auto" if torch.cuda.is_available() else on_cpu)
    most_jobs = core_count() if jobs == "auto" else jobs
    threads = max(1, core_count() // most_jobs) if most_jobs > 1 else 0
    timed: dict[tuple[object, ...], Pace] = {}
    by_name: dict[str, RunEstimate] = {}
    for number, (run, state) in enumerate(zip(runs, states, strict=True), start=1):
        time_steps = partial(_time_once, run.config, timed, threads)
        by_name[run.name] = _estimate_run(run.config, state, known, images, time_steps)
        if progress:
            progress(number, len(runs))
    hanging = chains(runs, {name: each.seconds for name, each in by_name.items()})
    ordered = tuple(sorted(runs, key=lambda run: -hanging[run.name]))
    estimates = tuple(by_name[run.name] for run in ordered)
    if jobs == "auto":
        jobs = _fitting(estimates)
    least, most = (
        round(_seconds_of_all(ordered, {each.name: of(each) for each in estimates}, jobs), 1)
        for of in (attrgetter("seconds"), attrgetter("most_seconds"))
    )
    disk = round(sum(each.disk_mb for each in estimates), 1)
    return Queue(ordered, estimates, jobs, least, most, disk, time.monotonic() - began)


def require_time(queue: Queue, minutes: float | None) -> None:
    """Refuses a deadline before the end of the first epoch of whatever is trained.

    Raises:
        ConfigError: It is one.
    """
    epochs = [run.seconds / run.epochs for run in queue.estimates if run.epochs and run.seconds]
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
    queue: Queue, place: Workplace, *, watch: Watch | None = None, command: Command = train_command
) -> tuple[RunProgress, ...]:
    """Trains what is not finished, until the deadline of the place; see ``train_all``.

    The deadline includes the time that making the queue took.
    """
    left = None if place.minutes is None else 60 * place.minutes - queue.spent
    deadline = None if left is None else time.monotonic() + left
    return train_all(
        queue.runs, place, jobs=queue.jobs, deadline=deadline, watch=watch, command=command
    )


def require_images(runs: Sequence[Run], place: Workplace) -> None:
    """Refuses runs that cannot be trained on the images that are there, or were not.

    One that is not finished needs both classes on each side of its split. One that is finished,
    and is reused, must have seen none that is left out now or stands on the other side. What else
    keeps a run from its data is the run's to say: others may train without it.

    Raises:
        DataError: A side lacks a class, naming the run.
        RunError: A finished run saw other images.
    """
    select = selections(place.data)
    for run, state in zip(runs, survey(runs, place), strict=True):
        try:
            chosen = select(run)
        except DermfuseError:
            continue
        if state.state == "reused":
            _require_seen(place.run_folder(run), chosen.split)
        elif state.state == "waiting" and has_scores(run.config.model.task):
            require_classes(chosen, run.config, run=run.name)


def selections(data: DataFolders) -> Callable[[Run], TrainingSet]:
    """Returns a function from a run to the images that it sees; runs of the same ones share them.

    Args:
        data: The dataset folder, or several.
    """
    found: dict[tuple[object, ...], TrainingSet] = {}
    usual = DataConfig()

    def select(run: Run) -> TrainingSet:
        config = run.config
        images = replace(config.data, input_size=usual.input_size, fit=usual.fit)
        key = (images, config.model.task, config.train.seed, run.leave_out)
        if key not in found:
            found[key] = select_lesions(data, config, leave_out=run.leave_out)
        return found[key]

    return select


def chains(runs: Sequence[Run], seconds: Mapping[str, float]) -> dict[str, float]:
    """Returns how long the work takes that hangs on each run: itself, and the runs after it.

    Args:
        runs: In any order.
        seconds: What each run takes, by name.
    """

    @cache
    def chain(name: str) -> float:
        return seconds[name] + max(
            (chain(run.name) for run in runs if name in run.after), default=0
        )

    return {run.name: chain(run.name) for run in runs}


class Memory(NamedTuple):
    """What is free, or what one training takes.

    Attributes:
        gpu_mb: GPU memory in 10^6 bytes; 0 without a GPU.
        ram_mb: The machine's memory in 10^6 bytes.
    """

    gpu_mb: float
    ram_mb: float


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

    def fits(count: int) -> bool:
        return all(
            sum(sorted(sizes, reverse=True)[:count]) <= _USABLE * usable
            for sizes, usable in zip(zip(*needs, strict=True), free, strict=True)
        )

    return max((count for count in range(1, min(cores, len(needs)) + 1) if fits(count)), default=1)


def free_ram_mb(
    meminfo: Path = Path("/proc/meminfo"), cgroups: Path = Path("/sys/fs/cgroup")
) -> float:
    """Returns the memory that a process can have, in 10^6 bytes: the machine's, or its container's.

    Args:
        meminfo: Where Linux says what is available; elsewhere half of all is taken to be.
        cgroups: Where it says what a container may use.
    """
    return min(_bytes_free(meminfo, cgroups)) / 1e6


class TrainingImages(NamedTuple):
    """What a data set has to train on.

    Attributes:
        benign: Images labelled benign.
        malignant: Images labelled malignant.
        masks: Images with a mask.
    """

    benign: int
    malignant: int
    masks: int


def count_samples(config: Config, images: TrainingImages) -> int:
    """Returns how many samples an epoch's plan makes of a data set's images."""
    augment = config.augment
    if config.model.task == "segmentation":
        return images.masks + (augment.segmentation_draws if augment.enabled else 0)
    copies = (augment.benign_copies, augment.malignant_copies) if augment.enabled else (1, 1)
    return images.benign * copies[0] + images.malignant * copies[1]


def passes_per_epoch(config: Config, images: TrainingImages) -> float:
    """Returns how many images pass forward and backward in one epoch.

    Method 1 shows a pair network each image of a batch once, Method 2 twice as many; they
    alternate 1 : 4. A validation image counts as the third that its forward pass is.
    """
    data, is_mask = config.data, config.model.task == "segmentation"
    held_out = _share(data.folds) or data.validation_fraction
    held_out = held_out if data.validates else 0.0
    plain = images.masks if is_mask else images.benign + images.malignant
    streams = (1 + 2 * (CYCLE - 1)) / CYCLE if config.model.network == "discriminant" else 1.0
    trained = count_samples(config, images) * (1 - held_out) * streams
    return (trained + plain * held_out * _FORWARD_SHARE) * (1 - _share(data.outer_folds))


@dataclass(frozen=True, slots=True)
class Pace:
    """What a training step of a network takes on this machine.

    Attributes:
        least: Seconds per image of the fastest step that was timed.
        most: The same for the slowest.
        parameters: How many the network has.
        step_mb: Device memory that a step takes beyond weights and their gradients, in
            10^6 bytes.
    """

    least: float
    most: float
    parameters: int
    step_mb: float = 0.0


def _seconds_of_all(runs: Sequence[Run], seconds: Mapping[str, float], jobs: int) -> float:
    """Returns how long all runs take at the least: the longest chain, or all shared by the jobs."""
    total = sum(seconds.values())
    shared = total * max(1 / jobs, _CARD_SHARE if torch.cuda.is_available() else 0.0)
    return max([shared, *chains(runs, seconds).values()])


def _fitting(estimates: Sequence[RunEstimate]) -> int:
    """Returns how many of the runs that wait can be trained side by side."""
    gpu = torch.cuda.mem_get_info()[0] / 1e6 if torch.cuda.is_available() else 0.0
    needs = [Memory(each.gpu_mb, each.ram_mb) for each in estimates if each.state == "waiting"]
    return fitting_jobs(needs, Memory(gpu, free_ram_mb()), cores=core_count())


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


def _count_images(data: DataFolders) -> TrainingImages:
    lesions = load_dataset(data, "train").lesions
    labels = [lesion.label for lesion in lesions]
    masks = sum(lesion.mask_path is not None for lesion in lesions)
    return TrainingImages(labels.count(Label.BENIGN), labels.count(Label.MALIGNANT), masks)


def _require_seen(run: Path, now: Split) -> None:
    """Refuses a finished run that saw an image which may not be used, or not on that side."""
    path = RunFolder(run).split
    if not path.is_file():  # whoever reads the run says so
        return
    before = read_split(path)
    odd = set(before.train).difference(now.train)
    odd |= set(before.validation).difference(now.validation)
    if odd:
        raise RunError(
            f"{run} saw {len(odd)} images that are now left out, or on the other side of the split"
            f" ({name_some(sorted(odd))})",
            expected="the data and the list of what is left out that it was trained with",
            action="Give the same, choose another --out, or remove that run",
        )


def _share(folds: int) -> float:
    """Returns the share of the images that one of so many folds has; 0 of none."""
    return 1 / folds if folds else 0.0


def _estimate_run(
    config: Config,
    state: RunProgress,
    known: Mapping[tuple[object, ...], float],
    images: TrainingImages,
    time_steps: Callable[[], Pace],
) -> RunEstimate:
    left = 0 if state.state == "reused" else config.train.epochs - state.epoch
    basis = "finished" if state.state == "reused" else state.error
    head = (state.name, state.state, left)
    try:
        pace = time_steps() if state.state == "waiting" else None
    except DermfuseError as error:
        pace, basis = None, f"not timed: {error}"
    if pace is None:
        return RunEstimate(*head, 0.0, 0.0, basis, _disk_mb(_count(config.model)))
    rate = state.seconds_per_epoch or known.get(_kind(config))
    passes = passes_per_epoch(config, images)
    least, most = (left * (rate or each * passes) for each in (pace.least, pace.most))
    basis = "a finished run" if rate else "timed steps"
    memory = [round(each, 1) for each in _memory_of(config, pace, images)]
    disk = _disk_mb(pace.parameters)
    return RunEstimate(*head, round(least, 1), round(most, 1), basis, disk, *memory)


def _disk_mb(parameters: int) -> float:
    return round(4 * parameters * _STATES / 1e6, 1)


@cache
def _count(model: ModelConfig) -> int:
    return count_parameters(build_network(model), trainable=False)


def _memory_of(config: Config, pace: Pace, images: TrainingImages) -> Memory:
    """Returns what the process of a training takes: itself, weights, a step, decoded images."""
    # Method 2 sends both images of its pairs through the backbone.
    step = pace.step_mb * (2 if config.model.network == "discriminant" else 1)
    weights = 4 * pace.parameters * _WEIGHT_COPIES / 1e6
    pictures = max(images.benign + images.malignant, images.masks)
    decoded = pictures * config.data.input_size**2 * _CHANNELS / 1e6
    if accelerator_of(config) == "cuda":
        return Memory(_CONTEXT_MB + weights + step + decoded, _CUDA_PROCESS_MB + decoded)
    return Memory(0.0, _PROCESS_MB + weights + step + decoded)


def _kind(config: Config) -> tuple[object, ...]:
    """Returns what an epoch's time depends on."""
    return config.model, config.data.input_size, config.augment, config.data.folds


def _time_once(config: Config, timed: dict[tuple[object, ...], Pace], threads: int) -> Pace:
    """Returns what a training step takes; steps of one network are timed once."""
    model, train = config.model, config.train
    key = (model.network, model.backbone, config.data.input_size, train.batch_size, train.precision)
    if key not in timed:
        with explain_memory(config):
            timed[key] = _time_steps(config, threads=train.threads or threads)
    return timed[key]


def _time_steps(config: Config, *, threads: int) -> Pace:
    """Returns the pace of some steps at the configuration's batch size; the first one warms up."""
    if threads:
        torch.set_num_threads(threads)
    device = torch.device(accelerator_of(config))
    network = build_network(config.model).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch, size = config.train.batch_size, config.data.input_size
    images = torch.rand(batch, 3, size, size, device=device)
    half = precision_of(config) == "bf16-mixed"
    kept: dict[int, int] = {}  # bytes of what the backward pass needs, by address
    seconds: list[float] = []
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    while len(seconds) < 2 or (len(seconds) <= _TIMED_STEPS and sum(seconds) < _TIMED_SECONDS):
        began = time.perf_counter()
        watched = saved_tensors_hooks(partial(_note, kept), lambda x: x)
        with (
            torch.autocast(device.type, torch.bfloat16, enabled=half),
            nullcontext() if seconds else watched,
        ):
            # The discriminant branch costs next to nothing beside the backbone.
            paired = isinstance(network, DiscriminantNetwork)
            answer = network.embed(images) if paired else network(images)
        parts = [answer] if isinstance(answer, Tensor) else answer
        loss = torch.stack([part.float().mean() for part in parts]).sum()
        torch.autograd.backward(loss)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - began)
    timed = seconds[1:]
    parameters = count_parameters(network, trainable=False)
    taken = sum(kept.values())
    if device.type == "cuda":  # what was measured has the workspaces in it
        taken = max(taken, torch.cuda.max_memory_reserved())
        del network, images, answer, parts, loss
        torch.cuda.empty_cache()
    return Pace(min(timed) / batch, max(timed) / batch, parameters, taken / 1e6)


def _note(kept: dict[int, int], tensor: Tensor) -> Tensor:
    """Notes what memory a tensor stands in, and returns it."""
    storage = tensor.untyped_storage()
    kept[storage.data_ptr()] = storage.nbytes()
    return tensor
