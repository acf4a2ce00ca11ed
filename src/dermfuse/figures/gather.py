"""From folders to figures: draws whatever the runs, predictions and truths at hand allow."""

import io
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from dermfuse.config import Task
from dermfuse.data.folders import DataFolders
from dermfuse.errors import DataError, DermfuseError
from dermfuse.evaluation.bootstrap import DRAWS, check_draws
from dermfuse.figures.curves import (
    draw_decision_curves,
    draw_rankings,
    draw_reliability,
    draw_training_curves,
)
from dermfuse.figures.examples import (
    draw_hard_images,
    draw_probability_maps,
    draw_worst_masks,
    draw_wrong_classes,
    mapped_networks,
    measure_hardness,
)
from dermfuse.figures.inside import draw_activation_maps, draw_embeddings, look
from dermfuse.figures.sources import (
    RunSource,
    Sources,
    read_sources,
    scored_groups,
    segmented_networks,
    without_members,
)
from dermfuse.records.folders import NOTICE, atomic_write, new_folder, write_json
from dermfuse.report.page import Picture

_LOG = logging.getLogger(__name__)

Skipped = Callable[[str, str], None]
"""Called with a figure and why it is not drawn."""
_Item = TypeVar("_Item")
_Job = tuple[str, Callable[[], Sequence[Any]], Callable[[Any], Picture]]

CAPTIONS_NAME = "figures.json"
WEBP_QUALITY = 90


def draw_figures(
    runs: Sequence[str | Path],
    predictions: Sequence[str | Path],
    *,
    data: DataFolders,
    draws: int = DRAWS,
    seed: int = 0,
    paper: bool = False,
    skipped: Skipped | None = None,
) -> list[Picture]:
    """Returns all figures that can be drawn from what is there.

    Figs. 8 and 11 need runs; 9 and 10 runs of class networks, their images and torch; 13 and 14
    and the diagnostic plots predictions with a truth; 12 probability maps. Where there is a
    fusion, Figs. 13 and 14 show it alone.

    Args:
        runs: Run folders, of class networks and of U-Nets.
        predictions: Predictions folders, of networks and of fusions.
        data: The dataset folder, or several.
        draws: How many draws the bootstrap has.
        seed: The seed of the bootstrap and of t-SNE.
        paper: Whether the paper's figures alone are drawn.
        skipped: Called with each figure that is not drawn, and why; else it is logged.

    Raises:
        DermfuseError: A folder cannot be used, or no figure can be drawn.
    """
    check_draws(draws, seed)  # before folders are read, which may take minutes
    made = [Path(run) for run in runs], [Path(folder) for folder in predictions]
    sources = read_sources(*made, data=data)
    skip = skipped or (lambda figure, why: _LOG.warning("%s is not drawn: %s", figure, why))
    pictures: list[Picture] = []
    reasons: list[str] = []
    for figure, items, draw in _jobs(sources, draws=draws, seed=seed):
        if paper and not figure.startswith("Fig."):
            continue
        try:
            pictures += _numbered([draw(item) for item in items()])
        except DermfuseError as error:
            reasons.append(str(error))
            skip(figure, reasons[-1])
    if not pictures:
        raise DataError(f"no figure can be drawn ({reasons[0].rstrip('.')})")
    return pictures


def write_figures(
    out: Path,
    pictures: Sequence[Picture],
    *,
    webp: bool = False,
    not_drawn: Sequence[tuple[str, str]] = (),
) -> dict[str, Any]:
    """Writes each picture as a file, and their titles and captions as ``figures.json``.

    Args:
        out: A new or an empty folder.
        pictures: What to write.
        webp: Whether as WebP, a fifth as large and not quite what was drawn, else as PNG.
        not_drawn: (figure, why) of those that are not there.

    Returns:
        What ``figures.json`` says.

    Raises:
        RunError: The folder exists and is not empty.
        StorageError: It cannot be written.
    """
    new_folder(out, what="figures")
    figures = []
    for picture in pictures:
        name = f"{picture.name}.{'webp' if webp else 'png'}"
        with atomic_write(out / name) as file:
            if webp:
                Image.open(io.BytesIO(picture.png)).save(file, "webp", quality=WEBP_QUALITY)
            else:
                file.write(picture.png)
        figures.append({"file": name, "title": picture.title, "caption": picture.caption})
    said = {
        "figures": figures,
        "not_drawn": [{"figure": figure, "why": why} for figure, why in not_drawn],
        "notice": NOTICE,
    }
    write_json(out / CAPTIONS_NAME, said)
    return said


def _jobs(sources: Sources, *, seed: int, draws: int) -> Iterator[_Job]:
    """Yields each figure, what it is drawn of, one for each, and what draws it."""
    looked = cache(lambda: [look(sources, seed=seed)])
    scored = cache(lambda: _some(scored_groups(sources)))
    segmented = cache(lambda: _some(without_members(segmented_networks(sources))))
    hardness = cache(lambda: measure_hardness(sources, segmented()))
    yield "Fig. 8", lambda: _runs(sources, "classification"), draw_training_curves
    yield "Fig. 9", looked, draw_activation_maps
    yield "Fig. 10", looked, partial(draw_embeddings, seed=seed)
    yield "Fig. 11", lambda: _runs(sources, "segmentation"), draw_training_curves
    yield "Fig. 12", lambda: mapped_networks(sources), partial(draw_probability_maps, sources)
    yield "Fig. 13", segmented, lambda one: draw_hard_images(sources, one, hardness())
    yield "Fig. 14, masks", segmented, partial(draw_worst_masks, sources)
    yield "Fig. 14, classes", scored, partial(draw_wrong_classes, sources)
    yield "Reliability diagram", scored, draw_reliability
    rankings = partial(draw_rankings, draws=draws, seed=seed)
    yield "ROC and precision-recall curves", scored, rankings
    yield "Decision curve", scored, draw_decision_curves


def _runs(sources: Sources, task: Task) -> list[list[RunSource]]:
    if runs := sources.runs_for(task):
        return [runs]
    raise DataError(f"there is no run for {task}", expected="one or more run folders")


def _some(found: list[_Item]) -> list[_Item]:
    if found:
        return found
    raise DataError(
        "no predictions folder has what it shows", expected="predictions, and their truth"
    )


def _numbered(pictures: list[Picture]) -> list[Picture]:
    """Returns the figures of one kind, numbered where there are several."""
    if len(pictures) == 1:
        return pictures
    return [replace(each, name=f"{each.name}-{n}") for n, each in enumerate(pictures, start=1)]
