"""Bombs that are sent to a server of two workers: others are answered meanwhile."""

import http.client
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from PIL import Image

import dermfuse
from dermfuse.server.queue import SPARE

from ..small_release import skin, write_small_release
from .bombs import BOMBS, encode

_OCTETS = {"Content-Type": "application/octet-stream"}
_SENT = (
    "webp.lossless", "jpeg.scans", "jpeg.exif", "jpeg.dense", "jpeg.dense progressive",
    "png.deep", "png.chunks", "gif.frames", "dicom.deflated", "dicom.items",
)  # fmt: skip
MOST_SECONDS = 2.0
_IDLE_SECONDS = 0.15  # of an answer where nothing else is to do; elsewhere all is slower
MOST_MB = 600
_PROCESSES = 1 + 2 * (1 + 1 + SPARE)  # multiprocessing's own; two workers with their decoders


@contextmanager
def _server(release: Path) -> Iterator[tuple[int, int]]:
    """Yields the port and the process of a server of two workers."""
    command = [sys.executable, "-m", "dermfuse", "serve", "--port", "0", "--workers", "2"]
    command += ["--threads", "1", "--release", str(release)]
    source = str(Path(dermfuse.__file__).parents[1])
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        env=os.environ | {"PYTHONPATH": source},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        port = urlsplit(process.stdout.readline().split()[-1]).port
        assert port is not None
        yield port, process.pid
    finally:
        process.terminate()
        process.communicate(timeout=60)


def _send(port: int, body: bytes) -> tuple[int, float]:
    """Returns the status of an answer and the seconds until it was there."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    start = time.monotonic()
    try:
        connection.request("POST", "/v1/analyze", body, _OCTETS)
        response = connection.getresponse()
        response.read()
        return response.status, time.monotonic() - start
    finally:
        connection.close()


def _peaks_mb(parent: int) -> list[float]:
    """Returns the largest memory so far of each process that a server has started."""
    found: list[float] = []
    for thread in Path(f"/proc/{parent}/task").iterdir():
        for child in (thread / "children").read_text().split():
            status = Path(f"/proc/{child}/status").read_text()
            found.append(int(status.split("VmHWM:")[1].split()[0]) / 1024)
            found += _peaks_mb(int(child))
    return found


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_normal_image_is_answered_while_ten_bombs_are_sent(tmp_path: Path) -> None:
    normal = encode(Image.fromarray(skin()).resize((1022, 767)), "JPEG", quality=90)
    bombs = [BOMBS[name][0]() for name in _SENT]
    with (
        _server(write_small_release(tmp_path / "release")) as (port, process),
        ThreadPoolExecutor(len(bombs)) as pool,
    ):
        while len(_peaks_mb(process)) < _PROCESSES:  # until both workers have all their decoders
            time.sleep(0.2)
        alone = [_send(port, normal) for _ in range(12)]
        assert {status for status, _ in alone} == {200}
        slowness = max(1.0, sorted(seconds for _, seconds in alone)[6] / _IDLE_SECONDS)
        sent = [pool.submit(_send, port, bomb) for bomb in bombs]
        answers = []
        while not all(each.done() for each in sent):
            answers.append(_send(port, normal))
        statuses = [each.result()[0] for each in sent]
        peaks = _peaks_mb(process)
    assert {status for status, _ in answers} == {200}
    assert max(seconds for _, seconds in answers) < MOST_SECONDS * slowness
    assert set(statuses) <= {200, 413, 422, 503, 504}
    assert max(peaks) < MOST_MB
