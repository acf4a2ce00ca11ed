"""A small release whose gate lets drawn images pass, or some of them."""

from pathlib import Path

from dermfuse.records.folders import read_json, write_json
from dermfuse.release.folder import RELEASE_NAME

from ..small_release import write_small_release


def write_release_for_drawings(folder: Path, *, threshold: float, looks: int = 1) -> Path:
    """Writes the small release; its own threshold fits its own narrow images alone.

    With more looks than one the answers of its networks depend on the orientation.
    """
    write_small_release(folder, with_gate=True, looks=looks, tilted=looks > 1)
    record = read_json(folder / RELEASE_NAME)
    record["gate"]["threshold"] = threshold
    write_json(folder / RELEASE_NAME, record)
    return folder
