"""What OpenAPI declares is what is answered."""

import copy
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from dermfuse.imaging.overlays import encode_png
from dermfuse.server.app import create_app
from dermfuse.server.settings import Limits, ServerSettings

from ..shipped_release import shipped_release
from ..small_release import write_small_release
from .conftest import OCTETS, Client

OVERLAYS = "/v1/analyze?overlays=outline,activation"


def declared(server: TestClient, path: str, method: str, status: int) -> dict[str, Any]:
    """Returns the JSON schema of an answer, with the components that it refers to."""
    document = server.get("/openapi.json").json()
    answer = document["paths"][path][method]["responses"][str(status)]
    schema: dict[str, Any] = answer["content"]["application/json"]["schema"]
    return schema | {"components": document["components"]}


def check(record: Any, schema: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(record)


@pytest.fixture
def gated(tmp_path: Path) -> Path:
    return write_small_release(tmp_path / "gated", with_gate=True)


def test_analyses_are_as_declared_with_overlays_and_without(client: Client, image: bytes) -> None:
    server = client()
    schema = declared(server, "/v1/analyze", "post", 200)
    for path in ("/v1/analyze", OVERLAYS, "/v1/analyze?overlays=outline"):
        answer = server.post(path, content=image, headers=OCTETS)
        assert answer.status_code == 200
        check(answer.json(), schema)


def test_what_is_withheld_is_as_declared_and_shows_nothing(client: Client, gated: Path) -> None:
    page = encode_png(np.full((48, 64, 3), 255, np.uint8))
    server = client(release=gated)
    answer = server.post(OVERLAYS, content=page, headers=OCTETS).json()
    assert answer["overlays"] == {"outline": None, "activation": None}
    assert (answer["malignant_probability"], answer["outline"], answer["measures"]) == (None,) * 3
    check(answer, declared(server, "/v1/analyze", "post", 200))


def test_the_networks_of_the_package_answer_as_declared(tmp_path: Path) -> None:
    release = shipped_release()
    skin = np.asarray(Image.new("RGB", (90, 70), (200, 150, 130)))
    with TestClient(create_app(ServerSettings(release=release))) as server:
        answer = server.post("/v1/analyze", content=encode_png(skin), headers=OCTETS)
        check(answer.json(), declared(server, "/v1/analyze", "post", 200))
        check(server.get("/v1/model").json(), declared(server, "/v1/model", "get", 200))


def test_a_key_that_is_missing_or_added_would_be_seen(client: Client, image: bytes) -> None:
    server = client()
    schema = declared(server, "/v1/analyze", "post", 200)
    answer = server.post("/v1/analyze", content=image, headers=OCTETS).json()
    for key in answer:
        with pytest.raises(jsonschema.ValidationError):
            check({name: value for name, value in answer.items() if name != key}, schema)
    odd = copy.deepcopy(answer)
    odd["measures"]["area"] = 1
    for record in (answer | {"more": 1}, odd, answer | {"malignant_probability": 1.5}):
        with pytest.raises(jsonschema.ValidationError):
            check(record, schema)


def test_health_and_model_are_as_declared(client: Client) -> None:
    server = client()
    for path in ("/v1/health", "/v1/model"):
        check(server.get(path).json(), declared(server, path, "get", 200))


def test_errors_are_as_declared(client: Client, image: bytes) -> None:
    server = client(token="0123456789abcdef", limits=Limits(upload_bytes=2_000_000))
    known = OCTETS | {"Authorization": "Bearer 0123456789abcdef"}
    for status, asked in {
        400: {"url": "/v1/analyze?overlay=x", "content": image, "headers": known},
        401: {"url": "/v1/analyze", "content": image, "headers": OCTETS},
        413: {"url": "/v1/analyze", "content": bytes(2_000_001), "headers": known},
        415: {"url": "/v1/analyze", "content": image,
              "headers": known | {"Content-Type": "text/plain"}},
        422: {"url": "/v1/analyze", "content": b"no image", "headers": known},
    }.items():  # fmt: skip
        answer = server.post(**asked)
        assert answer.status_code == status
        check(answer.json(), declared(server, "/v1/analyze", "post", status))
    check(server.get("/v1/model").json(), declared(server, "/v1/model", "get", 401))
    check(server.get("/none").json(), declared(server, "/v1/analyze", "post", 422))


def test_every_declared_error_has_the_schema_of_errors(client: Client) -> None:
    document = client().get("/openapi.json").json()
    answers = document["paths"]["/v1/analyze"]["post"]["responses"]
    assert set(answers) == {"200", "400", "401", "408", "413", "415", "422", "500", "503", "504"}
    for status, answer in answers.items():
        name = "AnalysisRecord" if status == "200" else "ErrorRecord"
        schema = answer["content"]["application/json"]["schema"]
        assert schema == {"$ref": f"#/components/schemas/{name}"}
