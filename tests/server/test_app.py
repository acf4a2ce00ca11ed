import base64
import io
import json
import re
import struct
import zlib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.isolation import Decoders
from dermfuse.folders import NOTICE
from dermfuse.imaging import reading
from dermfuse.server import service as service_module
from dermfuse.server.settings import Limits

from .conftest import OCTETS, Client

TOKEN = "0123456789abcdef"


def test_an_answer_is_what_the_library_says(client: Client, release: Path, image: bytes) -> None:
    said = Analyzer(release).analyze(image).to_dict()
    server = client()
    raw = server.post("/v1/analyze", content=image, headers=OCTETS)
    form = server.post("/v1/analyze", files={"file": ("a.png", image, "image/png")})
    assert raw.status_code == form.status_code == 200
    assert raw.json() == form.json() == json.loads(json.dumps(said))
    assert raw.headers["cache-control"] == "no-store"


def test_the_operating_point_moves_the_call_alone(client: Client, image: bytes) -> None:
    server = client()
    balanced, sensitive = (
        server.post(f"/v1/analyze?operating_point={name}", content=image, headers=OCTETS).json()
        for name in ("balanced", "sensitivity95")
    )
    assert balanced["malignant_probability"] == sensitive["malignant_probability"]
    assert (balanced["predicted"], sensitive["predicted"]) == ("benign", "malignant")
    assert (balanced["threshold"], sensitive["threshold"]) == (0.5, 0.1)


def test_overlays_are_the_librarys_as_png(client: Client, release: Path, image: bytes) -> None:
    answer = client().post("/v1/analyze?overlays=outline,activation", content=image, headers=OCTETS)
    analysis = Analyzer(release).analyze(image)
    for name, drawn in (
        ("outline", analysis.contour_overlay()),
        ("activation", analysis.activation_overlay()),
    ):
        png = base64.b64decode(answer.json()["overlays"][name])
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))), drawn)


@pytest.mark.parametrize(
    ("query", "found", "expected"),
    [
        ("overlays=outlin", "outlin", "outline or activation"),
        ("overlay=outline", "overlay", "overlays"),
        ("operating_point=high", "high", "balanced, sensitivity95"),
    ],
)
def test_a_parameter_that_is_not_known_is_refused(
    query: str, found: str, expected: str, client: Client, image: bytes
) -> None:
    answer = client().post(f"/v1/analyze?{query}", content=image, headers=OCTETS)
    assert answer.status_code == 400
    assert f'"{found}"' in answer.json()["error"]["found"]
    assert expected in answer.json()["error"]["expected"]


