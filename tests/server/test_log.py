"""What a server writes to stderr: lines of JSON that quote nobody."""

import io
import json
import re
import subprocess
import sys
from pathlib import Path

from PIL import Image

from ..small_release import skin
from .conftest import HEAD, serving

LOUD = r"""
import logging, os, sys, threading, warnings
from dermfuse.server.log import LOGGER, only_json

def fail():
    try:
        {}["patient"]
    except KeyError as error:
        raise ValueError("patient") from error

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


def test_nothing_but_json_reaches_stderr_and_it_quotes_nobody() -> None:
    done = subprocess.run([sys.executable, "-c", LOUD], capture_output=True, text=True, check=True)
    *lines, after, last = done.stderr.splitlines()
    assert (after, last) == ("afterwards", "afterwards")
    assert "patient" not in done.stderr
    records = [json.loads(line) for line in lines]
    assert (records[0]["level"], {"ValueError", "KeyError"} <= {*records[-1]["trace"]}) == (
        "error",
        True,
    )
    found = [(line["logger"], line["event"]) for line in records]
    assert [name for name, _ in found] == [
        "dermfuse.server", "pydicom", "dermfuse.analysis", "asyncio", *["dermfuse.server"] * 3
    ]  # fmt: skip
    events = [event for _, event in found]
    assert events[0] == "ours"
    assert all(re.fullmatch(r"logged at .*<string>:\d+", event) for event in events[1:4])
    assert re.fullmatch(r"UserWarning at .*<string>:\d+", events[4])
    assert events[5:] == ["an exception that nobody caught"] * 2


def test_a_server_logs_requests_as_json_and_quotes_nothing_of_them(
    release: Path, image: bytes
) -> None:
    form = _form(b'form-data; name="file"; filename="patient.png"', image)
    headers = {"Content-Type": "multipart/form-data; boundary=b", "X-Request-ID": "patient"}
    close = b"Connection: close\r\n"
    forms = [
        _form(b'form-data; name="file"; filename="patient\x1b[2K.tif"', _tiff()),
        _form(b'form-data; name="file"; filename="patient.dcm"', bytes(128) + b"DICMpatient"),
        _form(b"patient", b"patient").replace(b"--b\r\n", b"--bpatient\r\n"),
    ]
    head = HEAD.replace(b"application/octet-stream", b"multipart/form-data; boundary=b") + close
    refused = [
        b"PATIENT\x1b[2K\r\n\r\n",
        b"GET /patient%1b%0a?patient=%1b HTTP/1.1\r\nHost: patient\r\n" + close + b"\r\n",
        *(head + b"Content-Length: %d\r\n\r\n" % len(form) + form for form in forms),
        HEAD + close + b"Content-Length: 3\r\n\r\nGIF",
    ]
    upgrade = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, close\r\nUpgrade: patient\r\n\r\n"
    with serving(release) as (server, lines):
        server.ask(
            ("POST", "/v1/analyze?overlays=outline", form, headers),
            ("GET", "/patient.jpg?patient=1", b"", {"User-Agent": "patient"}),
            ("PATIENT", "/v1/health", b"", {}),
        )
        for sent in refused:
            assert server.send(sent).startswith(b"HTTP/1.1 4"), sent
        server.send(upgrade)
    logged = json.dumps(lines, ensure_ascii=False)
    assert [line["event"] for line in lines].count("request") == 3 + len(refused)  # one was no HTTP
    assert [line["status"] for line in lines[:3]] == [200, 404, 405]
    assert [line["route"] for line in lines[:3]] == ["/v1/analyze", "other", "/v1/health"]
    assert lines[0]["received_bytes"] == len(form)
    for secret in ("patient", "outline", "127.0.0.1", "\x1b"):
        assert secret not in logged.lower()


def _form(disposition: bytes, file: bytes) -> bytes:
    return b"--b\r\nContent-Disposition: " + disposition + b"\r\n\r\n" + file + b"\r\n--b--\r\n"


def _tiff() -> bytes:
    """Returns a TIFF whose deflated strip is damaged: libtiff complains on the descriptor."""
    buffer = io.BytesIO()
    Image.fromarray(skin()).save(buffer, "TIFF", compression="tiff_adobe_deflate")
    whole = bytearray(buffer.getvalue())
    strip = whole.index(b"\x78")
    whole[strip + 20 : strip + 60] = b"patient!" * 5
    return bytes(whole)
