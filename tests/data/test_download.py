"""Archives arrive whole over a bad line, or one clear line says why not. All on a local server."""

import base64
import errno
import hashlib
import io
import re
import shutil
import threading
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from dermfuse.data import download as archives
from dermfuse.data import load_isic2016
from dermfuse.data.download import PARTS, SUMS_NAME, download_isic2016, read_sums, unpack_archive
from dermfuse.errors import DataError, StorageError

IMAGES_ZIP = PARTS["train-images"]
IMAGES = IMAGES_ZIP.removesuffix(".zip")
LABELS = PARTS["train-labels"]


def _zip(members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return buffer.getvalue()


ARCHIVE = _zip({f"{IMAGES}/ISIC_900000{n}.jpg": bytes([n]) * 5000 for n in range(4)})


@dataclass
class Shop:
    """What the local server holds, and how it misbehaves."""

    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    statuses: list[int] = field(default_factory=list)
    cuts: list[int] = field(default_factory=list)
    knows_ranges: bool = True
    ranges: list[str | None] = field(default_factory=list)
    url: str = ""


class _Handler(BaseHTTPRequestHandler):
    shop: Shop

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def do_GET(self) -> None:
        shop, asked = self.shop, self.headers.get("Range")
        shop.ranges.append(asked)
        content = shop.files.get(self.path.lstrip("/"))
        if shop.statuses or content is None:
            self.send_error(shop.statuses.pop(0) if shop.statuses else 404)
            return
        start = 0
        current = self.headers.get("If-Range", shop.headers.get("ETag"))
        if asked and shop.knows_ranges and current == shop.headers.get("ETag"):
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
        if start >= len(content):
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(content) - start))
        for name, value in shop.headers.items():
            self.send_header(name, value)
        self.end_headers()
        body = content[start:]
        self.wfile.write(body[: shop.cuts.pop(0)] if shop.cuts else body)


