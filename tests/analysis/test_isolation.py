"""Decoding in other processes: what they may take, and that nothing they do is believed."""

import io
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import analyze_paths
from dermfuse.analysis.isolation import ANSWER, PIXELS, READY, REFUSAL, DecoderLimits, Decoders
from dermfuse.errors import ConfigError, DecoderError, DermfuseError, ImageError, StorageError
from dermfuse.imaging.reading import read_any

from ..small_release import skin
from .conftest import encode, save_png

linux = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone bounds a process's memory")


def _slow(side: int = 2000) -> bytes:
    """A JPEG with so much coded data that looking through it takes long."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return encode(pixels, "JPEG", quality=95)


def _process(decoders: Decoders) -> int:
    """The id of the only decoder, which is idle."""
    (one,) = decoders._idle
    return one._process.pid


def test_files_are_read_and_refused_as_they_are_here_by_one_process(
    noise: np.ndarray, tmp_path: Path, build_dicom: Callable[..., bytes]
) -> None:
    with Decoders(1) as decoders:
        decoders.read(encode(noise))
        process, path = _process(decoders), tmp_path / "file"
        for data in (encode(noise), encode(noise, "JPEG"), build_dicom(noise)):
            path.write_bytes(data)
            for source in (data, bytearray(data), path, str(path), io.BytesIO(data)):
                np.testing.assert_array_equal(decoders.read(source), read_any(data))
        for source in (noise, Image.fromarray(noise)):
            np.testing.assert_array_equal(decoders.read(source), noise)
        cut = b"\xff\xd8 cut off"
        for source in (b"", cut, "missing.png", Path("a\0b"), "/", 7, io.StringIO("text")):
            with pytest.raises(DermfuseError) as here:
                read_any(source, name="lésion")
            with pytest.raises(type(here.value)) as there:
                decoders.read(source, name="lésion")
            assert str(there.value) == str(here.value)
        assert _process(decoders) == process


@linux
def test_no_network_no_secret_and_no_module_of_its_folder_is_loaded_into_it(
    noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('loaded')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DERMFUSE_TOKEN", "0123456789abcdef")
    with Decoders(1) as fresh:
        assert fresh.read(encode(noise)).shape == noise.shape
        about = Path(f"/proc/{_process(fresh)}")
        assert b"DERMFUSE_TOKEN" not in (about / "environ").read_bytes()
        maps = (about / "maps").read_text()
    assert "numpy" in maps
    assert not any(name in maps for name in ("onnxruntime", "/torch/", "/ray/"))


@linux
def test_a_file_may_take_so_much_memory_and_so_long(noise: np.ndarray) -> None:
    large = encode(np.zeros((5000, 5000, 3), np.uint8))
    for limits, data, said in (
        (DecoderLimits(memory_mb=100), large, "more than 100 MB"),
        (DecoderLimits(seconds=0.5), _slow(), r"longer than 0\.5 s"),
    ):
        with Decoders(1, limits=limits) as decoders:
            with pytest.raises(DecoderError, match=rf"^a\.png: decoding it takes {said}"):
                decoders.read(data, name="a.png")
            assert decoders.read(encode(noise)).shape == noise.shape


def _kill(decoders: Decoders, times: int) -> None:
    """Kills so many decoders one after the other, each while it reads."""
    seen, take = set[int](), decoders._take

    def take_and_note() -> object:
        one = take()
        if len(seen) < times:
            one._wait_until_ready()
            seen.add(one._process.pid)
            threading.Timer(0.1, os.kill, (one._process.pid, signal.SIGKILL)).start()
        return one

    decoders._take = take_and_note


def test_a_file_that_ends_two_decoders_is_refused_and_one_end_costs_none() -> None:
    with Decoders(1) as decoders:
        _kill(decoders, 2)
        with pytest.raises(DecoderError, match=r"^a\.jpg: it ended its decoder twice \(SIGKILL\)"):
            decoders.read(_slow(), name="a.jpg")
    with Decoders(1) as decoders:
        _kill(decoders, 1)
        assert decoders.read(_slow(900)).shape == (900, 900, 3)
        os.kill(_process(decoders), signal.SIGKILL)  # while it is idle
        time.sleep(0.1)
        assert decoders.read(_slow(90)).shape == (90, 90, 3)


def _refusal(said: bytes, size: int = 0) -> bytes:
    return ANSWER.pack(REFUSAL, size or len(said), 0) + said


@pytest.mark.parametrize(
    ("answer", "error", "said"),
    [
        *((answer, DecoderError, r"^a\.png: ") for answer in (
            ANSWER.pack(200, 0, 0), ANSWER.pack(PIXELS, 0, 100) + bytes(300),
            ANSWER.pack(PIXELS, 60_000, 60_000), struct.pack("<BI", PIXELS, 3),
            _refusal(b"", 4_000_000_000), _refusal(b"[]"), _refusal(b"\xff"),
            _refusal(b"[" * 90_000),
        )),
        (_refusal(b'{"kind": "ImageError", "found": "a", "expected": 1, "action": []}'),
         ImageError, r"^a\. Expected: 1\. \[\]\.$"),
        (_refusal(b'{"kind": "SystemExit", "found": "a", "expected": "", "action": ""}'),
         RuntimeError, "^SystemExit in a decoder: a$"),
    ],
)  # fmt: skip
def test_an_answer_that_makes_no_sense_becomes_no_other_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, error: type, said: str
) -> None:
    (tmp_path / "answer").write_bytes(ANSWER.pack(READY, 0, 0) + answer)
    program = tmp_path / "program"  # in a decoder's place
    program.write_text(f"#!/bin/sh\ncat '{tmp_path}/answer'\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))
    limits = DecoderLimits(seconds=2)
    with Decoders(1, limits=limits) as decoders, pytest.raises(error, match=said):
        decoders.read(b"bytes", name="a.png")


def test_a_decoder_that_does_not_start_is_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for program in ("/bin/false", "/nowhere/python"):
        monkeypatch.setattr(sys, "executable", program)
        with pytest.raises(StorageError, match="no process that decodes can be started"):
            Decoders(1).read(b"bytes")


def test_threads_share_decoders(noise: np.ndarray) -> None:
    with Decoders(2) as decoders, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(decoders.read, [encode(noise)] * 8))
        assert len(decoders._idle) <= 2
    assert all(np.array_equal(pixels, noise) for pixels in found)
    assert decoders._idle == []


def test_limits_that_no_file_meets_are_refused() -> None:
    for limits in ({"memory_mb": 99}, {"seconds": 0}, {"seconds": float("nan")}):
        with pytest.raises(ConfigError):
            DecoderLimits(**limits)
    with pytest.raises(ConfigError, match="0 decoders"):
        Decoders(0)


def test_what_ends_its_decoder_is_not_tried_again(
    analyzer: Analyzer, images: Path, out: Path
) -> None:
    (images / "bomb.jpg").write_bytes(_slow())
    with Decoders(1, limits=DecoderLimits(seconds=0.5)) as decoders:
        first = analyze_paths(Analyzer(analyzer.folder, isolate=decoders), [images], out)
    assert (first.analysed, first.failed) == (3, 2)
    assert "takes longer than 0.5 s" in dict(first.errors)["bomb.jpg"]
    left = (out / "results.jsonl").read_bytes()
    second = analyze_paths(analyzer, [images], out)  # which would have the time
    assert (second.reused, second.errors) == (3, first.errors)
    assert (out / "results.jsonl").read_bytes() == left
    save_png(images / "bomb.jpg", skin())
    assert analyze_paths(analyzer, [images], out).analysed == 1
