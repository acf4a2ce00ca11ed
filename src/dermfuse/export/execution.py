"""Runs exported networks with ONNX Runtime, compares them, times them."""

import time
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dermfuse.export.reference import IMAGES_AT_ONCE, Answers
from dermfuse.export.tracing import INPUT
from dermfuse.release.cards import Parity

PROBABILITIES = frozenset({"malignant", "lesion"})
"""Outputs whose differences are taken as they are; of others, as a share of the largest value."""


def open_session(network: Path | bytes) -> onnxruntime.InferenceSession:
    """Returns a network, from its file or the file's bytes, on one thread of the CPU."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    source = network if isinstance(network, bytes) else str(network)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def run_onnx(session: onnxruntime.InferenceSession, images: NDArray[np.uint8]) -> Answers:
    """Returns what a network answers about images (N, S, S, 3), a few at a time."""
    names = [output.name for output in session.get_outputs()]
    parts = [
        session.run(names, {INPUT: images[first : first + IMAGES_AT_ONCE]})
        for first in range(0, len(images), IMAGES_AT_ONCE)
    ]
    return {name: np.concatenate([part[i] for part in parts]) for i, name in enumerate(names)}


def measure_parity(answers: Answers, reference: Answers, *, against: str) -> Parity:
    """Returns how far answers are from those of another form of the same network.

    Args:
        answers: Of one form.
        reference: Of the other.
        against: What the other is called.
    """
    differences = {}
    for name, expected in reference.items():
        unit = 1.0 if name in PROBABILITIES else max(float(np.abs(expected).max()), 1e-12)
        differences[name] = float(np.abs(answers[name] - expected).max()) / unit
    images = len(next(iter(reference.values())))
    return Parity(against=against, images=images, largest_difference=differences)


def time_networks(
    networks: list[Path], image: NDArray[np.uint8], *, repeats: int = 20
) -> list[float]:
    """Returns the median milliseconds of one image on one thread, for each network.

    They take turns, and the thread's own time is counted, so that what else the machine does
    disturbs all of them alike and little.

    Args:
        networks: Their files.
        image: (S, S, 3).
        repeats: Runs of each, after one that is not counted.
    """
    sessions = [open_session(path) for path in networks]
    took: list[list[float]] = [[] for _ in sessions]
    for turn in range(repeats + 1):
        for session, seconds in zip(sessions, took, strict=True):
            start = time.thread_time()
            session.run(None, {INPUT: image[None]})
            if turn:
                seconds.append(time.thread_time() - start)
    return [1000 * float(np.median(seconds)) for seconds in took]
