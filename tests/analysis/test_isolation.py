"""Decoding in other processes: what they may take, and that nothing they do is believed."""

import io
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis import isolation
from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.batch import BulkOptions, analyze_paths
from dermfuse.analysis.isolation import (
    ANSWER,
    NO_MEMORY,
    PIXELS,
    READY,
    REFUSAL,
    DecoderLimits,
    Decoders,
)
from dermfuse.errors import ConfigError, DecoderError, DermfuseError, ImageError, StorageError
from dermfuse.imaging.reading import read_any

from ..attack.bombs import encode
from ..small_release import skin, write_small_release

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux alone bounds a process's memory")


def _png(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels), "PNG")


def _slow(side: int = 2000) -> bytes:
    """A JPEG with so much coded data that looking through it takes long."""
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return encode(Image.fromarray(pixels), "JPEG", quality=95)


@pytest.fixture(scope="module")
def decoders() -> Iterator[Decoders]:
    with Decoders(1) as found:
        yield found


def _process(decoders: Decoders) -> int:
    """The id of the only decoder, which is idle."""
    (one,) = decoders._idle
    return one._process.pid


def test_a_file_is_read_as_it_is_read_here(
    decoders: Decoders, noise: np.ndarray, tmp_path: Path, build_dicom: Callable[..., bytes]
) -> None:
    for data in (_png(noise), encode(Image.fromarray(noise), "JPEG"), build_dicom(noise)):
        path = tmp_path / "file"
        path.write_bytes(data)
        expected = read_any(data)
        for source in (data, bytearray(data), path, str(path), io.BytesIO(data)):
            np.testing.assert_array_equal(decoders.read(source), expected)
    for source in (noise, Image.fromarray(noise)):
        np.testing.assert_array_equal(Decoders(1).read(source), noise)


@pytest.mark.parametrize(
    "source", [b"", b"\xff\xd8 cut off", "missing.png", Path("a\0b"), "/", 7, io.StringIO("text")]
)
def test_a_refusal_says_what_it_says_here(decoders: Decoders, source: Any) -> None:
    with pytest.raises(DermfuseError) as here:
        read_any(source)
    with pytest.raises(DermfuseError) as there:
        decoders.read(source)
    assert (type(there.value), str(there.value)) == (type(here.value), str(here.value))
    with pytest.raises(DermfuseError, match=r"^lésion: "):
        decoders.read(b"", name="lésion")


@pytest.mark.parametrize(
    ("fault", "kind", "said"),
    [
        (ZeroDivisionError(), REFUSAL, "ZeroDivisionError"),
        (DecoderError("a bomb"), REFUSAL, '"kind": "ImageError", "found": "a bomb"'),
        (MemoryError(), NO_MEMORY, ""),
    ],
)
def test_whatever_a_file_raises_is_one_answer(
    fault: Exception, kind: int, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr(isolation, "read_any", fail)
    found, content = isolation._decode(b"", "a", 10_000)
    assert found == kind
    assert said.encode() in content


def test_one_process_reads_many_files(decoders: Decoders, noise: np.ndarray) -> None:
    decoders.read(_png(noise))
    process = _process(decoders)
    for _ in range(20):
        decoders.read(_png(noise))
        with pytest.raises(ImageError):
            decoders.read(b"nothing")
    assert _process(decoders) == process


@LINUX
def test_no_network_no_secret_and_no_module_of_its_folder_is_loaded_into_it(
    noise: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "numpy.py").write_text("raise SystemExit('loaded')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DERMFUSE_TOKEN", "0123456789abcdef")
    with Decoders(1) as fresh:
        assert fresh.read(_png(noise)).shape == noise.shape
        about = Path(f"/proc/{_process(fresh)}")
        assert b"DERMFUSE_TOKEN" not in (about / "environ").read_bytes()
        maps = (about / "maps").read_text()
    assert "numpy" in maps
    assert not any(name in maps for name in ("onnxruntime", "/torch/", "/ray/"))


@LINUX
def test_a_file_may_take_so_much_memory(noise: np.ndarray) -> None:
    with Decoders(1, limits=DecoderLimits(memory_mb=100)) as decoders:
        with pytest.raises(DecoderError, match=r"^a\.png: decoding it takes more than 100 MB"):
            decoders.read(_png(np.zeros((5000, 5000, 3), np.uint8)), name="a.png")
        assert decoders.read(_png(noise)).shape == noise.shape


def test_a_file_may_take_so_long(noise: np.ndarray) -> None:
    with Decoders(1, limits=DecoderLimits(seconds=0.5)) as decoders:
        decoders.read(_png(noise))
        start = time.monotonic()
        with pytest.raises(DecoderError, match=r"^a\.jpg: decoding it takes longer than 0\.5 s"):
            decoders.read(_slow(), name="a.jpg")
        assert time.monotonic() - start < 5
        assert decoders.read(_png(noise)).shape == noise.shape


def _kill(decoders: Decoders, times: int) -> None:
    """Kills so many decoders one after the other, each while it reads."""
    seen: set[int] = set()
    take = decoders._take

    def take_and_note() -> object:
        one = take()
        if len(seen) < times:
            one._wait_until_ready()
            seen.add(one._process.pid)
            threading.Timer(0.1, os.kill, (one._process.pid, signal.SIGKILL)).start()
        return one

    decoders._take = take_and_note


def test_a_file_that_ends_two_decoders_is_refused() -> None:
    with Decoders(1) as decoders:
        _kill(decoders, 2)
        with pytest.raises(DecoderError, match=r"^a\.jpg: it ended its decoder twice \(SIGKILL\)"):
            decoders.read(_slow(), name="a.jpg")


def test_a_decoder_that_is_ended_once_or_while_it_is_idle_costs_no_file() -> None:
    with Decoders(1) as decoders:
        _kill(decoders, 1)
        assert decoders.read(_slow(900)).shape == (900, 900, 3)
        os.kill(_process(decoders), signal.SIGKILL)
        time.sleep(0.1)
        assert decoders.read(_slow(90)).shape == (90, 90, 3)


def _pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes) -> None:
    """Puts a program in a decoder's place that gives an answer of its own."""
    (tmp_path / "answer").write_bytes(ANSWER.pack(READY, 0, 0) + answer)
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ncat '{tmp_path}/answer'\nexec sleep 60\n")
    program.chmod(0o700)
    monkeypatch.setattr(sys, "executable", str(program))


