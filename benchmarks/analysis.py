"""How fast dermfuse analyses, beside eager float32 PyTorch doing the same work.

| | dermfuse | plain |
|---|---|---|
| networks | ONNX Runtime, in the release's precision | PyTorch modules in float32, random weights |
| input | bytes; scaling lies in the graph | a float tensor of each square |
| masks | maps of one size added, then resized once by Pillow | each resized by torch, then added |
| decoding, measures, quality, appearance | ``dermfuse`` | the same code: it is not compared |

Since the measures are shared, the ratio is given with them and without.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.turns import (
    Task,
    compare,
    describe_drawn,
    describe_machine,
    draw_files,
    latency,
    name_precisions,
    rates,
    read_files,
    require_counts,
    take_turns,
    write_files,
)
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths
from dermfuse.analysis.isolation import Decoders
from dermfuse.imaging.reading import read_any
from dermfuse.imaging.symmetries import Looks, check_looks, mean_looks
from dermfuse.release.folder import choose_release, read_cards, read_release
from dermfuse.release.networks import ask_all, join_activations, join_masks, load_networks

THREADS = (1, 2)
"""Threads of one image, and of a folder; each is measured."""
LATER = 50
"""Analyses after which the memory of a process is read again."""

_CHILD = f"""\
import sys, time
start = time.perf_counter()
from dermfuse.analysis.analyzer import Analyzer
imported = time.perf_counter() - start
from pathlib import Path
def say(): print(imported, next(line.split()[1] for line in
    Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")), flush=True)
analyzer = Analyzer(Path(sys.argv[1]), looks=int(sys.argv[3]))
analyzer.analyze(Path(sys.argv[2]))
say()
for _ in range({LATER}): analyzer.analyze(Path(sys.argv[2]))
say()
"""


def bench_analysis(  # noqa: PLR0913 — an option each
    release: Path | None = None,
    *,
    data: Path | None = None,
    looks: int | None = None,
    images: int = 10,
    rounds: int = 10,
    folder_images: int = 24,
    starts: int = 5,
    plain: bool = True,
) -> dict[str, Any]:
    """Measures an analysis, a score alone, a new process and a folder; returns JSON values.

    Args:
        release: A release folder; the networks of the package if left out.
        data: An image or a folder of them; None draws synthetic ones.
        looks: Orientations at which each network looks, on both sides; the release's if None.
        images: How many of ``data`` are taken, the first ones, or how many are drawn.
        rounds: How often each side does all of them.
        folder_images: Files of the folder that is analysed by one thread and by two.
        starts: New processes whose median is taken.
        plain: Whether PyTorch is measured beside, if it is installed.

    Raises:
        ReleaseError: The release cannot be used.
        DataError: There are no images in ``data``.
        ConfigError: A count is out of range, or PyTorch cannot build a network of the release.
    """
    require_counts(images=images, rounds=rounds, folder_images=folder_images, starts=starts)
    folder = choose_release(release)
    found = read_release(folder)
    cards = read_cards(folder, found)
    looks = check_looks(found.looks if looks is None else looks)
    files = draw_files(images) if data is None else read_files(data, images)
    plain = plain and find_spec("torch") is not None
    with tempfile.TemporaryDirectory(prefix="dermfuse-bench-") as temporary:
        paths = write_files(Path(temporary) / "images", files, folder_images)
        return {
            "release": found.name,
            "networks": [f"{card.name} ({card.input.size} px)" for card in cards],
            "precision": name_precisions(cards),
            "precision_plain": "float32" if plain else None,
            "looks": looks,
            "data": describe_drawn(len(files)) if data is None else str(data),
            "images": len(files),
            "rounds": rounds,
            "threads": [
                _time_images(folder, files, threads, looks, rounds, plain=plain)
                for threads in THREADS
            ],
            "cold_start": _time_starts(folder, paths[0], looks, starts),
            "folder": _time_folder(folder, paths, looks, rounds),
            "machine": describe_machine("onnxruntime", *(["torch"] if plain else [])),
        }


def _time_images(
    folder: Path, files: Sequence[bytes], threads: int, looks: Looks, rounds: int, *, plain: bool
) -> dict[str, Any]:
    analyzer = Analyzer(folder, looks=looks, threads=threads, score_all=True)
    tasks: dict[str, Task] = {"score": analyzer.score, "networks": _bare(folder, looks, threads)}
    if plain:
        from benchmarks.eager import EagerEnsemble  # noqa: PLC0415 — torch may be missing

        eager = EagerEnsemble(folder, looks=looks, threads=threads)
        tasks["networks_plain"] = eager.find
        tasks["analysis"] = analyzer.analyze
        tasks["analysis_plain"] = eager.analyze
    else:
        tasks["analysis"] = analyzer.analyze
    blocks = take_turns(tasks, files, rounds=rounds)
    record: dict[str, Any] = {"threads": threads}
    for name in tasks:
        record |= latency(blocks[name], name)
    for name in ("analysis", "networks") if plain else ():
        record |= compare(rates(blocks[name]), rates(blocks[f"{name}_plain"]), name)
    return record


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


def _time_folder(folder: Path, paths: Sequence[Path], looks: Looks, rounds: int) -> dict[str, Any]:
    """Returns the images per second of two threads beside those of one; they take turns."""
    decoders = Decoders.patient(max(THREADS))
    analyzer = Analyzer(folder, looks=looks, isolate=decoders)  # as the command has them
    found: dict[int, list[float]] = {threads: [] for threads in THREADS}
    for _ in range(rounds):
        for threads in THREADS:
            with tempfile.TemporaryDirectory(prefix="dermfuse-bench-") as out:
                start = time.perf_counter()
                options = BulkOptions(threads=threads, report=False)
                outcome = analyze_paths(analyzer, paths, Path(out) / "out", options=options)
                found[threads].append(outcome.analysed / (time.perf_counter() - start))
    one, two = (found[threads] for threads in THREADS)
    return {
        "images": len(paths),
        "images_per_second_1_thread": round(statistics.median(one), 2),
        "images_per_second_2_threads": round(statistics.median(two), 2),
        **compare(two, one, "two_threads"),
    }


def _time_starts(release: Path, image: Path, looks: Looks, starts: int) -> dict[str, Any]:
    """Returns what new processes cost until their first analysis is there; medians. Linux alone."""
    command = [sys.executable, "-c", _CHILD, str(release), str(image), str(looks)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    seconds, imported, peaks, later = [], [], [], []
    for _ in range(starts):
        start = time.perf_counter()
        with subprocess.Popen(  # noqa: S603 — this Python, and a program that stands above
            command, stdout=subprocess.PIPE, text=True, env=environment
        ) as child:
            first = (child.stdout.readline() if child.stdout else "").split()
            seconds.append(time.perf_counter() - start)
            last = (child.stdout.readline() if child.stdout else "").split()
        if child.returncode:
            raise subprocess.CalledProcessError(child.returncode, command[:2])
        imported.append(float(first[0]))
        peaks.append(int(first[1]) / 1024)
        later.append(int(last[1]) / 1024)
    return {
        "starts": starts,
        "first_analysis_seconds": round(statistics.median(seconds), 3),
        "import_seconds": round(statistics.median(imported), 3),
        "peak_mb": round(statistics.median(peaks), 1),
        "later_images": LATER,
        "later_peak_mb": round(statistics.median(later), 1),
    }


def to_json(record: dict[str, Any]) -> str:
    """Returns a report as it is printed and written."""
    return json.dumps(record, indent=2) + "\n"
