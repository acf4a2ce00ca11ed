"""What trainings would cost before they are begun: time from a timed step, and disk."""

import heapq
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from dermfuse.config import Config
from dermfuse.data.folders import DataFolders, load_dataset
from dermfuse.data.pairs import CYCLE
from dermfuse.jobs.execution import Workplace, survey
from dermfuse.jobs.progress import RunProgress
from dermfuse.jobs.run import Run
from dermfuse.models import count_parameters
from dermfuse.models.build import build_network
from dermfuse.models.discriminant import DiscriminantNetwork
from dermfuse.scores import Label
from dermfuse.training.train import accelerator_of, precision_of

_TIMED_BATCH = {"cpu": 4, "cuda": 32}
_FORWARD_SHARE = 1 / 3  # of a training step: the backward pass costs about twice the forward
_STATES = 4  # numbers kept per parameter: best weights, last weights, Adam's two moments
_CARD_SHARE = 0.5  # of a run's time on a GPU the card computes; the rest may be another run's


@dataclass(frozen=True, slots=True)
class RunEstimate:
    """What one run is expected to cost.

    Attributes:
        name: Of the run.
        state: ``waiting``, ``reused`` or ``failed``, as the folder says.
        epochs: That are left to train.
        seconds: Until it is trained; 0 where it is.
        basis: What that is inferred from.
        disk_mb: Of the run folder, in 10^6 bytes.
    """

    name: str
    state: str
    epochs: int
    seconds: float
    basis: str
    disk_mb: float


@dataclass(frozen=True, slots=True)
class RunsEstimate:
    """What several runs are expected to cost.

    Attributes:
        runs: In the order they were given.
        jobs: How many are trained side by side.
        seconds: Of all trainings, side by side and each after those it waits for.
    """

    runs: tuple[RunEstimate, ...]
    jobs: int
    seconds: float


