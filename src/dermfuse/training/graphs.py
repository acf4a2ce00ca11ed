"""``train.graph``: the whole training step as one CUDA graph.

The kernels of a step, hundreds of them, are launched one by one, and a small network waits for that
more than for the card. A graph launches them together: augmentation, both passes, clipping and
optimiser, on inputs that lie where they lay when it was captured. This follows PyTorch's recipe for
capturing a whole network: the first steps of each kind run on a side stream, the next one is
captured, and every further one copies its rows to where the graph looks and replays it. All of them
are steps of the training, so it is the training without graphs, step by step.

Batches of one kind have the same shapes: all of a training are, but for a pair network's, which are
of two kinds, one for each method.
"""

from collections import Counter
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from dermfuse.config import TrainConfig
from dermfuse.errors import ConfigError, TrainingError
from dermfuse.training.distributed import Processes
from dermfuse.training.shares import Share

WARM_UP = 3
"""Steps of each kind that are taken before one is captured."""

Step = Callable[[Share], Tensor]
"""Takes a whole step, optimiser included, and returns its loss."""


class GraphedStep:
    """Takes steps, captured once for each kind of batch.

    Args:
        step: The ordinary one; it reads nothing from the device.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._warm: Counter[Hashable] = Counter()
        self._captured: dict[Hashable, tuple[Share, Callable[[], Tensor]]] = {}

    def __call__(self, share: Share, *, kind: Hashable) -> Tensor:
        """Takes a step and returns its loss.

        Args:
            share: What it looks at.
            kind: What else tells its operations from those of other steps.

        Raises:
            TrainingError: If the step cannot be captured.
        """
        key = (kind, share.partner is None, *(tuple(part.shape) for part in share.tensors()))
        if self._warm[key] < WARM_UP:
            self._warm[key] += 1
            return warm_up(partial(self._step, share))
        if key not in self._captured:
            static = share.mapped(torch.clone)
            self._captured[key] = static, capture(partial(self._step, static))
        static, replay = self._captured[key]
        for there, part in zip(static.tensors(), share.tensors(), strict=True):
            there.copy_(part)
        return replay().clone()


def warm_up(step: Callable[[], Tensor]) -> Tensor:
    """Takes a step on a side stream, as PyTorch asks for before a capture."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        loss = step()
    torch.cuda.current_stream().wait_stream(stream)
    return loss


def capture(step: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """Returns what takes ``step`` by replaying it; capturing takes none.

    Raises:
        TrainingError: If an operation of it cannot be captured.
    """
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            loss = step()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise TrainingError(
            f"a training step could not be captured as a CUDA graph ({first_line(error)})",
            expected="operations that a graph can hold",
            action="Set train.graph=false",
        ) from error

    def replay() -> Tensor:
        graph.replay()
        return loss

    return replay


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message.

    Example:
        >>> first_line(RuntimeError("no C++ compiler was found."))
        'no C++ compiler was found'
    """
    return (str(error).strip() or "no reason given").splitlines()[0].rstrip(".")


def settle_optimizer(optimizer: torch.optim.Optimizer, *, graph: bool) -> None:
    """Has an optimiser, one that was read from a run too, be as this training needs it.

    A graph reads its rates from tensors on the device; a saved state may be of another version,
    another device, or of a training with graphs where this one has none.

    Args:
        optimizer: Adam or AdamW, fused.
        graph: Whether its steps are captured.
    """
    for group in optimizer.param_groups:
        group |= {"fused": True, "foreach": None, "capturable": graph}
        device = group["params"][0].device
        rate = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
        group["lr"] = rate if graph else float(group["lr"])
        for parameter in group["params"]:
            state: dict[str, Any] = optimizer.state.get(parameter, {})
            if "step" in state:
                state["step"] = torch.as_tensor(
                    state["step"], dtype=torch.float32, device=parameter.device
                )


def require_graph(train: TrainConfig, accelerator: str, processes: Processes) -> None:
    """Refuses ``train.graph`` where there is no CUDA device, or more than one.

    Raises:
        ConfigError: For either.
    """
    if not train.graph:
        return
    if accelerator != "cuda":
        raise ConfigError(
            "train.graph is true and the training runs on a CPU",
            expected="a CUDA device, whose steps can be captured",
            action="Set train.graph=false",
        )
    if processes.count > 1:
        raise ConfigError(
            f"train.graph is true with {processes.count} devices",
            expected="one device, for the steps of several wait for one another",
            action="Set train.graph=false, or leave --devices out",
        )
