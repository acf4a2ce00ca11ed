"""A Ray cluster that runs already, of one node, and asks for a token."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("ray", reason="the ray extra is not installed")

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import analyze_paths

from ..small_release import skin, write_small_release

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("ray")]
SECONDS = 90


@pytest.fixture
def cluster() -> Iterator[tuple[str, dict[str, str]]]:
    """Its address, and the environment that holds its token."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    environment = os.environ | token
    head = ["start", "--head", "--block", f"--port={port}", "--num-cpus=2"]
    place = tempfile.mkdtemp(prefix="ray-")  # short: Ray's sockets lie in it
    quiet = ["--include-dashboard=false", "--disable-usage-stats", f"--temp-dir={place}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", *head, *quiet],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        _wait_for(port)
        yield f"127.0.0.1:{port}", environment
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        shutil.rmtree(place, ignore_errors=True)


def _wait_for(port: int) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.5)
    pytest.fail(f"no cluster after {SECONDS} seconds")


def test_its_results_are_those_of_one_process(
    cluster: tuple[str, dict[str, str]], tmp_path: Path
) -> None:
    address, environment = cluster
    release = write_small_release(tmp_path / "release", with_gate=True)
    images = tmp_path / "images"
    images.mkdir()
    for number in range(6):
        Image.fromarray(skin(10 * number)).save(images / f"{number}.png")
    (images / "2.png").write_bytes(b"\x89PNG cut off")
    analyze_paths(Analyzer(release), [images], tmp_path / "alone")
    command = [sys.executable, "-m", "dermfuse", "analyze", str(images), "--release", str(release)]
    out = ["--ray", address, "--out", str(tmp_path / "out")]
    done = subprocess.run(
        [*command, *out], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 3, done.stderr  # one image is broken
    for name in ("results.jsonl", "results.csv", "errors.csv", "report.html"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "alone" / name).read_bytes()
    wrong = environment | {"RAY_AUTH_TOKEN": secrets.token_hex(32)}
    again = subprocess.run(
        [*command, "--ray", address, "--out", str(tmp_path / "none")],
        env=wrong,
        capture_output=True,
        text=True,
        check=False,
    )
    assert again.returncode == 2
    assert f"no Ray cluster answers at {address}" in again.stderr
    assert not (tmp_path / "none" / "results.csv").exists()
