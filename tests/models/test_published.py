import base64
import hashlib
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from dermfuse.errors import StorageError, WeightsError
from dermfuse.models import weights as published
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.weights import (
    PUBLISHED,
    download_imagenet,
    find_published,
    load_imagenet,
    load_imagenet_classifier,
    read_weights,
)

Files = dict[str, tuple[bytes, list[tuple[str, str]], int]]
Served = tuple[Files, str]


class Publisher(BaseHTTPRequestHandler):
    """Serves ``files``: name -> (content, headers, bytes left out at the end)."""

    def __init__(self, files: Files, *args: Any) -> None:
        self.files = files
        super().__init__(*args)

    def do_GET(self) -> None:
        if self.path[1:] not in self.files:
            self.send_error(404)
            return
        content, headers, cut = self.files[self.path[1:]]
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        for key, value in headers:
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content[: len(content) - cut])

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def publisher(monkeypatch: pytest.MonkeyPatch) -> Iterator[Served]:
    monkeypatch.setenv("no_proxy", "*")
    files: Files = {}
    server = HTTPServer(("127.0.0.1", 0), partial(Publisher, files))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield files, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def _publish(
    monkeypatch: pytest.MonkeyPatch, name: str, url: str, content: bytes, **changes: Any
) -> None:
    """Points the table at the local publisher, with the checksum of what it should send."""
    digest = hashlib.sha256(content).hexdigest()[:8]
    entry = replace(PUBLISHED[name], base_url=url, sha256=digest, **changes)
    monkeypatch.setitem(published.PUBLISHED, name, entry)


def _efficientnet(path: Path) -> bytes:
    """Writes random weights (under our names) with a dense layer, and returns the content."""
    state = build_backbone("efficientnet_lite0").state_dict()
    dense = {"classifier.weight": torch.ones(5, 1280), "classifier.bias": torch.ones(5)}
    torch.save(state | dense, path)
    return path.read_bytes()


def _vgg(path: Path) -> bytes:
    """Writes VGG-16's names with its three dense layers in miniature."""
    state = {"features.0.weight": torch.rand(64, 3, 3, 3), "classifier.0.weight": torch.ones(2)}
    torch.save(state, path)
    return path.read_bytes()


def _keras(path: Path) -> tuple[dict[str, torch.Tensor], bytes]:
    """Writes random MobileNetV1 weights as Keras does."""
    leaves = {"bias": "beta", "running_mean": "moving_mean", "running_var": "moving_variance"}
    state = build_backbone("mobilenet_v1").state_dict()
    with h5py.File(path, "w") as file:
        for key, tensor in state.items():
            *where, module, leaf = key.split(".")
            if leaf == "num_batches_tracked":
                continue
            layer = "conv1" if where == ["stem"] else f"conv_{where[2][0]}w_{int(where[1]) + 1}"
            if module == "norm":
                layer, weight, array = f"{layer}_bn", leaves.get(leaf, "gamma"), tensor
            elif "_dw_" in layer:
                weight, array = "depthwise_kernel", tensor.permute(2, 3, 0, 1)
            else:
                weight, array = "kernel", tensor.permute(2, 3, 1, 0)
            file[f"{layer}/{layer}/{weight}:0"] = array.numpy()
    return state, path.read_bytes()


def test_every_backbone_but_shufflenet_is_published() -> None:
    assert set(BACKBONES) - set(PUBLISHED) == {"shufflenet_v1"}
    with pytest.raises(WeightsError, match=r"shufflenet_v1.*model\.init=random"):
        find_published("shufflenet_v1")


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - {"mobilenet_v1"}))
def test_a_published_name_carries_its_checksum(name: str) -> None:
    entry = PUBLISHED[name]
    assert entry.download.endswith(f"-{entry.sha256}.pth")
    assert entry.base_url.startswith("https://")
    assert entry.base_url.endswith("/")


def test_a_good_file_is_fetched_once_converted_and_loaded(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publisher: Served
) -> None:
    files, url = publisher
    name = "efficientnet_lite0"
    content = _efficientnet(tmp_path / "published.pth")
    _publish(monkeypatch, name, url, content, to_backbone=dict)
    files[PUBLISHED[name].download] = (content, [], 0)
    cache = tmp_path / "cache"
    backbone = build_backbone(name)
    load_imagenet(backbone, folder=None, cache=cache)
    assert [path.name for path in cache.iterdir()] == ["efficientnet_lite0.safetensors"]
    expected = torch.load(tmp_path / "published.pth", weights_only=True)
    assert all(torch.equal(value, expected[key]) for key, value in backbone.state_dict().items())

    files.clear()  # from here on the publisher has nothing: the cache must do
    load_imagenet(backbone, folder=None, cache=cache)
    load_imagenet(backbone, folder=cache)
    classifier = load_imagenet_classifier(name, folder=cache)
    assert classifier.head.weight.shape == (5, 1280)


