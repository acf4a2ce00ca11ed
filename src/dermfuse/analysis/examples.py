"""Three drawn images that are part of the package, and what the networks that ship say of them.

The images are synthetic: they show what an analysis looks like, and nothing about skin.
"""

import time
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, FolderOutcome, analyze_paths, read_results
from dermfuse.errors import DataError

EXAMPLES = ("drawn-1.jpg", "drawn-2.jpg", "drawn-3.jpg")
"""A naevus and two melanomas, at the size of most of ISIC 2016."""


@dataclass(frozen=True, slots=True)
class DemoReport:
    """What the demo came to.

    Args:
        outcome: What lies where.
        analyses: The line of results of each image, in order of name.
        seconds: What it took, loading the networks included.
    """

    outcome: FolderOutcome
    analyses: tuple[dict[str, Any], ...]
    seconds: float

    @property
    def page(self) -> Path:
        """The report."""
        return self.outcome.folder / "report.html"


def example_images() -> tuple[Path, ...]:
    """Returns the paths of the images.

    Raises:
        DataError: This copy of the package has none.
    """
    folder = Path(str(resources.files("dermfuse") / "analysis" / "images"))
    found = tuple(folder / name for name in EXAMPLES)
    if missing := [path.name for path in found if not path.is_file()]:
        raise DataError(
            f"{folder} lacks {', '.join(missing)}",
            expected="the examples that are part of the package",
            action="Install dermfuse again",
        )
    return found


def analyze_examples(out: str | Path, *, release: str | Path | None = None) -> DemoReport:
    """Analyses the example images into a results folder, with overlays and a report.

    Args:
        out: A new or an empty folder, or an earlier demo's.
        release: Networks of your own; the package's if left out.

    Raises:
        ReleaseError: The release cannot be used.
        RunError: The folder holds something else.
        StorageError: It cannot be written.
    """
    out = Path(out)
    release = None if release is None else Path(release)
    began = time.monotonic()
    outcome = analyze_paths(
        Analyzer(release), example_images(), out, options=BulkOptions(overlays=True)
    )
    analyses = tuple(read_results(out))
    return DemoReport(outcome, analyses, time.monotonic() - began)
