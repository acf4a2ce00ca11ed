"""What the interface answers: what the library says, as OpenAPI declares it."""

import base64
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import jsonschema
import numpy as np
import pytest
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.analysis.isolation import Decoders
from dermfuse.imaging import reading
from dermfuse.imaging.overlays import encode_png
from dermfuse.records.folders import NOTICE
from dermfuse.server import service as service_module
from dermfuse.server.app import create_app
from dermfuse.server.settings import Limits, ServerSettings

from ..shipped_release import shipped_release
from ..small_release import write_small_release
from .conftest import OCTETS, TOKEN, Client

ANALYZE = "/v1/analyze"
OVERLAYS = "/v1/analyze?overlays=outline,activation"
FORM = {"Content-Type": "multipart/form-data; boundary=b"}
PART = b'--b\r\nContent-Disposition: form-data; name="%s"\r\n\r\nx\r\n'
Valid = Callable[[dict[str, Any], str], None]


@pytest.fixture(scope="module")
def document(release: Path) -> dict[str, Any]:
    """The OpenAPI document."""
    return create_app(ServerSettings(release=release)).openapi()


@pytest.fixture(scope="module")
def valid(document: dict[str, Any]) -> Valid:
    """Holds a record against a schema of the document."""

    def check(record: dict[str, Any], name: str) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(record)

    return check


@pytest.fixture(scope="module")
def checked(valid: Valid) -> Callable[..., dict[str, Any]]:
    """Returns the JSON of an answer that has a status, and the schema declared for it."""

    def check(answer: Any, status: int = 200, *, schema: str = "") -> dict[str, Any]:
        assert answer.status_code == status, answer.text
        record: dict[str, Any] = answer.json()
        valid(record, schema or ("AnalysisRecord" if status == 200 else "ErrorRecord"))
        assert record["notice"] == NOTICE
        return record

    return check


