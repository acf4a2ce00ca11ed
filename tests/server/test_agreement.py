"""The command, the library and the server say the same; tests/web adds the browser."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.cli import main
from dermfuse.imaging.masks import read_mask
from dermfuse.server.app import create_app
from dermfuse.server.settings import ServerSettings

from ..shipped_release import shipped_release
from ..small_release import write_small_release
from ..web.pictures import write_pictures
from .conftest import OCTETS


def test_command_library_and_server_agree_on_ten_kinds_of_file(tmp_path: Path) -> None:
    _agree(shipped_release(), tmp_path)


@pytest.mark.parametrize(("shipped", "asked"), [(8, None), (1, 4)])
def test_they_agree_with_the_looks_of_a_release_and_with_others(
    shipped: int, asked: int | None, tmp_path: Path
) -> None:
    release = write_small_release(tmp_path / "release", looks=shipped, tilted=True)
    for record in _agree(release, tmp_path, looks=asked):
        assert record["looks"] == (asked or shipped)
        assert record["uncertainty"] > 0
        warned = [each for each in record["warnings"] if "measured with" in each]
        assert len(warned) == (asked is not None)


def _agree(release: Path, tmp_path: Path, *, looks: int | None = None) -> list[dict[str, Any]]:
    """Returns the records of ten files, which all three tell alike."""
    files = write_pictures(tmp_path / "files")
    out = tmp_path / "out"
    arguments = ["analyze", str(tmp_path / "files"), "--out", str(out), "--masks", "--no-report"]
    arguments += ["--release", str(release)]
    assert main([*arguments, *(["--looks", str(looks)] if looks else [])]) == 0
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    told = {Path(line["name"]).name: line for line in lines}
    analyzer = Analyzer(release, looks=looks)
    records = []
    with TestClient(create_app(ServerSettings(release=release, looks=looks))) as server:
        for file in files:
            found = analyzer.analyze(file)
            record = json.loads(json.dumps(found.to_dict())) | {"name": ""}
            answer = server.post("/v1/analyze", content=file.read_bytes(), headers=OCTETS).json()
            assert answer | {"name": ""} == record, file.name
            shared = (told[file.name].keys() & record.keys()) - {"name"}
            assert len(shared) > 10
            assert all(told[file.name][key] == record[key] for key in shared), file.name
            written = list((out / "masks").glob(f"{file.stem}*"))
            assert len(written) == (found.mask is not None), file.name
            assert all(np.array_equal(read_mask(one), found.mask) for one in written), file.name
            records.append(record)
    assert len(records) == 10
    return records
