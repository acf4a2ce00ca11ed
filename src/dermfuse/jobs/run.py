"""One training of several."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dermfuse.config import Config

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
        leave_out: A list of what may not be used; see ``dermfuse.data.leave_out``.
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
