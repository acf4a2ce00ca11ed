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
OTHER_ARCHIVE = _zip({"ISIC_9000007.jpg": bytes(9000)})


@dataclass
class Shop:
    """What the local server holds, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    served: list[str] = field(default_factory=list)
    url: str = ""


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


class TestFetching:
    def test_an_archive_becomes_a_folder_and_labels_a_file(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        calls: list[tuple[str, int, int | None]] = []
        done = _download(shop, tmp_path, progress=lambda *call: calls.append(call))
        assert (tmp_path / IMAGES / "ISIC_9000003.jpg").read_bytes() == b"\3" * 5000
        assert done.checks == ("size", "CRC-32")
        assert done.sha256 == hashlib.sha256(ARCHIVE).hexdigest()
        assert len(load_isic2016(tmp_path, "train").lesions) == 4
        assert calls[-1] == (IMAGES_ZIP, len(ARCHIVE), len(ARCHIVE))
        _download(shop, tmp_path, "train-labels")
        assert _left(tmp_path) == [IMAGES, LABELS, SUMS_NAME]

    def test_what_is_there_is_left_alone(self, shop: Shop, tmp_path: Path) -> None:
        part = tmp_path / "ISBI2016_ISIC_Part3B_Training_Data"
        part.mkdir()
        (part / "ISIC_9000001_Segmentation.png").touch()
        for name in ("train-images", "train-labels"):
            _download(shop, tmp_path, name)
        shop.served.clear()
        for name in ("train-images", "train-labels", "train-masks"):
            assert _download(shop, tmp_path, name).was_present
        assert shop.served == []

    def test_every_part_is_fetched_by_default(self, shop: Shop, tmp_path: Path) -> None:
        for name in PARTS.values():
            shop.files[name] = ARCHIVE if name.endswith(".zip") else b"ISIC_9000001,0.0\n"
        done = download_isic2016(tmp_path, base_url=shop.url)
        assert [part.name for part in done] == list(PARTS)
        assert len(read_sums(tmp_path / SUMS_NAME)) == 6

    def test_a_cut_line_or_a_busy_server_is_asked_again_as_often_as_is_allowed(
        self, shop: Shop, tmp_path: Path
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

    def test_a_later_download_is_compared_with_the_first(self, shop: Shop, tmp_path: Path) -> None:
        _download(shop, tmp_path)
        shutil.rmtree(tmp_path / IMAGES)
        assert SUMS_NAME in _download(shop, tmp_path).checks
        shutil.rmtree(tmp_path / IMAGES)
        shop.files[IMAGES_ZIP] = OTHER_ARCHIVE
        with pytest.raises(DataError, match=f"its SHA-256 is .* as {SUMS_NAME} in the folder"):
            _download(shop, tmp_path)
        assert _left(tmp_path) == [SUMS_NAME]


class TestRefusals:
    def test_a_file_the_server_does_not_have(self, shop: Shop, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"Test_Data\.zip: the server answers 404 Client Error"):
            _download(shop, tmp_path, "test-images")
        assert _left(tmp_path) == shop.served == []

    def test_no_server(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="could not be fetched in 1 attempts"):
            _download(Shop(url="http://127.0.0.1:9/"), tmp_path, attempts=1)

    def test_an_unknown_part_or_scheme(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"unknown part 'masks'. Expected: train-images"):
            _download(Shop(), tmp_path, "masks")
        with pytest.raises(DataError, match=r"file:///etc.*https://"):
            _download(Shop(url="file:///etc/"), tmp_path)

    def test_without_pooch_it_says_what_to_install(
        self, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "pooch", None)
        with pytest.raises(DependencyError, match=r"pooch is not installed.*\[train\]"):
            _download(shop, tmp_path)

    def test_a_wrong_checksum_of_the_server(self, shop: Shop, tmp_path: Path) -> None:
        shop.headers = _amazon(b"another")
        with pytest.raises(
            DataError, match=r"MD5 hash .*Training_Data\.zip. does not match .*md5:.* but got"
        ):
            _download(shop, tmp_path)
        assert _left(tmp_path) == []

    @pytest.mark.parametrize(
        ("headers", "stated"),
        [
            (
                {"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()},
                f"sha256:{'00' * 32}",
            ),
            (_amazon(b""), "md5:d41d8cd98f00b204e9800998ecf8427e"),
            ({"ETag": '"0123456789abcdef0123456789abcdef"'}, ""),  # not Amazon's: no MD5
            ({**_amazon(b""), "x-amz-server-side-encryption": "aws:kms"}, ""),
            ({"ETag": '"0123456789abcdef0123456789abcdef-7"', "Server": "AmazonS3"}, ""),
            ({"x-amz-checksum-sha256": "AAAA-7"}, ""),  # of seven pieces
        ],
    )
    def test_what_only_looks_like_a_checksum_is_no_promise(
        self, headers: dict[str, str], stated: str
    ) -> None:
        assert published_sum(headers) == stated

    def test_damaged_sums_are_refused_before_anything_is_fetched(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        (tmp_path / SUMS_NAME).write_text(f"\nhello {IMAGES_ZIP}\n")
        with pytest.raises(DataError, match="SHA256SUMS, line 2: 'hello"):
            _download(shop, tmp_path)
        assert shop.served == []

    def test_a_sign_in_page_is_no_label_file(self, shop: Shop, tmp_path: Path) -> None:
        shop.files[LABELS] = b"<html><body>Please sign in</body></html>"
        with pytest.raises(DataError, match="no image_id column"):
            _download(shop, tmp_path, "train-labels")
        assert _left(tmp_path) == []

    def test_a_corrupt_archive_leaves_nothing(self, shop: Shop, tmp_path: Path) -> None:
        corrupt = bytearray(ARCHIVE)
        corrupt[3000] ^= 1  # inside the first member
        for content in (bytes(corrupt), ARCHIVE[:-30], b"<html>", _zip({})):
            shop.files[IMAGES_ZIP] = content
            with pytest.raises(DataError, match=f"{IMAGES_ZIP} is damaged"):
                _download(shop, tmp_path)
            assert _left(tmp_path) == []

    def test_a_full_disk_is_one_clear_line(
        self, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        usage = shutil.disk_usage(tmp_path)._replace(free=1_000_000)
        monkeypatch.setattr(archives.shutil, "disk_usage", lambda _: usage)
        shop.files[IMAGES_ZIP] = bytes(2_000_000)
        with pytest.raises(StorageError, match=r"1 MB free\. Expected: 2 MB or more"):
            _download(shop, tmp_path)

    def test_a_folder_that_is_a_file(self, shop: Shop, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="cannot be written"):
            _download(shop, tmp_path / "file" / "data")


class TestUnpacking:
    """Of archives that were fetched by hand: no server is asked."""

    def unpack(self, folder: Path, content: bytes) -> Any:
        (folder / IMAGES_ZIP).write_bytes(content)
        return _download(Shop(url="http://127.0.0.1:9/"), folder)

    @pytest.mark.parametrize(
        "name", ["../escaped.jpg", "/escaped.jpg", "a\\..\\..\\escaped.jpg", "link.jpg"]
    )
    def test_a_member_outside_the_folder_or_a_link_is_refused(
        self, tmp_path: Path, name: str
    ) -> None:
        member = zipfile.ZipInfo(name)
        member.external_attr = (0o120777 if name == "link.jpg" else 0o100644) << 16
        with pytest.raises(DataError, match="outside its folder"):
            self.unpack(tmp_path, _zip({"fine.jpg": b"1", member: b"/etc/passwd"}))
        assert _left(tmp_path) == [IMAGES_ZIP]

    @pytest.mark.parametrize("prefix", ["", "other/"])
    def test_loose_files_and_a_folder_of_another_name_both_become_the_folder(
        self, tmp_path: Path, prefix: str
    ) -> None:
        members = {f"{prefix}{name}": b"1" for name in ("1.jpg", "2.jpg")}
        done = self.unpack(tmp_path, _zip({**members, "__MACOSX/._1.jpg": b"x"}))
        assert done.checks == ("CRC-32",)
        assert _left(tmp_path / IMAGES) == ["1.jpg", "2.jpg"]
        assert (tmp_path / IMAGES).stat().st_mode & 0o777 == 0o755

    def test_a_target_in_the_way_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / IMAGES).mkdir()
        (tmp_path / IMAGES / "mine.txt").touch()
        with pytest.raises(StorageError, match="cannot be written"):
            self.unpack(tmp_path, ARCHIVE)
        assert _left(tmp_path / IMAGES) == ["mine.txt"]
        assert _left(tmp_path) == [IMAGES, IMAGES_ZIP]
