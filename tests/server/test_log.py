import io
import json
import logging
import re
import socket
import subprocess
import sys
from pathlib import Path

from PIL import Image

from dermfuse.server.watch import LOGGER, render

from ..small_release import skin
from .conftest import HEAD, read_all

LOUD = r"""
import logging, os, sys, threading, warnings
from dermfuse.server.watch import LOGGER, only_json

def fail():
    raise ValueError("patient")

with only_json():
    LOGGER.error("ours")
    logging.getLogger("pydicom").warning("patient %s", "patient")
    logging.getLogger("dermfuse.analysis").warning("patient")
    logging.getLogger("asyncio").error("patient\npatient")
    warnings.warn("patient\x1b[2K")
    os.write(2, b"patient\n")
    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    o = type("O", (), {"__del__": lambda self: fail()})()
    del o
sys.stderr.write("afterwards\n")
os.write(2, b"afterwards\n")
"""


def fail(causes: dict[str, int]) -> None:
    try:
        causes["patient"]
    except KeyError as error:
        raise ValueError("patient") from error


def test_a_line_is_json_with_the_trace_and_without_what_an_exception_says() -> None:
    try:
        fail({})
    except ValueError:
        record = logging.LogRecord(
            LOGGER.name, logging.ERROR, "p", 1, "fault\npatient", None, sys.exc_info()
        )
    record.facts = {"request_id": "7"}
    line = render(record)
    assert "patient" not in line
    found = json.loads(line)
    assert (found["level"], found["event"], found["request_id"]) == ("error", "fault", "7")
    assert "ValueError" in found["trace"]
    assert "KeyError" in found["trace"]
    assert any("test_log.py" in step for step in found["trace"])


def test_nothing_but_json_reaches_stderr_and_it_quotes_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", LOUD], capture_output=True, text=True, check=True)
    *lines, after, last = done.stderr.splitlines()
    assert (after, last) == ("afterwards", "afterwards")
    assert "patient" not in done.stderr
    found = [(line["logger"], line["event"]) for line in map(json.loads, lines)]
    assert [name for name, _ in found] == [
        "dermfuse.server", "pydicom", "dermfuse.analysis", "asyncio", *["dermfuse.server"] * 3
    ]  # fmt: skip
    events = [event for _, event in found]
    assert events[0] == "ours"
    assert all(re.fullmatch(r"logged at .*<string>:\d+", event) for event in events[1:4])
    assert re.fullmatch(r"UserWarning at .*<string>:\d+", events[4])
    assert events[5:] == ["an exception that nobody caught"] * 2


def test_a_server_says_all_it_says_in_json_and_quotes_no_request(release: Path) -> None:
    command = [sys.executable, "-m", "dermfuse", "serve", "--port", "0", "--threads", "1"]
    command += ["--release", str(release)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    port = int(process.stdout.readline().rpartition(":")[2])
    sent = [
        b"PATIENT\x1b[2K\r\n\r\n",
        b"GET /patient%1b%0a?patient=%1b HTTP/1.1\r\nHost: patient\r\nConnection: close\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: patient\r\n\r\n",
        _form(b'form-data; name="file"; filename="patient\x1b[2K.tif"', _tiff()),
        _form(b'form-data; name="file"; filename="patient.dcm"', bytes(128) + b"DICMpatient"),
        _form(b"patient", b"patient").replace(b"--b\r\n", b"--bpatient\r\n"),
        HEAD + b"Connection: close\r\nContent-Length: 3\r\n\r\nGIF",
    ]
    try:
        answers = [_say(port, each) for each in sent]
    finally:
        process.terminate()
        _, logged = process.communicate(timeout=60)
    assert all(answer.startswith(b"HTTP/1.1 4") for answer in answers[:2] + answers[3:]), answers
    lines = [json.loads(line) for line in logged.splitlines()]
    assert [line["event"] for line in lines].count("request") == len(sent) - 1  # one was no HTTP
    assert "patient" not in logged.lower()
    assert "\x1b" not in logged


def _form(disposition: bytes, file: bytes) -> bytes:
    head = HEAD.replace(b"application/octet-stream", b"multipart/form-data; boundary=b")
    body = b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + file + b"\r\n--b--"
    return head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def _tiff() -> bytes:
    """Returns a TIFF whose deflated strip is damaged: libtiff complains on the descriptor."""
    buffer = io.BytesIO()
    Image.fromarray(skin()).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    whole = bytearray(buffer.getvalue())
    strip = whole.index(b"\x78")
    whole[strip + 20 : strip + 60] = b"patient!" * 5
    return bytes(whole)


def _say(port: int, sent: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        return read_all(connection)
