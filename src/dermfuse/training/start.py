"""A warm start: the best weights of one run as the initial ones of another."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from dermfuse.config import ModelConfig, load_config
from dermfuse.data.splits import read_split
from dermfuse.errors import RunError
from dermfuse.predictions import name_some
from dermfuse.runs import RunFolder
from dermfuse.training.recorder import read_weights

_KEPT = ("preset", "config", "seed", "init", "start", "epochs", "validation")


def load_start(
    network: nn.Module, start: Path, *, model: ModelConfig, validation: Sequence[str]
) -> dict[str, Any]:
    """Loads the best weights of a run into ``network``; returns what a record says of it.

    Args:
        network: Changed in place.
        start: A run folder.
        model: What ``network`` was built from; where its weights come from may differ.
        validation: Images of the lesions that are to be validated on; the other run must not have
            seen them. Without any, every run of the same network will do.

    Raises:
        RunError: ``start`` is no run, is of another network, or trained on ``validation``.
    """
    folder = RunFolder(start)
    folder.require_run(expected="a run to start from, with config.toml and best.safetensors")
    theirs = load_config(folder.config).model
    if (theirs.network, theirs.backbone) != (model.network, model.backbone):
        raise RunError(
            f"{start} trained {_named(theirs)}",
            expected=f"a run of {_named(model)}",
            action="Start from another run, or train the same network",
        )
    if seen := sorted(set(read_split(folder.split).train) & set(validation)):
        raise RunError(
            f"{start} trained on {name_some(seen)}, which would be validated on",
            expected="a run that has not seen the validation images",
            action="Set its train.seed and data settings",
        )
    metadata = read_weights(folder.weights, network)
    record = folder.read_record()
    return {
        "init": f"run {start.resolve().name}",
        "start": {
            **{key: record[key] for key in _KEPT if key in record},
            "epoch": int(metadata.get("epoch", 0)),
        },
    }


def read_origin(folder: RunFolder) -> dict[str, Any]:
    """Returns what a run's record says of where its weights came from, for one that goes on."""
    record = folder.read_record() if folder.record.is_file() else {}
    return {key: record[key] for key in ("init", "start") if key in record}


def require_no_origin(folder: RunFolder) -> None:
    """Refuses to begin a run anew, from other weights, that began from another run's.

    Raises:
        RunError: If it did.
    """
    origin = read_origin(folder)
    if "start" in origin:
        raise RunError(
            f"{folder.path} began from {origin['init']} and has no finished epoch",
            expected="that run, to begin from it again",
            action="Give it with --from",
        )


def _named(model: ModelConfig) -> str:
    return " on ".join(part for part in (model.network, model.backbone) if part)
