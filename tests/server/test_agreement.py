"""The command, the library and the server say the same; tests/web adds the browser."""

import json
from pathlib import Path

import numpy as np
from starlette.testclient import TestClient

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.cli import main
from dermfuse.preprocess import read_mask
from dermfuse.server.app import create_app
from dermfuse.server.settings import ServerSettings

from ..shipped_release import shipped_release
from ..web.pictures import write_pictures
from .conftest import OCTETS


def test_command_library_and_server_agree_on_ten_kinds_of_file(
    tmp_path: Path,
) -> None:
    shipped = shipped_release()
    files = write_pictures(tmp_path / "files")
    out = tmp_path / "out"
    arguments = ["analyze", str(tmp_path / "files"), "--out", str(out), "--masks", "--no-report"]
    assert main(arguments) == 0
    lines = [json.loads(line) for line in (out / "results.jsonl").read_text().splitlines()]
    told = {Path(line["name"]).name: line for line in lines}
    analyzer = Analyzer(shipped)
    with TestClient(create_app(ServerSettings(release=shipped))) as server:
        for file in files:
            found = analyzer.analyze(file)
            record = json.loads(json.dumps(found.to_dict())) | {"name": ""}
            answer = server.post("/v1/analyze", content=file.read_bytes(), headers=OCTETS).json()
            assert answer | {"name": ""} == record, file.name
            shared = (told[file.name].keys() & record.keys()) - {"name"}
            assert len(shared) > 10
            assert all(told[file.name][key] == record[key] for key in shared), file.name
            mask = read_mask(next((out / "masks").glob(f"{file.stem}*")))
            assert np.array_equal(mask, found.mask), file.name
