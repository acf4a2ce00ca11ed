"""What a plan would cost before it is begun: time from a timed step, and disk."""

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

import torch
from torch import Tensor

from dermfuse.config import Config
from dermfuse.data.folders import DataFolders, has_split, load_dataset
from dermfuse.data.pairs import CYCLE
from dermfuse.models import count_parameters
from dermfuse.models.build import build_network
from dermfuse.models.discriminant import DiscriminantNetwork
from dermfuse.reproduction.execution import Workplace, survey
from dermfuse.reproduction.plan import Plan
from dermfuse.reproduction.progress import RunProgress
from dermfuse.runs import NOTICE
from dermfuse.scores import Label
from dermfuse.training.train import accelerator_of, precision_of

_TIMED_BATCH = {"cpu": 4, "cuda": 32}
_FORWARD_SHARE = 1 / 3  # of a training step: the backward pass costs about twice the forward
_STATES = 4  # numbers kept per parameter: best weights, last weights, Adam's two moments
_MAP_FACTOR = 8  # an 8-bit map takes about that many times the bytes of its mask


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
class PlanEstimate:
    """What all of it is expected to cost.

    Attributes:
        runs: In the plan's order.
        jobs: How many are trained side by side.
        seconds: Of all trainings, side by side as if none slowed another.
        disk_mb: Of all folders, predictions with maps included, in 10^6 bytes.
    """

    runs: tuple[RunEstimate, ...]
    jobs: int
    seconds: float
    disk_mb: float

    def to_dict(self) -> dict[str, Any]:
        """Returns the estimate as JSON values."""
        return {**asdict(self), "notice": NOTICE}


def estimate(
    plan: Plan,
    place: Workplace,
    *,
    jobs: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> PlanEstimate:
    """Returns what a plan will cost on this machine; nothing is written.

    A network that a finished run of the folder has trained is taken to need as long per epoch
    again; of any other one step is timed.

    Args:
        plan: What is to be trained.
        place: Where; what is finished there costs nothing more.
        jobs: How many runs are trained side by side.
        progress: Called with (done, all) runs.

    Raises:
        DermfuseError: The dataset cannot be read.
    """
    counts = _counts(place.data)
    states = survey(plan.runs, place)
    known = {
        _kind(run.config): state.seconds_per_epoch
        for run, state in zip(plan.runs, states, strict=True)
        if state.state == "reused" and state.seconds_per_epoch
    }
    timer = _Timer()
    estimates = []
    for number, (run, state) in enumerate(zip(plan.runs, states, strict=True), start=1):
        estimates.append(_estimate_run(run.config, state, known, timer, counts))
        if progress:
            progress(number, len(plan.runs))
    seconds = [each.seconds for each in estimates]
    disk = sum(each.disk_mb for each in estimates) + _predictions_mb(plan, place.data)
    total = max([sum(seconds) / jobs, *seconds])
    return PlanEstimate(tuple(estimates), jobs, round(total, 1), round(disk, 1))


def passes_per_epoch(config: Config, counts: "Counts") -> float:
    """Returns how many images pass forward and backward in one epoch.

    Method 1 shows a pair network each image of a batch once, Method 2 twice as many; they
    alternate 1 : 4. A validation image counts as the third that its forward pass is.
    """
    data, augment = config.data, config.augment
    held_out = 1 / data.folds if data.folds else data.validation_fraction
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
    return samples * (1 - held_out) * streams + images * held_out * _FORWARD_SHARE


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
    """Times one step of each network once."""

    def __init__(self) -> None:
        self._known: dict[tuple[object, ...], tuple[float, int]] = {}

    def time(self, config: Config) -> tuple[float, int]:
        """Returns seconds per image of a training step, and the network's parameters."""
        model = config.model
        key = (model.network, model.backbone, config.data.input_size, config.train.precision)
        if key not in self._known:
            self._known[key] = _time_step(config)
        return self._known[key]


def _time_step(config: Config) -> tuple[float, int]:
    if config.train.threads:
        torch.set_num_threads(config.train.threads)
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