def default_jobs() -> int:
    """Returns how many trainings fit this machine side by side: one per core.

    On a CPU each has a core to itself. On a GPU they share the card, which a single process, bound
    by launching kernels, leaves idle half of the time.
    """
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def estimate_runs(
    runs: Sequence[Run],
    place: Workplace,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> RunsEstimate:
    """Returns what runs will cost on this machine; nothing is written.

    A network that a finished run of the folder has trained is taken to need as long per epoch
    again; of any other one step is timed.

    Args:
        runs: What is to be trained.
        place: Where; what is finished there costs nothing more.
        jobs: How many runs are trained side by side.
        progress: Called with (done, all) runs.

    Raises:
        DermfuseError: The dataset cannot be read.
    """
    counts = _counts(place.data)
    states = survey(runs, place)
    known = {
        _kind(run.config): state.seconds_per_epoch
        for run, state in zip(runs, states, strict=True)
        if state.state == "reused" and state.seconds_per_epoch
    }
    timer = _Timer(max(1, default_jobs() // jobs) if jobs > 1 else 0)
    estimates = []
    for number, (run, state) in enumerate(zip(runs, states, strict=True), start=1):
        estimates.append(_estimate_run(run.config, state, known, timer, counts))
        if progress:
            progress(number, len(runs))
    return RunsEstimate(tuple(estimates), jobs, round(_seconds_of_all(runs, estimates, jobs), 1))


def order_runs(runs: Sequence[Run], seconds: Mapping[str, float]) -> tuple[Run, ...]:
    """Returns runs in the order to begin them: those that the longest work hangs on come first.

    Args:
        runs: In any order.
        seconds: Of each run, by name.
    """
    by_name = {run.name: run for run in runs}
    followers: dict[str, list[str]] = {}
    for run in runs:
        for name in run.after:
            followers.setdefault(name, []).append(run.name)

    @cache
    def chain(name: str) -> float:
        return seconds[name] + max(map(chain, followers.get(name, [])), default=0.0)

    return tuple(by_name[name] for name in sorted(by_name, key=lambda name: -chain(name)))


def _seconds_of_all(runs: Sequence[Run], estimates: Sequence[RunEstimate], jobs: int) -> float:
    """Returns how long all runs take, by giving each to the first free job in their order."""
    seconds = {each.name: each.seconds for each in estimates}
    waiting = list(order_runs(runs, seconds))
    ended: dict[str, float] = {}
    going: list[tuple[float, str]] = []  # when a run ends, and which
    now = 0.0
    while waiting or going:
        ready = [run for run in waiting if all(name in ended for name in run.after)]
        for run in ready[: jobs - len(going)]:
            waiting.remove(run)
            heapq.heappush(going, (now + seconds[run.name], run.name))
        if not going:
            break  # what is left waits for runs that are not among these
        now, name = heapq.heappop(going)
        ended[name] = now
    shared = _CARD_SHARE * sum(seconds.values()) if torch.cuda.is_available() else 0.0
    return max(now, shared)


def passes_per_epoch(config: Config, counts: "Counts") -> float:
    """Returns how many images pass forward and backward in one epoch.

    Method 1 shows a pair network each image of a batch once, Method 2 twice as many; they
    alternate 1 : 4. A validation image counts as the third that its forward pass is.
    """
    data, augment = config.data, config.augment
    held_out = _share(data.folds) or data.validation_fraction
    held_out = held_out if data.validates else 0.0
    if config.model.task == "segmentation":
        images = counts.masks
        samples = images + (augment.segmentation_draws if augment.enabled else 0)
    else:
        images = counts.benign + counts.malignant
        benign, malignant = (
            (augment.benign_copies, augment.malignant_copies) if augment.enabled else (1, 1)
        )
        samples = counts.benign * benign + counts.malignant * malignant
    streams = (1 + 2 * (CYCLE - 1)) / CYCLE if config.model.network == "discriminant" else 1.0
    passes = samples * (1 - held_out) * streams + images * held_out * _FORWARD_SHARE
    return passes * (1 - _share(data.outer_folds))


def _share(folds: int) -> float:
    """Returns the share of the images that one of so many folds has; 0 of none."""
    return 1 / folds if folds else 0.0


@dataclass(frozen=True, slots=True)
class Counts:
    """What a data set has to train on.

    Attributes:
        benign: Images labelled benign.
        malignant: Images labelled malignant.
        masks: Images with a mask.
    """

    benign: int
    malignant: int
    masks: int


def _counts(data: DataFolders) -> Counts:
    lesions = load_dataset(data, "train").lesions
    labels = [lesion.label for lesion in lesions]
    return Counts(
        benign=labels.count(Label.BENIGN),
        malignant=labels.count(Label.MALIGNANT),
        masks=sum(lesion.mask_path is not None for lesion in lesions),
    )


def _estimate_run(
    config: Config,
    state: RunProgress,
    known: Mapping[tuple[object, ...], float],
    timer: "_Timer",
    counts: Counts,
) -> RunEstimate:
    per_image, parameters = timer.time(config)
    left = 0 if state.state == "reused" else config.train.epochs - state.epoch
    rate = state.seconds_per_epoch or known.get(_kind(config))
    basis = "a finished run" if rate else "one timed step"
    if state.state == "reused":
        basis = "finished"
    rate = rate or per_image * passes_per_epoch(config, counts)
    disk = 4 * parameters * _STATES / 1e6
    return RunEstimate(state.name, state.state, left, round(left * rate, 1), basis, round(disk, 1))


def _kind(config: Config) -> tuple[object, ...]:
    """Returns what an epoch's time depends on."""
    return config.model, config.data.input_size, config.augment, config.data.folds


class _Timer:
    """Times one step of each network once.

    Args:
        threads: That a run has which names none; 0 for PyTorch's choice.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._known: dict[tuple[object, ...], tuple[float, int]] = {}

    def time(self, config: Config) -> tuple[float, int]:
        """Returns seconds per image of a training step, and the network's parameters."""
        model = config.model
        key = (model.network, model.backbone, config.data.input_size, config.train.precision)
        if key not in self._known:
            threads = config.train.threads or self._threads
            self._known[key] = _time_step(config, threads=threads)
        return self._known[key]


def _time_step(config: Config, *, threads: int) -> tuple[float, int]:
    if threads:
        torch.set_num_threads(threads)
    device = torch.device(accelerator_of(config))
    network = build_network(config.model).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch, size = _TIMED_BATCH[device.type], config.data.input_size
    images = torch.rand(batch, 3, size, size, device=device)
    half = precision_of(config) == "bf16-mixed"
    seconds = 0.0
    for _ in range(2):  # the first warms up
        began = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16, enabled=half):
            # The discriminant branch costs next to nothing beside the backbone.
            paired = isinstance(network, DiscriminantNetwork)
            answer = network.embed(images) if paired else network(images)
        loss = torch.stack([part.float().mean() for part in _tensors(answer)]).sum()
        torch.autograd.backward(loss)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds = time.perf_counter() - began
    return seconds / batch, count_parameters(network, trainable=False)


def _tensors(answer: Any) -> list[Tensor]:  # noqa: ANN401 — a network's own record
    """Returns the tensors of what a network answers: one, or the fields of a record."""
    if isinstance(answer, Tensor):
        return [answer]
    parts = [getattr(answer, f.name) for f in fields(answer)] if is_dataclass(answer) else answer
    return [part for part in parts if isinstance(part, Tensor)]