def test_keras_weights_are_fetched_and_converted(tmp_path: Path, publisher: Served) -> None:
    files, url = publisher
    state, content = _keras(tmp_path / "published.h5")
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    headers = [("x-goog-hash", "crc32c=AAAAAA=="), ("x-goog-hash", f"md5={md5}")]
    files["mobilenet_1_0_224_tf_no_top.h5"] = (content, headers, 0)
    cache = tmp_path / "cache"
    path = download_imagenet("mobilenet_v1", cache=cache, base_url=url)
    assert path == cache / "mobilenet_v1.safetensors"
    backbone = build_backbone("mobilenet_v1")
    load_imagenet(backbone, folder=cache)
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())


def test_keras_weights_without_the_announced_checksum_are_refused(
    tmp_path: Path, publisher: Served
) -> None:
    files, url = publisher
    files["mobilenet_1_0_224_tf_no_top.h5"] = (b"anything", [], 0)
    with pytest.raises(WeightsError, match=r"does not match its checksum.*MD5"):
        download_imagenet("mobilenet_v1", cache=tmp_path, base_url=url)
    assert list(tmp_path.iterdir()) == []


def test_a_wrong_checksum_is_refused_and_nothing_stays(tmp_path: Path, publisher: Served) -> None:
    files, url = publisher
    files[PUBLISHED["resnet18"].download] = (b"something else", [], 0)
    with pytest.raises(WeightsError, match=r"does not match its checksum.*SHA-256 f37072fd"):
        download_imagenet("resnet18", cache=tmp_path, base_url=url)
    assert list(tmp_path.iterdir()) == []


def test_a_truncated_download_is_refused_and_nothing_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publisher: Served
) -> None:
    files, url = publisher
    content = bytes(range(256)) * 16
    _publish(monkeypatch, "resnet18", url, content)
    files[PUBLISHED["resnet18"].download] = (content, [], 100)
    with pytest.raises(WeightsError, match=r"checksum|could not be downloaded"):
        download_imagenet("resnet18", cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_not_there_is_refused_with_two_ways_out(
    tmp_path: Path, publisher: Served
) -> None:
    _, url = publisher
    with pytest.raises(WeightsError, match=r"404.*--imagenet, or set model\.init=random"):
        download_imagenet("resnet18", cache=tmp_path, base_url=url)
    assert list(tmp_path.iterdir()) == []


def test_a_publisher_that_does_not_answer_is_one_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("no_proxy", "*")
    with pytest.raises(WeightsError, match="could not be downloaded"):
        download_imagenet("resnet18", cache=tmp_path, base_url="http://127.0.0.1:9/")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v1"])
def test_an_intact_file_that_holds_no_weights_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publisher: Served, name: str
) -> None:
    files, url = publisher
    content = b"<html>an error page</html>"
    _publish(monkeypatch, name, url, content)
    files[PUBLISHED[name].download] = (content, [], 0)
    with pytest.raises(WeightsError, match="cannot be read"):
        download_imagenet(name, cache=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_pickle_that_runs_code_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publisher: Served
) -> None:
    files, url = publisher
    path = tmp_path / "evil.pth"
    torch.save({"layer": torch.nn.Linear(1, 1)}, path)
    content = path.read_bytes()
    _publish(monkeypatch, "resnet18", url, content)
    files[PUBLISHED["resnet18"].download] = (content, [], 0)
    with pytest.raises(WeightsError, match="a PyTorch file of weights alone"):
        download_imagenet("resnet18", cache=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []


def test_dense_layers_without_use_are_not_kept(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, publisher: Served
) -> None:
    files, url = publisher
    content = _vgg(tmp_path / "published.pth")
    _publish(monkeypatch, "vgg16", url, content)
    files[PUBLISHED["vgg16"].download] = (content, [], 0)
    path = download_imagenet("vgg16", cache=tmp_path / "cache")
    assert set(read_weights(path)) == {"features.0.weight"}


def test_a_cache_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="cannot be written"):
        download_imagenet("resnet18", cache=tmp_path / "file" / "cache", base_url="http://x/")


@pytest.mark.parametrize("variable", ["XDG_CACHE_HOME", "HOME"])
def test_the_cache_is_in_the_users_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, variable: str
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv(variable, str(tmp_path))
    below = tmp_path if variable == "XDG_CACHE_HOME" else tmp_path / ".cache"
    cached = below / "dermfuse" / PUBLISHED["resnet18"].file
    cached.parent.mkdir(parents=True)
    cached.write_bytes(b"kept from before")
    assert download_imagenet("resnet18") == cached