def _huge_png() -> bytes:
    """A small PNG file whose head promises 20,000 x 20,000 pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (16, 16)).save(buffer, "PNG")
    png = buffer.getvalue()
    head = b"IHDR" + struct.pack(">II", 20_000, 20_000) + png[24:29]
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        (b"no image at all", "not an image"),
        (b"", "empty"),
        (_huge_png(), "20000 x 20000 pixels"),
    ],
)
def test_what_is_no_image_is_explained(body: bytes, found: str, client: Client) -> None:
    answer = client().post("/v1/analyze", content=body, headers=OCTETS)
    assert answer.status_code == 422
    record = answer.json()
    assert record["error"].keys() == {"kind", "found", "expected", "action"}
    assert record["error"]["kind"] == "ImageError"
    assert found in record["error"]["found"]
    assert record["request_id"] == answer.headers["x-request-id"]
    assert record["notice"] == NOTICE


def test_dicom_without_the_extra_is_a_type_that_is_not_read(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "find_spec", lambda _: None)
    monkeypatch.setattr(Decoders, "read", lambda _, image, name: reading.read_any(image, name=name))
    answer = client().post("/v1/analyze", content=bytes(128) + b"DICM", headers=OCTETS)
    assert answer.status_code == 415
    assert ".[dicom]" in answer.json()["error"]["action"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/json"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {**OCTETS, "Content-Encoding": "gzip"},
    ],
)
def test_other_types_of_body_are_refused(
    headers: dict[str, str], client: Client, image: bytes
) -> None:
    answer = client().post("/v1/analyze", content=image, headers=headers)
    assert answer.status_code == 415


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_above_the_limit_is_refused(*, chunked: bool, client: Client) -> None:
    server = client(limits=Limits(upload_bytes=1_000))
    read = 0

    def pieces() -> Any:
        nonlocal read
        for _ in range(100):
            read += 1
            yield bytes(400)

    content = pieces() if chunked else bytes(1_001)
    answer = server.post("/v1/analyze", content=content, headers=OCTETS)
    assert answer.status_code == 413
    assert "1,000 bytes or fewer" in answer.json()["error"]["expected"]


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("multipart/form-data", b"x"),
        ("multipart/form-data; boundary=b", b"x"),
        ("multipart/form-data; boundary=b", b"--b--\r\n"),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="other"\r\n\r\nx\r\n--b--\r\n',
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n' * 2 + b"--b--\r\n",
        ),
        (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\ncut off',
        ),
        ("multipart/form-data; boundary=b", b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n"),
    ],
)
def test_a_form_without_one_file_is_refused(content_type: str, body: bytes, client: Client) -> None:
    answer = client().post("/v1/analyze", content=body, headers={"Content-Type": content_type})
    assert answer.status_code == 400
    assert "part called file" in answer.json()["error"]["expected"]


def test_a_token_guards_images_and_the_model_but_not_health(client: Client, image: bytes) -> None:
    server = client(token=TOKEN)
    assert server.get("/v1/health").status_code == 200
    for shown in (None, "Bearer 0123456789abcdeg", f"Basic {TOKEN}", "Bearer \u00e9".encode()):
        headers = OCTETS | ({} if shown is None else {"Authorization": shown})
        for answer in (
            server.post("/v1/analyze", content=image, headers=headers),
            server.get("/v1/model", headers=headers),
        ):
            assert answer.status_code == 401
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.text
    headers = {**OCTETS, "Authorization": f"Bearer {TOKEN}"}
    assert server.post("/v1/analyze", content=image, headers=headers).status_code == 200
    assert server.get("/v1/model", headers=headers).status_code == 200


def test_the_model_is_the_record_of_the_release(client: Client, release: Path) -> None:
    record = client().get("/v1/model").json()
    assert {**record, "digests": None} == {
        **json.loads((release / "release.json").read_text()),
        "digests": None,
    }
    assert record["digests"] == Analyzer(release).digests
    assert record["notice"] == NOTICE


def test_health_says_what_runs(client: Client) -> None:
    record = client().get("/v1/health").json()
    assert record["status"] == "ok"
    assert (record["release"], record["looks"]) == ("small", 1)
    assert client(looks=4).get("/v1/health").json()["looks"] == 4
    assert (record["waiting"], record["running"]) == (0, 0)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("GET", "/v2/x", 404), ("GET", "/v1/analyze", 405)]
)
def test_an_address_that_is_none_is_explained_too(
    method: str, path: str, status: int, client: Client
) -> None:
    answer = client().request(method, path)
    assert answer.status_code == status
    assert answer.json()["error"]["found"]


def test_a_fault_of_ours_has_its_trace_in_the_log_and_not_in_the_answer(
    client: Client,
    image: bytes,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: object) -> NoReturn:
        raise ValueError("the patient's name")

    monkeypatch.setattr(service_module, "answer", fail)
    monkeypatch.setattr("dermfuse.server.watch.LOGGER.propagate", True)
    answer = client().post("/v1/analyze", content=image, headers=OCTETS)
    assert answer.status_code == 500
    assert "ValueError" not in answer.text
    assert "patient" not in answer.text
    fault = next(record for record in caplog.records if record.getMessage() == "fault")
    assert fault.exc_info is not None
    assert fault.exc_info[0] is ValueError


def test_metrics_count_what_was_answered(client: Client, image: bytes) -> None:
    server = client()
    for body in (image, image, b"no image"):
        server.post("/v1/analyze", content=body, headers=OCTETS)
    server.get("/patients/name.jpg")
    counts = server.get("/metrics").text
    for line in (
        'dermfuse_requests_total{route="/v1/analyze",status="200"} 2.0',
        'dermfuse_requests_total{route="/v1/analyze",status="422"} 1.0',
        'dermfuse_requests_total{route="other",status="404"} 1.0',
        'dermfuse_calls_total{call="benign"} 2.0',
        "dermfuse_analysis_seconds_count 2.0",
        f"dermfuse_upload_bytes_sum {2 * len(image)}.0",
        "dermfuse_analyses_running 0.0",
    ):
        assert line in counts.splitlines()
    assert "name.jpg" not in counts


def test_the_pages_ask_nothing_of_others_and_carry_the_notice(client: Client) -> None:
    server = client(token=TOKEN)
    for path in ("/", "/docs"):
        page = server.get(path)
        assert page.status_code == 200
        assert NOTICE in page.text
        assert "//" not in re.sub(r"<!doctype html>", "", page.text)
        assert "default-src 'self'" in page.headers["content-security-policy"]
    assert "POST /v1/analyze" in server.get("/docs").text
    assert "Bearer" in server.get("/docs").text
    assert server.get("/openapi.json").json()["paths"]["/v1/analyze"]["post"]["requestBody"]


def test_answers_carry_the_id_that_a_proxy_gave(client: Client) -> None:
    server = client()
    given = server.get("/v1/health", headers={"X-Request-ID": "0123abcd-0123"})
    assert given.headers["x-request-id"] == "0123abcd-0123"
    made = server.get("/v1/health", headers={"X-Request-ID": "John Doe"})
    assert re.fullmatch("[0-9a-f]{32}", made.headers["x-request-id"])
