"""``train.compile``: the forward pass of a training step as ``torch.compile`` makes it."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import torch

from dermfuse.config import TrainConfig
from dermfuse.errors import ConfigError

_Pass = TypeVar("_Pass", bound=Callable[..., Any])


def compile_pass(function: _Pass, train: TrainConfig) -> _Pass | None:
    """Returns ``function`` compiled, or None if the configuration does not ask for it.

    A function is compiled and not its module: a compiled module is a wrapper whose parameters
    have other names, and those of a state dict are a public format.
    """
    return cast("_Pass", torch.compile(function)) if train.compile else None


def require_compiler(train: TrainConfig, accelerator: str) -> None:
    """Refuses ``train.compile`` where nothing can be compiled, by compiling very little.

    Args:
        train: Whether it is asked for.
        accelerator: ``cpu`` or ``cuda``; each needs compilers of its own.

    Raises:
        ConfigError: If there is no compiler, or it does not work.
    """
    if not train.compile:
        return
    try:
        torch.compile(_double)(torch.ones(2, device=accelerator))
    except (RuntimeError, ImportError, OSError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else "no reason given"
        raise ConfigError(
            f"train.compile is true and torch.compile does not work here ({reason.rstrip('.')})",
            expected="a C++ compiler, and Triton for CUDA",
            action="Install them or set train.compile=false",
        ) from error


def _double(x: torch.Tensor) -> torch.Tensor:
    return x + x
