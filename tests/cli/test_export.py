import json
from pathlib import Path

import pytest

from dermfuse.cli import console as extras
from dermfuse.cli import main
from dermfuse.folders import NOTICE
from dermfuse.publishing import release as build
from dermfuse.publishing.release import ReleaseRequest
from dermfuse.release.cards import read_card


def test_an_export_is_a_table_or_one_json_object(
    made_run: Path, drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["export", str(made_run), "--data", str(drawn), "--out", str(tmp_path)]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert "joint" in out
    assert "float32" in out
    assert "jaccard 0." in out
    assert NOTICE in out
    assert main([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["notice"] == NOTICE
    assert record["networks"][0]["card"]["sha256"] == read_card(tmp_path / "joint.json").sha256


def test_what_is_no_run_is_one_line_on_standard_error(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", str(tmp_path), "--data", str(drawn), "--out", str(tmp_path / "o")]) == 2
    error = capsys.readouterr().err
    assert "is no run folder" in error
    assert not (tmp_path / "o").exists()


def test_a_missing_package_is_named_with_the_extra(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == "onnx" else object())
    assert main(["export", "run", "--data", "d", "--out", "o"]) == 2
    error = capsys.readouterr().err
    assert "needs onnx, not installed here" in error
    assert ".[export]" in error


class _Stop(Exception):  # noqa: N818 — ends the command once it has asked
    pass


@pytest.mark.parametrize(
    ("options", "precision"), [([], "int8-weights"), (["--precision", "float32"], "float32")]
)
def test_a_release_lies_in_8_bits_and_computes_in_float32_unless_told_otherwise(
    options: list[str], precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[ReleaseRequest] = []

    def answer(request: ReleaseRequest, **_: object) -> None:
        asked.append(request)
        raise _Stop

    monkeypatch.setattr(build, "build_release", answer)
    arguments = ["export", "run", "--folds", "fold", "--data", "d", "--out", str(tmp_path / "o")]
    with pytest.raises(_Stop):
        main([*arguments, *options])
    assert [request.precision for request in asked] == [precision]
    unasked = ReleaseRequest(runs=[], folds=[], data=tmp_path, out=tmp_path, name="small")
    assert unasked.precision == "int8-weights"
