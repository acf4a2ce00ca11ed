"""What a speed was measured on."""

import os
import platform
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Machine:
    """Processor and versions.

    Args:
        cpu: The processor's name.
        cores: Logical cores.
        onnxruntime: Its version.
        torch: PyTorch's; empty where it was not measured.
    """

    cpu: str
    cores: int
    onnxruntime: str
    torch: str = ""


def describe_machine(*, with_torch: bool) -> Machine:
    """Returns what this machine is.

    Args:
        with_torch: Whether PyTorch was measured.
    """
    return Machine(
        cpu=_cpu(),
        cores=os.cpu_count() or 1,
        onnxruntime=metadata.version("onnxruntime"),
        torch=metadata.version("torch") if with_torch else "",
    )


def _cpu() -> str:
    """Returns the processor's name; Linux alone has it in a file."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
