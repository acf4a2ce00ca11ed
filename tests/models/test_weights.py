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
import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dermfuse.errors import StorageError, WeightsError
from dermfuse.imaging.preprocess import squeeze
from dermfuse.models.backbones import BACKBONES, build_backbone
from dermfuse.models.backbones.base import Normalise, SamePadConv2d
from dermfuse.models.weights import PUBLISHED, load_imagenet, load_strictly, read_weights

from .published import keras_state, published_state

CATS = [281, 282, 283, 284, 285]  # tabby, tiger cat, Persian, Siamese, Egyptian cat
SOURCE = Path("weights.safetensors")


def _layers() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))


def _ones(**changes: Tensor | None) -> dict[str, Tensor]:
    state = {key: torch.ones_like(value) for key, value in _layers().state_dict().items()}
    return {key: value for key, value in (state | changes).items() if value is not None}


def test_weights_that_fit_are_copied_half_precision_widened_and_counters_may_be_absent() -> None:
    layers = _layers()
    half = {"0.weight": torch.full((2, 2), 0.5).half(), "1.num_batches_tracked": None}
    load_strictly(layers, _ones(**half), source=SOURCE)
    assert layers[0].weight.dtype == torch.float32
    assert layers[0].weight.tolist() == [[0.5, 0.5], [0.5, 0.5]]
    assert layers[1].running_var.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"0.bias": None}, r"0\.bias is missing"),
        ({"2.bias": torch.ones(2)}, r"2\.bias is unexpected"),
        ({"0.weight": torch.ones(3, 2)}, r"0\.weight is \(3, 2\), not \(2, 2\)"),
        ({"1.running_var": torch.tensor([1.0, float("nan")])}, r"1\.running_var .* not finite"),
        ({str(i): torch.ones(1) for i in range(5, 10)}, r"and 2 more"),
    ],
)
def test_weights_that_do_not_fit_are_refused_and_none_is_copied(
    changes: dict[str, Tensor | None], complaint: str
) -> None:
    layers = _layers()
    before = {key: value.clone() for key, value in layers.state_dict().items()}
    with pytest.raises(WeightsError, match=rf"weights\.safetensors does not fit .*{complaint}"):
        load_strictly(layers, _ones(**changes), source=SOURCE)
    assert all(torch.equal(value, before[key]) for key, value in layers.state_dict().items())


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    save_file({"a": torch.rand(64)}, path)
    for content in (b"", b"not a weight file at all", b"\xff" * 64, path.read_bytes()[:-8]):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=r"damaged\.safetensors cannot be read"):
            read_weights(path)


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - {"resnet18"}))
def test_a_local_folder_fills_a_backbone_without_its_classifier(name: str, tmp_path: Path) -> None:
    theirs, own = published_state(name)
    save_file(theirs, tmp_path / PUBLISHED[name].file)
    backbone = build_backbone(name)
    load_imagenet(backbone, folder=tmp_path)
    assert all(torch.equal(value, own[key]) for key, value in backbone.state_dict().items())


def test_a_folder_that_lacks_the_file_and_a_network_without_any_are_refused_with_ways_out(
    tmp_path: Path,
) -> None:
    with pytest.raises(
        WeightsError, match=r"no .*squeezenet1_1\.safetensors.*Leave --imagenet out"
    ):
        load_imagenet(build_backbone("squeezenet1_1"), folder=tmp_path)
    assert set(BACKBONES) - set(PUBLISHED) == {"shufflenet_v1"}
    with pytest.raises(WeightsError, match=r"neither .* for shufflenet_v1.*model\.init=random"):
        load_imagenet(build_backbone("shufflenet_v1"), folder=tmp_path)


@pytest.mark.parametrize(
    ("name", "alien"),
    [
        *(("squeezenet1_1", alien) for alien in ("features.5.weight", "fc", "strange")),
        *(("mobilenet_v2", alien) for alien in ("features.19.0.weight", "features.1.conv.5.bias")),
        ("vgg16", "features.1.weight"),
        ("efficientnet_lite0", "blocks.1.0.conv_se.weight"),
    ],
)
def test_a_file_with_foreign_names_is_refused(name: str, alien: str, tmp_path: Path) -> None:
    save_file(published_state(name)[0] | {alien: torch.ones(1)}, tmp_path / PUBLISHED[name].file)
    with pytest.raises(WeightsError, match="holds other names than its published version"):
        load_imagenet(build_backbone(name), folder=tmp_path)


