"""Archives arrive whole over a bad line, or one clear line says why not. All on a local server."""

import base64
import hashlib
import io
import shutil
import sys
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dermfuse.data import download as archives
from dermfuse.data import load_isic2016
from dermfuse.data.download import PARTS, SUMS_NAME, download_isic2016, published_sum, read_sums
from dermfuse.errors import DataError, DependencyError, StorageError

IMAGES_ZIP = PARTS["train-images"]
IMAGES = IMAGES_ZIP.removesuffix(".zip")
LABELS = PARTS["train-labels"]


def _zip(members: Mapping[Any, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = _zip({f"{IMAGES}/ISIC_900000{n}.jpg": bytes([n]) * 5000 for n in range(4)})
MASKS_ARCHIVE = _zip({"ISIC_9000001_Segmentation.png": b"1"})


@dataclass
class Shop:
    """What the local server holds, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    url: str = ""


NO_SERVER = Shop(url="http://127.0.0.1:9/")


class _Handler(BaseHTTPRequestHandler):
    shop: Shop

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_HEAD(self) -> bytes:
        content = self.shop.files.get(self.path.lstrip("/"))
        if content is None:
            self.send_error(404)
            return b""
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        for name, value in self.shop.headers.items():
            self.send_header(name, value)
        self.end_headers()
        return content

    def do_GET(self) -> None:
        self.shop.served.append(self.path)
        if self.shop.statuses:
            self.send_error(self.shop.statuses.pop(0))
            return
        content = self.do_HEAD()
        self.wfile.write(content[: self.shop.cuts.pop(0)] if self.shop.cuts else content)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr("pooch.core.time", SimpleNamespace(sleep=lambda _: None))
    state = Shop({IMAGES_ZIP: ARCHIVE, LABELS: b"ISIC_9000001,benign\n"})
    handler = type("Handler", (_Handler,), {"shop": state})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        state.url = f"http://127.0.0.1:{server.server_port}/"
        yield state
        server.shutdown()
        thread.join()


def _download(shop: Shop, folder: Path, part: Any = "train-images", **options: Any) -> Any:
    return download_isic2016(folder, base_url=shop.url, parts=[part], **options)[0]


def _amazon(content: bytes) -> dict[str, str]:
    return {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "x-amz-request-id": "1"}


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_every_part_is_fetched_and_unpacked_by_default_and_then_left_alone(
    shop: Shop, tmp_path: Path
) -> None:
    calls: list[tuple[str, int, int | None]] = []
    for name in PARTS.values():
        shop.files[name] = ARCHIVE if name.endswith(".zip") else b"ISIC_9000001,0.0\n"
    shop.files[PARTS["train-masks"]] = shop.files[PARTS["test-masks"]] = MASKS_ARCHIVE
    first, *done = download_isic2016(
        tmp_path, base_url=shop.url, progress=lambda *call: calls.append(call)
    )
    assert [part.name for part in (first, *done)] == list(PARTS)
    assert (tmp_path / IMAGES / "ISIC_9000003.jpg").read_bytes() == b"\3" * 5000
    assert (first.checks, first.sha256) == (("size", "CRC-32"), hashlib.sha256(ARCHIVE).hexdigest())
    assert (IMAGES_ZIP, len(ARCHIVE), len(ARCHIVE)) in calls
    assert len(load_isic2016(tmp_path, "train").lesions) == 4
    assert len(read_sums(tmp_path / SUMS_NAME)) == 6
    assert _left(tmp_path) == sorted([SUMS_NAME, *(x.removesuffix(".zip") for x in PARTS.values())])
    shop.served.clear()
    assert all(part.was_present for part in download_isic2016(tmp_path, base_url=shop.url))
    assert shop.served == []


def test_a_cut_line_or_a_busy_server_is_asked_again_as_often_as_is_allowed(
    shop: Shop, tmp_path: Path
) -> None:
    shop.headers = _amazon(ARCHIVE)
    shop.cuts, shop.statuses = [6000], [503]
    assert _download(shop, tmp_path).checks == ("size", "MD5", "CRC-32")
    assert len(shop.served) == 3
    assert _left(tmp_path) == [IMAGES, SUMS_NAME]
    shutil.rmtree(tmp_path / IMAGES)
    shop.cuts = [6000] * 2
    with pytest.raises(DataError, match="could not be fetched in 2 attempts"):
        _download(shop, tmp_path, attempts=2)
    shop.statuses = [503] * 2
    with pytest.raises(DataError, match="the server answers 503 Server Error"):
        _download(shop, tmp_path, attempts=2)
    assert _left(tmp_path) == [SUMS_NAME]


def test_a_later_download_is_compared_with_the_first(shop: Shop, tmp_path: Path) -> None:
    _download(shop, tmp_path)
    shutil.rmtree(tmp_path / IMAGES)
    assert SUMS_NAME in _download(shop, tmp_path).checks
    shutil.rmtree(tmp_path / IMAGES)
    shop.files[IMAGES_ZIP] = _zip({"ISIC_9000007.jpg": bytes(9000)})
    with pytest.raises(DataError, match=f"its SHA-256 is .* as {SUMS_NAME} in the folder"):
        _download(shop, tmp_path)
    assert _left(tmp_path) == [SUMS_NAME]


def test_what_cannot_be_asked_for_is_refused_before_anything_is_fetched(
    shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(DataError, match=r"Test_Data\.zip: the server answers 404 Client Error"):
        _download(shop, tmp_path, "test-images")
    with pytest.raises(DataError, match="could not be fetched in 1 attempts"):
        _download(NO_SERVER, tmp_path, attempts=1)
    with pytest.raises(DataError, match=r"unknown part 'masks'. Expected: train-images"):
        _download(Shop(), tmp_path, "masks")
    with pytest.raises(DataError, match=r"file:///etc.*https://"):
        _download(Shop(url="file:///etc/"), tmp_path)
    usage = shutil.disk_usage(tmp_path)._replace(free=100)
    monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="0 MB free"):
        _download(shop, tmp_path)
    assert _left(tmp_path) == []
    (tmp_path / SUMS_NAME).write_text(f"\nhello {IMAGES_ZIP}\n")
    with pytest.raises(DataError, match="SHA256SUMS, line 2: 'hello"):
        _download(shop, tmp_path)
    with pytest.raises(StorageError, match="cannot be written"):
        _download(shop, tmp_path / SUMS_NAME / "data")
    (tmp_path / SUMS_NAME).unlink()
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(DependencyError, match=r"pooch is not installed.*\[train\]"):
        _download(shop, tmp_path)
    assert shop.served == []


@pytest.mark.parametrize(
    ("headers", "stated"),
    [
        ({"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()}, f"sha256:{'00' * 32}"),
        (_amazon(b""), "md5:d41d8cd98f00b204e9800998ecf8427e"),
        ({"ETag": f'"{"0f" * 16}"'}, ""),  # not Amazon's: no MD5
        ({**_amazon(b""), "x-amz-server-side-encryption": "aws:kms"}, ""),
        ({"ETag": f'"{"0f" * 16}-7"', "Server": "AmazonS3"}, ""),
        ({"x-amz-checksum-sha256": "AAAA-7"}, ""),  # of seven pieces
    ],
)
def test_what_only_looks_like_a_checksum_is_no_promise(
    headers: dict[str, str], stated: str
) -> None:
    assert published_sum(headers) == stated


def test_what_fails_a_check_leaves_nothing(shop: Shop, tmp_path: Path) -> None:
    corrupt = bytearray(ARCHIVE)
    corrupt[3000] ^= 1  # inside the first member
    for content in (bytes(corrupt), ARCHIVE[:-30], b"<html>", _zip({})):
        shop.files[IMAGES_ZIP] = content
        with pytest.raises(DataError, match=f"{IMAGES_ZIP} is damaged"):
            _download(shop, tmp_path)
    shop.files[LABELS] = b"<html><body>Please sign in</body></html>"
    with pytest.raises(DataError, match="no image_id column"):
        _download(shop, tmp_path, "train-labels")
    shop.files[IMAGES_ZIP], shop.headers = ARCHIVE, _amazon(b"another")
    with pytest.raises(DataError, match=r"MD5 hash .* does not match .*md5:.* but got"):
        _download(shop, tmp_path)
    assert _left(tmp_path) == []


def _unpack(folder: Path, content: bytes) -> Any:
    """Unpacks an archive that was fetched by hand: no server is asked."""
    (folder / IMAGES_ZIP).write_bytes(content)
    return _download(NO_SERVER, folder)


@pytest.mark.parametrize(
    "name", ["../escaped.jpg", "/escaped.jpg", "a\\..\\..\\escaped.jpg", "link.jpg"]
)
def test_a_member_outside_the_folder_or_a_link_is_refused(tmp_path: Path, name: str) -> None:
    member = zipfile.ZipInfo(name)
    member.external_attr = (0o120777 if name == "link.jpg" else 0o100644) << 16
    with pytest.raises(DataError, match="outside its folder"):
        _unpack(tmp_path, _zip({"fine.jpg": b"1", member: b"/etc/passwd"}))
    assert _left(tmp_path) == [IMAGES_ZIP]


@pytest.mark.parametrize("prefix", ["", "other/"])
def test_loose_files_and_a_folder_of_another_name_both_become_the_folder(
    tmp_path: Path, prefix: str
) -> None:
    members = {f"{prefix}{name}": b"1" for name in ("1.jpg", "2.jpg")}
    done = _unpack(tmp_path, _zip({**members, "__MACOSX/._1.jpg": b"x"}))
    assert done.checks == ("CRC-32",)
    assert _left(tmp_path / IMAGES) == ["1.jpg", "2.jpg"]


def test_a_target_in_the_way_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / IMAGES).mkdir()
    (tmp_path / IMAGES / "mine.txt").touch()
    with pytest.raises(StorageError, match="cannot be written"):
        _unpack(tmp_path, ARCHIVE)
    assert _left(tmp_path / IMAGES) == ["mine.txt"]
    assert _left(tmp_path) == [IMAGES, IMAGES_ZIP]
