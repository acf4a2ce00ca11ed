import base64
import hashlib
import re
import urllib.request
from collections.abc import Callable
from dataclasses import replace
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


@pytest.mark.parametrize("damage", [lambda _: b"not a weight file", lambda whole: whole[:-8]])
def test_a_damaged_file_is_refused(damage: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    save_file({"a": torch.rand(64)}, path)
    path.write_bytes(damage(path.read_bytes()))
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
        *[("squeezenet1_1", "features.5.weight"), ("squeezenet1_1", "strange")],
        *[("mobilenet_v2", "features.19.0.weight"), ("mobilenet_v2", "features.1.conv.5.bias")],
        *[("vgg16", "features.1.weight"), ("efficientnet_lite0", "blocks.1.0.conv_se.weight")],
        *[("resnet18", "conv1.weight")],  # and nothing else
    ],
)
def test_a_file_with_foreign_names_is_refused(name: str, alien: str, tmp_path: Path) -> None:
    theirs = {} if name == "resnet18" else published_state(name)[0]
    save_file(theirs | {alien: torch.ones(1)}, tmp_path / PUBLISHED[name].file)
    with pytest.raises(WeightsError, match="holds other names than its published version"):
        load_imagenet(build_backbone(name), folder=tmp_path)


Publish = Callable[..., Path]


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Publish:
    """Offers a file in place of a publisher's; the cache is ``dermfuse`` in the test's folder."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))

    def publish(name: str, content: bytes, *, announced: bytes | None = None) -> Path:
        announced = content if announced is None else announced
        file = tmp_path / f"{name}-{hashlib.sha256(announced).hexdigest()[:8]}.pth"
        if name == "mobilenet_v1":  # the checksum is not in the name: the server sends it
            file = tmp_path / "weights.h5"
            open_url = urllib.request.urlopen
            md5 = base64.b64encode(hashlib.md5(announced).digest()).decode()

            def with_checksums(url: str, **options: Any) -> Any:
                answer = open_url(url, **options)
                for checksum in ("crc32c=AAAAAA==", f"md5={md5}"):
                    answer.headers.add_header("x-goog-hash", checksum)
                return answer

            monkeypatch.setattr(urllib.request, "urlopen", with_checksums)
        file.write_bytes(content)
        monkeypatch.setitem(PUBLISHED, name, replace(PUBLISHED[name], url=file.as_uri()))  # type: ignore[arg-type]
        return file

    return publish


def cached(tmp_path: Path) -> list[str]:
    return [path.name for path in (tmp_path / "dermfuse").glob("*")]


def test_a_published_name_carries_its_checksum() -> None:
    urls = {name: published.url for name, published in PUBLISHED.items()}
    assert urls.pop("mobilenet_v1").startswith("https://storage.googleapis.com/")  # sends an MD5
    for url in urls.values():
        assert re.fullmatch(r"https://.*/\w+-[0-9a-f]{8}\.pth", url)


def test_a_good_file_is_fetched_once_converted_and_kept_without_its_classifier(
    publish: Publish, tmp_path: Path
) -> None:
    theirs, own = published_state("efficientnet_lite0")
    torch.save(theirs, tmp_path / "published.pth")
    offered = publish("efficientnet_lite0", (tmp_path / "published.pth").read_bytes())
    backbone = build_backbone("efficientnet_lite0")
    load_imagenet(backbone, folder=None)
    assert all(torch.equal(value, own[key]) for key, value in backbone.state_dict().items())
    assert cached(tmp_path) == ["efficientnet_lite0.safetensors"]
    assert "classifier.weight" not in read_weights(
        tmp_path / "dermfuse" / "efficientnet_lite0.safetensors"
    )
    offered.unlink()  # from here on the publisher has nothing: the cache must do
    load_imagenet(backbone, folder=None)
    load_imagenet(backbone, folder=tmp_path / "dermfuse")


def test_keras_weights_are_fetched_and_converted(publish: Publish, tmp_path: Path) -> None:
    keras, own = keras_state()
    with h5py.File(tmp_path / "published.h5", "w") as file:
        for key, tensor in keras.items():
            file[key] = tensor.numpy()
    publish("mobilenet_v1", (tmp_path / "published.h5").read_bytes())
    backbone = build_backbone("mobilenet_v1")
    load_imagenet(backbone, folder=None)
    assert cached(tmp_path) == ["mobilenet_v1.safetensors"]
    assert all(torch.equal(value, own[key]) for key, value in backbone.state_dict().items())


@pytest.mark.parametrize(
    ("name", "content", "announced", "message"),
    [
        ("resnet18", bytes(4000), bytes(4096), r"not match its checksum.*SHA-256 \w{8}\."),
        ("mobilenet_v1", b"else", b"what was published", r"not match its checksum.*MD5"),
        ("resnet18", b"<html></html>", None, r"cannot be read.*a PyTorch file of weights alone"),
        ("mobilenet_v1", b"<html></html>", None, r"cannot be read.*HDF5"),
    ],
)
def test_what_is_not_what_was_published_is_refused_and_nothing_stays(
    name: str, content: bytes, announced: bytes, message: str, publish: Publish, tmp_path: Path
) -> None:
    publish(name, content, announced=announced)
    with pytest.raises(WeightsError, match=message):
        load_imagenet(build_backbone(name), folder=None)
    assert cached(tmp_path) == []


def test_code_in_a_published_file_never_runs(publish: Publish, tmp_path: Path) -> None:
    torch.save({"layer": nn.Linear(1, 1)}, tmp_path / "code")  # unpickling it would run code
    publish("resnet18", (tmp_path / "code").read_bytes())
    with pytest.raises(WeightsError, match=r"cannot be read.*a PyTorch file of weights alone"):
        load_imagenet(build_backbone("resnet18"), folder=None)


def test_no_answer_no_file_and_no_place_for_the_cache_are_one_error(
    publish: Publish, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish("vgg16", b"anything").unlink()
    ways_out = r"could not be downloaded.*--imagenet, or set model\.init=random"
    with pytest.raises(WeightsError, match=ways_out):
        load_imagenet(build_backbone("vgg16"), folder=None)
    monkeypatch.setenv("no_proxy", "*")
    gone = replace(PUBLISHED["vgg16"], url="http://127.0.0.1:9/vgg16.pth")
    monkeypatch.setitem(PUBLISHED, "vgg16", gone)  # type: ignore[arg-type]
    with pytest.raises(WeightsError, match=ways_out):
        load_imagenet(build_backbone("vgg16"), folder=None)
    in_the_way = publish("vgg16", b"anything")
    monkeypatch.setenv("XDG_CACHE_HOME", str(in_the_way / "cache"))
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
@pytest.mark.parametrize(
    ("name", "head", "background"),
    [
        *[("mobilenet_v1", "classifier", 1), ("efficientnet_lite0", "classifier", 0)],
        *[("mobilenet_v2", "classifier.1", 0), ("resnet18", "fc", 0), ("squeezenet1_1", "", 0)],
    ],
)
def test_a_cat_is_named_a_cat_and_symmetric_padding_would_change_the_answer(
    name: str, head: str, background: int, real_imagenet: Path
) -> None:
    photograph = pytest.importorskip("skimage.data").chelsea()
    pixels = torch.from_numpy(squeeze(np.ascontiguousarray(photograph), 224))
    weights = read_weights(real_imagenet / PUBLISHED[name].file)
    backbone = build_backbone(name).eval()
    load_imagenet(backbone, folder=real_imagenet)
    x = Normalise(backbone.normalisation)(pixels.permute(2, 0, 1).unsqueeze(0) / 255)

    def probabilities() -> Tensor:
        with torch.inference_mode():
            scores = backbone(x).mean(dim=(2, 3))
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