def test_the_file_of_another_network_is_refused(tmp_path: Path) -> None:
    save_file(published_state("squeezenet1_1")[0], tmp_path / "mobilenet_v1.safetensors")
    with pytest.raises(WeightsError, match="does not fit the network"):
        load_imagenet(build_backbone("mobilenet_v1"), folder=tmp_path)


Files = dict[str, tuple[bytes, list[tuple[str, str]], int]]


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


class Web:
    """A publisher on this machine; downloads ask it instead, and its cache is in ``cache``."""

    def __init__(self, url: str, files: Files, cache: Path, patch: pytest.MonkeyPatch) -> None:
        self.url, self.files, self.cache, self.patch = url, files, cache, patch

    def publish(self, name: str, content: bytes | None, *, md5: str = "", cut: int = 0) -> None:
        """Offers ``content``, with the checksum of it in its name or, for Keras, beside it."""
        file = (
            "weights.h5" if md5 else f"{name}-{hashlib.sha256(content or b'').hexdigest()[:8]}.pth"
        )
        headers = [("x-goog-hash", "crc32c=AAAAAA=="), ("x-goog-hash", f"md5={md5}")]
        if content is not None:
            self.files[file] = (content, headers, cut)
        self.patch.setitem(PUBLISHED, name, replace(PUBLISHED[name], url=self.url + file))  # type: ignore[arg-type]

    def kept(self) -> list[str]:
        return [path.name for path in self.cache.iterdir()] if self.cache.exists() else []


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Web]:
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    files: Files = {}
    server = HTTPServer(("127.0.0.1", 0), partial(Publisher, files))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    url = f"http://127.0.0.1:{server.server_port}/"
    yield Web(url, files, tmp_path / "cache" / "dermfuse", monkeypatch)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", sorted(set(PUBLISHED) - {"mobilenet_v1"}))
def test_a_published_name_carries_its_checksum(name: str) -> None:
    assert PUBLISHED[name].url.startswith("https://")
    stem, _, checksum = PUBLISHED[name].url.removesuffix(".pth").rpartition("-")
    assert stem
    assert int(checksum, 16) >= 0


def test_a_good_file_is_fetched_once_converted_and_kept_without_its_classifier(
    web: Web, tmp_path: Path
) -> None:
    theirs, own = published_state("efficientnet_lite0")
    torch.save(theirs, tmp_path / "published.pth")
    web.publish("efficientnet_lite0", (tmp_path / "published.pth").read_bytes())
    backbone = build_backbone("efficientnet_lite0")
    load_imagenet(backbone, folder=None)
    assert all(torch.equal(value, own[key]) for key, value in backbone.state_dict().items())
    assert web.kept() == ["efficientnet_lite0.safetensors"]
    assert "classifier.weight" not in read_weights(web.cache / "efficientnet_lite0.safetensors")
    web.files.clear()  # from here on the publisher has nothing: the cache must do
    load_imagenet(backbone, folder=None)
    load_imagenet(backbone, folder=web.cache)


def test_keras_weights_are_fetched_and_converted(web: Web, tmp_path: Path) -> None:
    keras, own = keras_state()
    with h5py.File(tmp_path / "published.h5", "w") as file:
        for key, tensor in keras.items():
            file[key] = tensor.numpy()
    content = (tmp_path / "published.h5").read_bytes()
    md5 = base64.b64encode(hashlib.md5(content).digest()).decode()
    web.publish("mobilenet_v1", content, md5=md5)
    backbone = build_backbone("mobilenet_v1")
    load_imagenet(backbone, folder=None)
    assert web.kept() == ["mobilenet_v1.safetensors"]
    assert all(torch.equal(value, own[key]) for key, value in backbone.state_dict().items())


