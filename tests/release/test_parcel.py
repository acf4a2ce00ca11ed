"""A release travels as the bytes of its files, and of no others."""

from dataclasses import replace
from pathlib import Path

import pytest

from dermfuse.errors import ReleaseError
from dermfuse.release.folder import pack_release

from ..small_release import write_small_release


@pytest.fixture
def release(tmp_path: Path) -> Path:
    return write_small_release(tmp_path / "release", with_gate=True)


def test_the_files_that_the_release_names_travel(release: Path, tmp_path: Path) -> None:
    (release / "notes.txt").write_text("not of the release")
    parcel = pack_release(release)
    networks = {
        f"{name}.{end}" for name in ("reds-a", "reds-b", "greens") for end in ("json", "onnx")
    }
    assert set(parcel.files) == {"release.json", "dermoscopy.npz"} | networks
    (tmp_path / "there").mkdir()
    parcel.unpack(tmp_path / "there", digest=parcel.digest)
    assert pack_release(tmp_path / "there") == parcel


def test_a_changed_byte_is_another_digest_and_is_not_unpacked(
    release: Path, tmp_path: Path
) -> None:
    parcel = pack_release(release)
    changed = replace(parcel, files={**parcel.files, "greens.onnx": b"changed"})
    with pytest.raises(ReleaseError, match="came with SHA-256"):
        changed.unpack(tmp_path, digest=parcel.digest)
    assert not (tmp_path / "greens.onnx").exists()


def test_a_file_that_is_gone_is_named(release: Path) -> None:
    (release / "reds-b.onnx").unlink()
    with pytest.raises(ReleaseError, match=r"reds-b\.onnx is missing"):
        pack_release(release)