@pytest.fixture
def shop(monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
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
    options = {"attempts": 3, "retry_seconds": 0.0, **options}
    return download_isic2016(folder, base_url=shop.url, parts=[part], **options)[0]


def _amazon(content: bytes) -> dict[str, str]:
    return {"ETag": f'"{hashlib.md5(content).hexdigest()}"', "x-amz-request-id": "1"}


def _left(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestFetching:
    def test_an_archive_becomes_a_folder(self, shop: Shop, tmp_path: Path) -> None:
        done = _download(shop, tmp_path)
        assert _left(tmp_path) == [IMAGES, SUMS_NAME]
        assert (tmp_path / IMAGES / "ISIC_9000003.jpg").read_bytes() == b"\3" * 5000
        assert done.checks == ("size", "CRC-32")
        assert done.sha256 == hashlib.sha256(ARCHIVE).hexdigest()
        assert len(load_isic2016(tmp_path, "train").lesions) == 4

    def test_labels_are_put_in_place(self, shop: Shop, tmp_path: Path) -> None:
        _download(shop, tmp_path, "train-labels")
        assert _left(tmp_path) == [LABELS, SUMS_NAME]

    def test_what_is_there_is_left_alone(self, shop: Shop, tmp_path: Path) -> None:
        for part in ("train-images", "train-labels"):
            _download(shop, tmp_path, part)
        shop.ranges.clear()
        assert _download(shop, tmp_path).was_present
        assert _download(shop, tmp_path, "train-labels").was_present
        assert shop.ranges == []

    def test_masks_beside_images_of_part_3b_count_as_there(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        part = tmp_path / "ISBI2016_ISIC_Part3B_Training_Data"
        part.mkdir()
        (part / "ISIC_9000001_Segmentation.png").touch()
        assert _download(shop, tmp_path, "train-masks").was_present

    def test_every_part_is_fetched_by_default(self, shop: Shop, tmp_path: Path) -> None:
        for name in PARTS.values():
            is_zip = name.endswith(".zip")
            shop.files[name] = ARCHIVE if is_zip else b"ISIC_9000001,0.0\n"
        done = download_isic2016(tmp_path, base_url=shop.url)
        assert [part.name for part in done] == list(PARTS)
        assert len(read_sums(tmp_path / SUMS_NAME)) == 6

    def test_progress_ends_at_the_whole(self, shop: Shop, tmp_path: Path) -> None:
        calls: list[tuple[str, int, int | None]] = []
        _download(shop, tmp_path, progress=lambda *call: calls.append(call))
        assert calls[-1] == (IMAGES_ZIP, len(ARCHIVE), len(ARCHIVE))

    def test_an_archive_fetched_by_hand_is_checked_and_unpacked(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        (tmp_path / IMAGES_ZIP).write_bytes(ARCHIVE)
        assert _download(shop, tmp_path).checks == ("CRC-32",)
        assert shop.ranges == []
        assert (tmp_path / IMAGES).is_dir()


class TestResuming:
    def test_a_cut_connection_goes_on_where_it_stopped(self, shop: Shop, tmp_path: Path) -> None:
        shop.headers = _amazon(ARCHIVE)
        shop.cuts = [6000, 3000]
        done = _download(shop, tmp_path)
        assert shop.ranges == [None, "bytes=6000-", "bytes=9000-"]
        assert done.checks == ("size", "MD5", "CRC-32")
        assert _left(tmp_path) == [IMAGES, SUMS_NAME]

    def test_the_next_run_goes_on_too(self, shop: Shop, tmp_path: Path) -> None:
        shop.cuts = [6000]
        with pytest.raises(DataError, match=r"in 1 attempts \(cut after 6,000 of .*goes on"):
            _download(shop, tmp_path, attempts=1)
        assert f"{IMAGES_ZIP}.part" in _left(tmp_path)
        _download(shop, tmp_path)
        assert shop.ranges == [None, "bytes=6000-"]

    def test_lost_notes_are_made_up_for(self, shop: Shop, tmp_path: Path) -> None:
        shop.headers = _amazon(ARCHIVE)
        (tmp_path / f"{IMAGES_ZIP}.part").write_bytes(ARCHIVE[:6000])
        (tmp_path / f"{IMAGES_ZIP}.part.json").write_text("{broken")
        assert _download(shop, tmp_path).checks == ("size", "MD5", "CRC-32")
        assert shop.ranges == ["bytes=6000-"]

    def test_a_file_that_changed_on_the_server_is_fetched_afresh(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        shop.headers = {"ETag": '"first"'}
        shop.cuts = [6000]
        with pytest.raises(DataError, match="could not be fetched"):
            _download(shop, tmp_path, attempts=1)
        shop.files[IMAGES_ZIP] = _zip({"ISIC_9000007.jpg": bytes(9000)})
        shop.headers = {"ETag": '"second"'}
        _download(shop, tmp_path)
        assert _left(tmp_path / IMAGES) == ["ISIC_9000007.jpg"]

    def test_a_changed_file_of_a_server_that_ignores_versions_is_noticed(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        shop.cuts = [6000]
        with pytest.raises(DataError, match="could not be fetched"):
            _download(shop, tmp_path, attempts=1)
        shop.files[IMAGES_ZIP] = _zip({"ISIC_9000007.jpg": bytes(9000)})  # another length
        _download(shop, tmp_path)
        assert shop.ranges == [None, "bytes=6000-", None]

    def test_a_server_without_ranges_starts_over(self, shop: Shop, tmp_path: Path) -> None:
        shop.knows_ranges = False
        shop.cuts = [6000]
        _download(shop, tmp_path)
        assert shop.ranges == [None, "bytes=6000-"]
        assert len(list((tmp_path / IMAGES).iterdir())) == 4

    def test_more_than_the_server_has_is_thrown_away(self, shop: Shop, tmp_path: Path) -> None:
        (tmp_path / f"{IMAGES_ZIP}.part").write_bytes(ARCHIVE + b"more")
        _download(shop, tmp_path)
        assert shop.ranges[1] is None

    def test_a_whole_part_is_not_fetched_again(self, shop: Shop, tmp_path: Path) -> None:
        (tmp_path / f"{IMAGES_ZIP}.part").write_bytes(ARCHIVE)
        (tmp_path / f"{IMAGES_ZIP}.part.json").write_text(f'{{"size_bytes": {len(ARCHIVE)}}}')
        _download(shop, tmp_path)
        assert shop.ranges == []

    def test_a_busy_server_is_asked_again(self, shop: Shop, tmp_path: Path) -> None:
        shop.statuses = [503, 429]
        _download(shop, tmp_path)
        assert len(shop.ranges) == 3

    def test_attempts_are_bounded(self, shop: Shop, tmp_path: Path) -> None:
        shop.statuses = [503] * 9
        with pytest.raises(DataError, match=r"in 3 attempts \(503 Service Unavailable\)"):
            _download(shop, tmp_path)
        assert len(shop.ranges) == 3


class TestRefusals:
    def test_a_file_the_server_does_not_have(self, shop: Shop, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"Test_Data\.zip: the server answers 404 Not Found"):
            _download(shop, tmp_path, "test-images")
        assert len(shop.ranges) == 1
        assert _left(tmp_path) == []

    def test_no_server(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="could not be fetched in 1 attempts"):
            _download(Shop(url="http://127.0.0.1:9/"), tmp_path, attempts=1)

    def test_an_unknown_part_or_scheme(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"unknown part 'masks'. Expected: train-images"):
            _download(Shop(), tmp_path, "masks")
        with pytest.raises(DataError, match=r"file:///etc.*https://"):
            _download(Shop(url="file:///etc/"), tmp_path)

    @pytest.mark.parametrize(
        ("headers", "message"),
        [
            (_amazon(b"another"), "its MD5 is"),
            ({"Content-MD5": base64.b64encode(bytes(16)).decode()}, "its MD5 is"),
            (
                {"x-amz-checksum-sha256": base64.b64encode(bytes(32)).decode()},
                "its SHA-256 is .* as the server states",
            ),
        ],
    )
    def test_a_wrong_checksum_of_the_server(
        self, shop: Shop, tmp_path: Path, headers: dict[str, str], message: str
    ) -> None:
        shop.headers = headers
        with pytest.raises(DataError, match=message):
            _download(shop, tmp_path)
        assert _left(tmp_path) == []

    @pytest.mark.parametrize(
        "headers",
        [
            {"ETag": '"0123456789abcdef0123456789abcdef"'},  # not Amazon's: no MD5
            {**_amazon(b"another"), "x-amz-server-side-encryption": "aws:kms"},
            {"ETag": '"0123456789abcdef0123456789abcdef-7"', "Server": "AmazonS3"},  # seven pieces
            {"x-amz-checksum-sha256": "AAAA-7"},
        ],
    )
    def test_what_only_looks_like_a_checksum_is_no_promise(
        self, shop: Shop, tmp_path: Path, headers: dict[str, str]
    ) -> None:
        shop.headers = headers
        assert _download(shop, tmp_path).checks == ("size", "CRC-32")

    def test_a_sum_in_the_folder_rules(self, shop: Shop, tmp_path: Path) -> None:
        (tmp_path / SUMS_NAME).write_text(f"{'0' * 64} *{IMAGES_ZIP}\n")
        with pytest.raises(DataError, match=f"as {SUMS_NAME} in the folder states"):
            _download(shop, tmp_path)
        assert _left(tmp_path) == [SUMS_NAME]

    def test_a_later_download_is_compared_with_the_first(self, shop: Shop, tmp_path: Path) -> None:
        _download(shop, tmp_path)
        shutil.rmtree(tmp_path / IMAGES)
        assert SUMS_NAME in _download(shop, tmp_path).checks
        shutil.rmtree(tmp_path / IMAGES)
        shop.files[IMAGES_ZIP] = _zip({"ISIC_9000007.jpg": bytes(9000)})
        with pytest.raises(DataError, match="its SHA-256 is"):
            _download(shop, tmp_path)

    def test_damaged_sums_are_refused_before_anything_is_fetched(
        self, shop: Shop, tmp_path: Path
    ) -> None:
        (tmp_path / SUMS_NAME).write_text(f"\nhello {IMAGES_ZIP}\n")
        with pytest.raises(DataError, match="SHA256SUMS, line 2: 'hello"):
            _download(shop, tmp_path)
        assert shop.ranges == []

    def test_a_sign_in_page_is_no_label_file(self, shop: Shop, tmp_path: Path) -> None:
        shop.files[LABELS] = b"<html><body>Please sign in</body></html>"
        with pytest.raises(DataError, match="no image_id column"):
            _download(shop, tmp_path, "train-labels")
        assert _left(tmp_path) == []

    def test_a_corrupt_archive_leaves_nothing(self, shop: Shop, tmp_path: Path) -> None:
        corrupt = bytearray(ARCHIVE)
        corrupt[3000] ^= 1  # inside the first member
        for content in (bytes(corrupt), ARCHIVE[:-30], b"<html>"):
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

    def test_a_disk_that_fills_while_fetching_is_one_clear_line(
        self, shop: Shop, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        class _Full(io.BytesIO):
            def write(self, _: Any) -> int:
                raise OSError(errno.ENOSPC, "No space left on device")

        real_open = Path.open
        monkeypatch.setattr(
            Path,
            "open",
            lambda path, mode="r", **k: (
                _Full() if mode == "wb" and path.suffix == ".part" else real_open(path, mode, **k)
            ),
        )
        with pytest.raises(StorageError, match="No space left on device"):
            _download(shop, tmp_path)

    def test_a_folder_that_is_a_file(self, shop: Shop, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StorageError, match="cannot be written"):
            _download(shop, tmp_path / "file" / "data")


class TestUnpacking:
    @pytest.mark.parametrize("name", ["../escaped.jpg", "/escaped.jpg", "a\\..\\..\\escaped.jpg"])
    def test_a_member_outside_the_folder_is_refused(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "a.zip").write_bytes(_zip({"fine.jpg": b"1", name: b"2"}))
        with pytest.raises(DataError, match="outside its folder"):
            unpack_archive(tmp_path / "a.zip", tmp_path / "a", name="a.zip")
        assert _left(tmp_path) == ["a.zip"]

    def test_a_link_is_refused(self, tmp_path: Path) -> None:
        with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
            link = zipfile.ZipInfo("link.jpg")
            link.external_attr = 0o120777 << 16
            archive.writestr(link, "/etc/passwd")
        with pytest.raises(DataError, match="outside its folder"):
            unpack_archive(tmp_path / "a.zip", tmp_path / "a", name="a.zip")

    def test_an_empty_archive_is_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(_zip({}))
        with pytest.raises(DataError, match="it is empty"):
            unpack_archive(tmp_path / "a.zip", tmp_path / "a", name="a.zip")

    def test_loose_files_and_a_folder_of_another_name_both_become_the_folder(
        self, tmp_path: Path
    ) -> None:
        loose = {"1.jpg": b"1", "2.jpg": b"2"}
        for prefix in ("", "other/"):
            members = {f"{prefix}{name}": content for name, content in loose.items()}
            (tmp_path / "a.zip").write_bytes(_zip({**members, "__MACOSX/._1.jpg": b"x"}))
            target = tmp_path / f"target{len(prefix)}"
            unpack_archive(tmp_path / "a.zip", target, name="a.zip")
            assert _left(target) == ["1.jpg", "2.jpg"]
            assert target.stat().st_mode & 0o777 == 0o755

    def test_a_target_in_the_way_is_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "a.zip").write_bytes(ARCHIVE)
        (tmp_path / "a").mkdir()
        (tmp_path / "a" / "mine.txt").touch()
        with pytest.raises(StorageError, match="cannot be written"):
            unpack_archive(tmp_path / "a.zip", tmp_path / "a", name="a.zip")
        assert _left(tmp_path / "a") == ["mine.txt"]
        assert _left(tmp_path) == ["a", "a.zip"]
