"""What is timed: the analysis, its parts, and the same by eager PyTorch."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.bench.rounds import Task
from dermfuse.imaging.geometry import reduce_image
from dermfuse.imaging.measures import measure_lesion
from dermfuse.imaging.quality import appearance, assess_quality
from dermfuse.imaging.reading import read_any
from dermfuse.imaging.symmetries import Looks, mean_looks
from dermfuse.release.folder import read_release
from dermfuse.release.networks import ask_all, join_activations, join_masks, load_networks


def build_tasks(folder: Path, *, looks: Looks, threads: int, with_torch: bool) -> dict[str, Task]:
    """Returns what is timed, by name; those that are compared are neighbours.

    Args:
        folder: A release.
        looks: At how many orientations of an image each network looks, on both sides.
        threads: That one image may use.
        with_torch: Whether PyTorch's side is among them: ``networks_plain``, ``analysis_plain``.
    """
    analyzer = Analyzer(folder, looks=looks, threads=threads, score_all=True)
    bare = _bare(folder, looks, threads)
    if not with_torch:
        return {"score": analyzer.score, "networks": bare, "analysis": analyzer.analyze}
    from dermfuse.bench.eager import EagerEnsemble  # noqa: PLC0415 — torch may be missing

    eager = EagerEnsemble(folder, looks=looks)

    def analyze_plainly(data: bytes) -> None:
        found = eager.find(data)
        _describe(found.image, found.mask)

    return {
        "score": analyzer.score,
        "networks": bare,
        "networks_plain": eager.find,
        "analysis": analyzer.analyze,
        "analysis_plain": analyze_plainly,
    }


def torch_threads(threads: int, *, with_torch: bool) -> AbstractContextManager[None]:
    """Returns a context within which PyTorch uses so many threads, if it is there at all."""
    if not with_torch:
        return nullcontext()
    from dermfuse.bench.eager import limit_threads  # noqa: PLC0415 — torch may be missing

    return limit_threads(threads)


def _bare(folder: Path, looks: Looks, threads: int) -> Task:
    """Returns the analysis without measures: decoding, networks, masks and maps."""
    release = read_release(folder)
    networks = load_networks(folder, release, threads=threads)
    scoring = len(release.classes.members)

    def find(data: bytes) -> None:
        image = Image.fromarray(read_any(data))
        answers = [mean_looks(each) for each in ask_all(networks, image, looks=looks)]
        of_classes, of_masks = answers[:scoring], answers[scoring:]
        join_masks(of_masks, release.masks, height=image.height, width=image.width)
        join_activations(of_classes, release.classes.members)

    return find


def _describe(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Does what both sides do alike: measures, appearance, quality."""
    reduced = reduce_image(image)
    appearance(reduced)
    measures = measure_lesion(image, mask)
    assess_quality(reduced, frame_contact=measures.frame_contact)