def test_what_is_not_what_was_published_is_refused_and_nothing_stays(
    web: Web, tmp_path: Path
) -> None:
    torch.save({"layer": nn.Linear(1, 1)}, tmp_path / "code.pth")  # unpickling it would run code
    resnet, mobilenet = build_backbone("resnet18"), build_backbone("mobilenet_v1")
    web.publish("mobilenet_v1", b"anything", md5="other")
    with pytest.raises(WeightsError, match=r"does not match its checksum.*MD5"):
        load_imagenet(mobilenet, folder=None)
    web.publish("resnet18", bytes(4096), cut=100)
    with pytest.raises(WeightsError, match=r"checksum|could not be downloaded"):
        load_imagenet(resnet, folder=None)
    web.files.update(dict.fromkeys(web.files, (b"something else", [], 0)))
    with pytest.raises(WeightsError, match=r"does not match its checksum.*SHA-256 \w{8}\."):
        load_imagenet(resnet, folder=None)
    web.files.clear()
    with pytest.raises(WeightsError, match=r"404.*--imagenet, or set model\.init=random"):
        load_imagenet(resnet, folder=None)
    for content in (b"<html>an error page</html>", (tmp_path / "code.pth").read_bytes()):
        web.publish("resnet18", content)
        with pytest.raises(WeightsError, match=r"cannot be read.*a PyTorch file of weights alone"):
            load_imagenet(resnet, folder=None)
    page = b"<html></html>"
    web.publish("mobilenet_v1", page, md5=base64.b64encode(hashlib.md5(page).digest()).decode())
    with pytest.raises(WeightsError, match=r"cannot be read.*HDF5"):
        load_imagenet(mobilenet, folder=None)
    assert web.kept() == []


def test_a_publisher_that_does_not_answer_and_a_cache_that_cannot_be_written_are_one_error(
    web: Web, tmp_path: Path
) -> None:
    gone = replace(PUBLISHED["vgg16"], url="http://127.0.0.1:9/vgg16.pth")
    web.patch.setitem(PUBLISHED, "vgg16", gone)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match="could not be downloaded"):
        load_imagenet(build_backbone("vgg16"), folder=None)
    (tmp_path / "file").write_text("in the way")
    web.patch.setenv("XDG_CACHE_HOME", str(tmp_path / "file" / "cache"))
    with pytest.raises(StorageError, match="cannot be written"):
        load_imagenet(build_backbone("vgg16"), folder=None)


def test_the_cache_is_in_the_users_cache_folder(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    kept = tmp_path / ".cache" / "dermfuse" / "vgg16_features.safetensors"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"kept from before")
    with pytest.raises(WeightsError, match=f"{kept} cannot be read"):
        load_imagenet(build_backbone("vgg16"), folder=None)


@pytest.mark.real
@pytest.mark.parametrize("name", sorted(PUBLISHED))
def test_every_local_file_fits_its_backbone(name: str, real_imagenet: Path) -> None:
    if not (real_imagenet / PUBLISHED[name].file).is_file():
        pytest.skip(f"{real_imagenet} has no {PUBLISHED[name].file}")
    network = build_backbone(name).eval()
    load_imagenet(network, folder=real_imagenet)
    with torch.inference_mode():
        assert bool(torch.isfinite(network(torch.rand(1, 3, 64, 64))).all())


@pytest.fixture
def cat() -> Tensor:
    data = pytest.importorskip("skimage.data")
    try:
        photograph = data.chelsea()
    except (OSError, ImportError):
        pytest.skip("scikit-image came without its cat")
    pixels = squeeze(np.ascontiguousarray(photograph), 224)
    return torch.from_numpy(pixels).permute(2, 0, 1).unsqueeze(0) / 255


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "head", "background"),
    [
        ("mobilenet_v1", "classifier", 1),
        ("efficientnet_lite0", "classifier", 0),
        ("squeezenet1_1", "", 0),
        ("mobilenet_v2", "classifier.1", 0),
        ("resnet18", "fc", 0),
    ],
)
def test_a_cat_is_named_a_cat_and_symmetric_padding_would_change_the_answer(
    name: str, head: str, background: int, real_imagenet: Path, cat: Tensor
) -> None:
    weights = read_weights(real_imagenet / PUBLISHED[name].file)
    backbone = build_backbone(name).eval()
    load_imagenet(backbone, folder=real_imagenet)

    def probabilities() -> Tensor:
        with torch.inference_mode():
            scores = backbone(Normalise(backbone.normalisation)(cat)).mean(dim=(2, 3))
            if head:
                dense = (weights[f"{head}.{leaf}"].float() for leaf in ("weight", "bias"))
                scores = nn.functional.linear(scores, *dense)
        return scores.softmax(dim=1)[0, background:]

    right = probabilities()
    assert int(right.argmax()) in CATS
    assert float(right[CATS].sum()) > 0.8
    same = [layer for layer in backbone.modules() if isinstance(layer, SamePadConv2d)]
    for layer in same:
        layer.__class__ = nn.Conv2d  # type: ignore[assignment]
        layer.padding = tuple(size // 2 for size in layer.kernel_size)  # type: ignore[assignment]
    assert not same or float((probabilities() - right).abs().max()) > 0.02