@pytest.mark.parametrize(
    "answer",
    [
        ANSWER.pack(200, 0, 0),
        ANSWER.pack(PIXELS, 0, 100) + bytes(300),
        ANSWER.pack(PIXELS, 60_000, 60_000),
        ANSWER.pack(REFUSAL, 4_000_000_000, 0),
        ANSWER.pack(REFUSAL, 2, 0) + b"[]",
        ANSWER.pack(REFUSAL, 3, 0) + b"\xff\xfe\xfd",
        ANSWER.pack(REFUSAL, 90_000, 0) + 90_000 * b"[",
        struct.pack("<BI", PIXELS, 3),
    ],
)
def test_an_answer_that_makes_no_sense_ends_its_decoder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes
) -> None:
    _pretend(tmp_path, monkeypatch, answer)
    limits = DecoderLimits(seconds=2)
    with Decoders(1, limits=limits) as decoders, pytest.raises(DecoderError, match=r"^a\.png: "):
        decoders.read(b"bytes", name="a.png")


def test_a_refusal_becomes_no_other_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for kind, made in (("ImageError", ImageError), ("SystemExit", RuntimeError)):
        said = f'{{"kind": "{kind}", "found": "a", "expected": 1, "action": []}}'.encode()
        _pretend(tmp_path, monkeypatch, ANSWER.pack(REFUSAL, len(said), 0) + said)
        with Decoders(1) as decoders, pytest.raises(made) as told:
            decoders.read(b"bytes")
        shown = {ImageError: "a. Expected: 1. [].", RuntimeError: "SystemExit in a decoder: a"}
        assert str(told.value) == shown[made]


@pytest.mark.parametrize("program", ["/bin/false", "/nowhere/python"])
def test_a_decoder_that_does_not_start_is_no_fault_of_the_file(
    monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    with pytest.raises(StorageError, match="no process that decodes can be started"):
        Decoders(1).read(b"bytes")


def test_threads_share_decoders(noise: np.ndarray) -> None:
    with Decoders(2) as decoders, ThreadPoolExecutor(8) as pool:
        found = list(pool.map(decoders.read, [_png(noise)] * 8))
        assert len(decoders._idle) <= 2
    assert all(np.array_equal(pixels, noise) for pixels in found)
    assert decoders._idle == []


def test_limits_that_no_file_meets_are_refused() -> None:
    for limits in ({"memory_mb": 99}, {"seconds": 0}, {"seconds": float("nan")}):
        with pytest.raises(ConfigError):
            DecoderLimits(**limits)
    with pytest.raises(ConfigError, match="0 decoders"):
        Decoders(0)


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_release(tmp_path_factory.mktemp("isolation") / "release")


def test_an_analyzer_that_isolates_answers_as_one_that_does_not(release: Path) -> None:
    data, plain = _png(skin()), Analyzer(release)
    with Decoders(2) as decoders:
        found = Analyzer(release, isolate=decoders)
        assert len(decoders._idle) == 2, "they start while the networks load"
        assert found.analyze(data).to_dict() == plain.analyze(data).to_dict()
        assert found.score(data).to_dict() == plain.score(data).to_dict()
        with pytest.raises(ImageError, match="empty"):
            found.analyze(b"")


def test_what_ends_its_decoder_is_not_tried_again(
    release: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    images, out = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    (images / "bomb.jpg").write_bytes(_slow())
    (images / "damaged.png").write_bytes(b"\x89PNG")
    (images / "skin.png").write_bytes(_png(skin()))
    tried: list[str] = []
    read = Decoders.read

    def read_and_note(self: Decoders, source: Any, *, name: str = "") -> np.ndarray:
        tried.append(name)
        return read(self, source, name=name)

    monkeypatch.setattr(Decoders, "read", read_and_note)
    with Decoders(1, limits=DecoderLimits(seconds=0.5)) as decoders:
        analyzer = Analyzer(release, isolate=decoders)
        first = analyze_paths(analyzer, [images], out)
        left = (out / "results.jsonl").read_bytes()
        assert (first.analysed, first.failed) == (1, 2)
        assert b'"final": true' in left.splitlines()[0]
        assert "takes longer than 0.5 s" in dict(first.errors)["bomb.jpg"]
        tried.clear()
        second = analyze_paths(analyzer, [images], out)
        assert tried == ["damaged.png"]
        assert (second.reused, second.failed) == (1, 2)
        assert second.errors == first.errors
        assert (out / "results.jsonl").read_bytes() == left
        (images / "bomb.jpg").write_bytes(_png(skin()))
        third = analyze_paths(analyzer, [images], out, options=BulkOptions(threads=2))
        assert (third.analysed, third.failed) == (1, 1)