def test_every_status_has_its_schema(document: dict[str, Any]) -> None:
    answers = document["paths"][ANALYZE]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "408", "413", "415", "422", "500", "503", "504"}
    for status, answer in answers.items():
        name = "AnalysisRecord" if status == "200" else "ErrorRecord"
        schema = answer["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}


def test_an_answer_is_what_the_library_says_but_for_the_operating_point(
    client: Client, release: Path, image: bytes, checked: Any
) -> None:
    server, analysis = client(), Analyzer(release).analyze(image)
    raw = server.post(ANALYZE, content=image, headers=OCTETS)
    form = server.post(ANALYZE, files={"file": ("a.png", image, "image/png")})
    assert checked(raw) == checked(form) == json.loads(json.dumps(analysis.to_dict()))
    assert raw.headers["cache-control"] == "no-store"
    drawn = checked(server.post(OVERLAYS, content=image, headers=OCTETS))["overlays"]
    for name, overlay in (
        ("outline", analysis.contour_overlay()),
        ("activation", analysis.activation_overlay()),
    ):
        png = Image.open(io.BytesIO(base64.b64decode(drawn[name])))
        assert np.array_equal(np.asarray(png), overlay)
    query = "?overlays=outline&operating_point=sensitivity95"
    other = checked(server.post(f"{ANALYZE}{query}", content=image, headers=OCTETS))
    assert other.pop("overlays").keys() == {"outline"}
    moved = {key for key, value in checked(raw).items() if other[key] != value}
    assert moved == {"predicted", "operating_point", "threshold"}
    assert (other["predicted"], other["threshold"]) == ("malignant", 0.1)


def test_a_key_that_is_missing_or_added_would_be_seen(
    client: Client, image: bytes, valid: Valid
) -> None:
    answer = client().post(ANALYZE, content=image, headers=OCTETS).json()
    odd = [{key: answer[key] for key in answer if key != left_out} for left_out in answer]
    for record in (*odd, answer | {"more": 1}, answer | {"malignant_probability": 1.5}):
        with pytest.raises(jsonschema.ValidationError):
            valid(record, "AnalysisRecord")


def test_what_is_withheld_shows_nothing(client: Client, tmp_path: Path, checked: Any) -> None:
    page = encode_png(np.full((48, 64, 3), 255, np.uint8))
    server = client(release=write_small_release(tmp_path / "gated", with_gate=True))
    answer = checked(server.post(OVERLAYS, content=page, headers=OCTETS))
    assert answer["overlays"] == {"outline": None, "activation": None}
    assert (answer["malignant_probability"], answer["outline"], answer["measures"]) == (None,) * 3


def huge_png() -> bytes:
    """A small PNG file whose head promises 20,000 x 20,000 pixels."""
    png = encode_png(np.zeros((16, 16, 3), np.uint8))
    head = b"IHDR" + struct.pack(">II", 20_000, 20_000) + png[24:29]
    return png[:12] + head + struct.pack(">I", zlib.crc32(head)) + png[33:]


JSON = {"Content-Type": "application/json"}
ONE_FILE = "part called file"


@pytest.mark.parametrize(
    ("status", "query", "headers", "body", "said"),
    [
        (400, "?overlays=outlin", OCTETS, b"x", '"outlin". Expected: outline or activation'),
        (400, "?overlay=outline", OCTETS, b"x", '"overlay". Expected: overlays'),
        (400, "?operating_point=high", OCTETS, b"x", '"high". Expected: one of balanced, '),
        (400, "", FORM, b"x", ONE_FILE),
        (400, "", FORM, b"--b--\r\n", ONE_FILE),
        (400, "", FORM, PART % b"other" + b"--b--\r\n", ONE_FILE),
        (400, "", FORM, PART % b"file" * 2 + b"--b--\r\n", ONE_FILE),
        (400, "", FORM, PART % b"file" + b"cut off", ONE_FILE),
        (400, "", FORM, b"--b\r\nno header\r\n\r\nx\r\n--b--\r\n", ONE_FILE),
        (413, "", OCTETS, bytes(1_001), "1,000 bytes or fewer"),
        (415, "", JSON, b"x", "application/octet-stream"),
        (415, "", {**OCTETS, "Content-Encoding": "gzip"}, b"x", "no Content-Encoding"),
        (422, "", OCTETS, b"no image at all", "not an image"),
        (422, "", OCTETS, b"", "empty"),
        (422, "", OCTETS, huge_png(), "20000 x 20000 pixels"),
    ],
)
def test_what_cannot_be_answered_is_explained(
    status: int, query: str, headers: Any, body: bytes, said: str, client: Client, checked: Any
) -> None:
    server = client(limits=Limits(upload_bytes=1_000))
    answer = server.post(f"{ANALYZE}{query}", content=body, headers=headers)
    record = checked(answer, status)
    assert record["request_id"] == answer.headers["x-request-id"]
    error = record["error"]
    assert said in f"{error['found']}. Expected: {error['expected']}. {error['action']}"
    assert error["kind"] == "ImageError" or status != 422


def test_dicom_without_the_extra_is_a_type_that_is_not_read(
    client: Client, monkeypatch: pytest.MonkeyPatch, checked: Any
) -> None:
    monkeypatch.setattr(reading, "find_spec", lambda _: None)
    monkeypatch.setattr(Decoders, "read", lambda _, image, name: reading.read_any(image, name=name))
    answer = client().post(ANALYZE, content=bytes(128) + b"DICM", headers=OCTETS)
    assert ".[dicom]" in checked(answer, 415)["error"]["action"]


def test_a_token_guards_images_and_the_model_but_not_health(
    client: Client, image: bytes, checked: Any
) -> None:
    server = client(token=TOKEN)
    assert server.get("/v1/health").status_code == 200
    for shown in (None, "Bearer 0123456789abcdeg", f"Basic {TOKEN}", "Bearer \u00e9".encode()):
        headers = OCTETS | ({} if shown is None else {"Authorization": shown})
        for answer in (
            server.post(ANALYZE, content=image, headers=headers),
            server.get("/v1/model", headers=headers),
        ):
            checked(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
            assert TOKEN not in answer.text
    known = {**OCTETS, "Authorization": f"Bearer {TOKEN}"}
    assert server.post(ANALYZE, content=image, headers=known).status_code == 200
    assert server.get("/v1/model", headers=known).status_code == 200


def test_model_and_health_say_what_runs(client: Client, release: Path, checked: Any) -> None:
    server = client(looks=4)
    checked(client(release=shipped_release()).get("/v1/model"), schema="ModelRecord")
    model = checked(server.get("/v1/model"), schema="ModelRecord")
    kept = json.loads((release / "release.json").read_text())
    assert model == kept | {"digests": Analyzer(release).digests}
    health = checked(server.get("/v1/health"), schema="HealthRecord")
    assert (health["release"], health["looks"]) == ("small", 4)
    assert (health["waiting"], health["running"]) == (0, 0)


def test_a_fault_of_ours_has_its_trace_in_the_log_and_not_in_the_answer(
    client: Client, image: bytes, monkeypatch: pytest.MonkeyPatch, caplog: Any, checked: Any
) -> None:
    def fail(*_: object) -> NoReturn:
        raise ValueError("the patient's name")

    monkeypatch.setattr(service_module, "answer", fail)
    monkeypatch.setattr("dermfuse.server.log.LOGGER.propagate", True)
    answer = client().post(ANALYZE, content=image, headers=OCTETS)
    checked(answer, 500)
    assert "ValueError" not in answer.text
    assert "patient" not in answer.text
    fault = next(record for record in caplog.records if record.getMessage() == "fault")
    assert fault.exc_info is not None
    assert fault.exc_info[0] is ValueError


def test_metrics_count_what_was_answered(client: Client, image: bytes) -> None:
    server = client()
    for body in (image, image, b"no image"):
        server.post(ANALYZE, content=body, headers=OCTETS)
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
    assert server.get("/openapi.json").json()["paths"][ANALYZE]["post"]["requestBody"]
