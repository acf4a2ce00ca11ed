from pathlib import Path

import pytest

from dermfuse.cli import main

from ..small_release import write_small_release


def test_an_app_without_networks_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["web", "build", "--out", str(tmp_path / "app"), "--release", str(tmp_path)]) == 2
    assert "is no release" in capsys.readouterr().err
    assert not (tmp_path / "app").exists()


def test_vectors_are_written_without_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    release = write_small_release(tmp_path / "small")
    out = tmp_path / "vectors"
    assert main(["export", "--vectors", "--out", str(out), "--release", str(release)]) == 0
    assert (out / "vectors.json").is_file()
    assert "7 images" in capsys.readouterr().out


def test_vectors_and_runs_are_not_asked_for_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "run", "--vectors", "--out", str(tmp_path / "out")]) == 2
    assert "with --vectors" in capsys.readouterr().err


def test_an_export_without_runs_says_what_it_needs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["export", "--out", str(tmp_path / "out")]) == 2
    assert "RUN" in capsys.readouterr().err
