"""Loads ImageNet weights into a backbone: all of them or none.

They come from a local folder of safetensors files, or are downloaded once. Either way they pass
the same strict check before the first of them is copied.

Which ImageNet weights are published for each backbone, and their download.

A download is checked, converted once to safetensors and kept in the cache under the file name
that a local folder uses, so the cache is itself such a folder.
"""

import base64
import hashlib
import http.client
import logging
import os
import pickle
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dermfuse.errors import DependencyError, WeightsError, installing
from dermfuse.folders import atomic_write
from dermfuse.models.backbones import (
    Backbone,
    build_backbone,
    densenet,
    efficientnet_lite,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    resnext,
    squeezenet,
    vgg,
)
from dermfuse.models.backbones.base import Normalise

State = Mapping[str, Tensor]
"""Tensors by name."""

_logger = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_TORCHVISION = "https://download.pytorch.org/models/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"


def _unchanged(state: State) -> State:
    return state


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Where the ImageNet weights of one backbone are, and how they become ours.

    Args:
        file: File in a local folder and in the cache.
        base_url: Folder of the public download, ending in a slash.
        download: File name of the public download.
        sha256: First digits of its SHA-256; empty where the publisher names none and sends an
            MD5 with the file instead.
        head: Name of the ImageNet classifier's dense layer; empty if the backbone itself ends
            in it, None if it cannot be had on this backbone.
        dropped: Prefixes of the names that a backbone has no use for.
        from_download: From the names in the download to the names in ``file``.
        to_backbone: From the names in ``file`` to the backbone's own.
    """

    file: str
    base_url: str
    download: str
    sha256: str
    to_backbone: Callable[[State], State]
    from_download: Callable[[State], State] = _unchanged
    head: str | None = None
    dropped: tuple[str, ...] = ()

    def backbone_state(self, state: State, *, source: Path) -> State:
        """Returns the backbone's weights under its own names.

        Args:
            state: The content of ``file``.
            source: Where it is, for the error.

        Raises:
            WeightsError: A name has no counterpart.
        """
        kept = {key: value for key, value in state.items() if not key.startswith(self.dropped)}
        return _converted(self.to_backbone, kept, source=source)


PUBLISHED: Mapping[str, Published] = {
    "mobilenet_v1": Published(
        file="mobilenet_v1.safetensors",
        base_url=_KERAS,
        download="mobilenet_1_0_224_tf_no_top.h5",
        sha256="",
        from_download=mobilenet_v1.convert_keras,
        to_backbone=mobilenet_v1.convert_published,
        head="classifier",
        dropped=("classifier.",),
    ),
    "densenet121": Published(
        file="densenet121_features.safetensors",
        base_url=_TORCHVISION,
        download="densenet121-a639ec97.pth",
        sha256="a639ec97",
        to_backbone=densenet.convert_torchvision,
        head="classifier",
        dropped=("classifier.",),
    ),
    "squeezenet1_1": Published(
        file="squeezenet1_1.safetensors",
        base_url=_TORCHVISION,
        download="squeezenet1_1-b8a52dc0.pth",
        sha256="b8a52dc0",
        to_backbone=squeezenet.convert_torchvision,
        head="",
    ),
    "resnet18": Published(
        file="resnet18.safetensors",
        base_url=_TORCHVISION,
        download="resnet18-f37072fd.pth",
        sha256="f37072fd",
        to_backbone=resnet.convert_torchvision,
        dropped=("fc.",),
    ),
    "vgg16": Published(
        file="vgg16_features.safetensors",
        base_url=_TORCHVISION,
        download="vgg16-397923af.pth",
        sha256="397923af",
        to_backbone=vgg.convert_torchvision,
        dropped=("classifier.",),
    ),
    "resnext50": Published(
        file="resnext50_32x4d.safetensors",
        base_url=_TORCHVISION,
        download="resnext50_32x4d-7cdf4587.pth",
        sha256="7cdf4587",
        to_backbone=resnext.convert_torchvision,
        head="fc",
        dropped=("fc.",),
    ),
    "efficientnet_lite0": Published(
        file="efficientnet_lite0.safetensors",
        base_url=_TIMM,
        download="tf_efficientnet_lite0-0aa007d2.pth",
        sha256="0aa007d2",
        to_backbone=efficientnet_lite.convert_timm,
        head="classifier",
        dropped=("classifier.",),
    ),
    "mobilenet_v2": Published(
        file="mobilenet_v2.safetensors",
        base_url=_TORCHVISION,
        download="mobilenet_v2-b0353104.pth",
        sha256="b0353104",
        to_backbone=mobilenet_v2.convert_torchvision,
        head="classifier.1",
        dropped=("classifier.",),
    ),
}
"""By backbone. ShuffleNet v1 is missing: neither torchvision nor timm publishes its weights."""


def find_published(name: str) -> Published:
    """Returns what is published for a backbone.

    Raises:
        WeightsError: Nothing is.
    """
    if name not in PUBLISHED:
        raise WeightsError(
            f"neither torchvision nor timm publishes ImageNet weights for {name}",
            expected="one of " + ", ".join(PUBLISHED),
            action="Set model.init=random",
        )
    return PUBLISHED[name]


def download_imagenet(name: str, *, cache: Path | None = None, base_url: str = "") -> Path:
    """Downloads a backbone's public weights unless they are cached, and returns the cached file.

    Args:
        name: The backbone.
        cache: By default ``dermfuse`` in ``$XDG_CACHE_HOME`` or ``~/.cache``.
        base_url: A mirror to use instead of the publisher, ending in a slash.

    Raises:
        WeightsError: The file cannot be had, or is not what its publisher published.
        StorageError: The cache cannot be written.
    """
    published = find_published(name)
    target = (cache or _default_cache()) / published.file
    if target.is_file():
        return target
    url = (base_url or published.base_url) + published.download
    raw = target.with_name(f"{os.getpid()}-{published.download}")  # two trainings may both fetch
    _logger.info("downloading the ImageNet weights of %s from %s", name, url)
    _download(url, raw, sha256=published.sha256)
    try:
        read = _read_keras if raw.suffix == ".h5" else _read_pickle
        state = _converted(published.from_download, read(raw), source=raw)
        with atomic_write(target) as handle:
            handle.write(save(dict(_kept(published, state))))
    finally:
        raw.unlink(missing_ok=True)
    return target


def _kept(published: Published, state: State) -> Iterator[tuple[str, Tensor]]:
    """Yields what the cache keeps: the backbone and its dense layer, but not VGG's three."""
    for key, tensor in state.items():
        is_head = published.head is not None and key.startswith(f"{published.head}.")
        if is_head or not key.startswith(published.dropped):
            yield key, tensor.contiguous()


def _default_cache() -> Path:
    root = os.environ.get("XDG_CACHE_HOME")
    return (Path(root) if root else Path.home() / ".cache") / "dermfuse"


def _converted(convert: Callable[[State], State], state: State, *, source: Path) -> State:
    try:
        return convert(state)
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise WeightsError(
            f"{source} holds other names than its published version ({error})",
            expected="the published weights",
            action="Fetch the file again",
        ) from error


def _download(url: str, path: Path, *, sha256: str) -> None:
    digest = hashlib.new("sha256" if sha256 else "md5", usedforsecurity=False)
    content = _fetch(url)
    with atomic_write(path) as handle:
        announced = next(content).decode()
        for chunk in content:
            digest.update(chunk)
            handle.write(chunk)
        md5 = base64.b64encode(digest.digest()).decode()
        intact = digest.hexdigest().startswith(sha256) if sha256 else f"md5={md5}" in announced
        if not intact:
            raise WeightsError(
                f"what {url} sent does not match its checksum",
                expected=f"SHA-256 {sha256}..." if sha256 else "the MD5 that the server announces",
                action="Try again; the connection may have broken off",
            )


def _fetch(url: str) -> Iterator[bytes]:
    """Yields the checksums that the server announces, then the content in chunks."""
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - a publisher above or the caller's mirror
            yield " ".join(response.headers.get_all("x-goog-hash", [])).encode()
            while chunk := response.read(_CHUNK_BYTES):
                yield chunk
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WeightsError(
            f"{url} could not be downloaded ({error})",
            expected="a connection to the publisher",
            action="Give a folder with the weights by --imagenet, or set model.init=random",
        ) from error


def _read_pickle(path: Path) -> dict[str, Tensor]:
    try:
        state: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(
            f"{path.name} cannot be read ({error})", expected="a PyTorch file of weights alone"
        ) from error
    return state


def _read_keras(path: Path) -> dict[str, Tensor]:
    """Returns ``LAYER/WEIGHT`` -> tensor from Keras's HDF5 (/LAYER/LAYER/WEIGHT:0)."""
    try:
        import h5py  # type: ignore[import-untyped]  # noqa: PLC0415 - one download needs it
    except ImportError as error:
        raise DependencyError(
            "h5py is not installed",
            expected="h5py, to read the published MobileNetV1",
            action=installing("train"),
        ) from error
    state: dict[str, Tensor] = {}

    def collect(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            parts = name.split("/")
            state[f"{parts[0]}/{parts[-1].removesuffix(':0')}"] = torch.from_numpy(item[()])

    try:
        with h5py.File(path) as file:
            file.visititems(collect)
    except OSError as error:
        raise WeightsError(f"{path.name} cannot be read ({error})", expected="HDF5") from error
    return state


def load_imagenet(backbone: Backbone, *, folder: Path | None, cache: Path | None = None) -> None:
    """Loads ImageNet weights into a backbone, all of them or none.

    Args:
        backbone: Changed in place.
        folder: Folder with the safetensors files; None downloads the public file once.
        cache: Where downloads are kept; by default ``~/.cache/dermfuse``.

    Raises:
        WeightsError: The file is missing, cannot be had, is damaged or does not fit.
    """
    path = _locate(backbone.name, folder=folder, cache=cache)
    state = find_published(backbone.name).backbone_state(read_weights(path), source=path)
    load_strictly(backbone, state, source=path)


def load_imagenet_classifier(
    name: str, *, folder: Path | None, cache: Path | None = None
) -> "ImageNetClassifier":
    """Returns a network as published, ImageNet classifier included, in evaluation mode.

    Args:
        name: A backbone whose published classifier is one dense layer or part of it.
        folder: As in ``load_imagenet``.
        cache: As in ``load_imagenet``.

    Raises:
        WeightsError: As ``load_imagenet``; or the file holds no such classifier.
    """
    backbone = build_backbone(name)
    load_imagenet(backbone, folder=folder, cache=cache)
    head: nn.Module = nn.Identity()
    key = find_published(name).head
    if key != "":
        path = _locate(name, folder=folder, cache=cache)
        weights = read_weights(path)
        if f"{key}.weight" not in weights or f"{key}.bias" not in weights:
            raise WeightsError(
                f"{path} holds no ImageNet classifier for {name}",
                expected="a dense layer after global average pooling",
            )
        state = {leaf: weights[f"{key}.{leaf}"] for leaf in ("weight", "bias")}
        head = nn.Linear(backbone.embedding_channels, len(state["bias"]))
        load_strictly(head, state, source=path)
    return ImageNetClassifier(backbone, head).eval()


class ImageNetClassifier(nn.Module):
    """A backbone with its published ImageNet classifier.

    Args:
        backbone: With its ImageNet weights.
        head: The published dense layer; the identity where the backbone answers itself.

    Shape:
        RGB in [0, 1] (B, 3, H, W) -> logits (B, classes)
    """

    def __init__(self, backbone: Backbone, head: nn.Module) -> None:
        super().__init__()
        self.normalise = Normalise(backbone.normalisation)
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """Returns the logits; with 1001 classes, class 0 is the background."""
        logits: Tensor = self.head(self.backbone(self.normalise(x)).mean(dim=(2, 3)))
        return logits


def read_weights(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} cannot be read ({error})",
            expected="a whole safetensors file",
            action="Fetch or write it again",
        ) from error


def load_strictly(module: nn.Module, state: State, *, source: Path) -> None:
    """Copies weights into a network after checking every name, shape and number.

    Half-precision weights are up-cast; BatchNorm's batch counters may be absent.

    Args:
        module: Changed in place, and only if everything fits.
        state: Weights under the network's own names.
        source: Their file, for the error.

    Raises:
        WeightsError: Names are missing or unexpected, a shape differs, a number is not finite.
    """
    faults = list(_faults(module.state_dict(), state))
    if faults:
        more = f" and {len(faults) - 3} more" if len(faults) > 3 else ""
        raise WeightsError(
            f"{source} does not fit the network: {'; '.join(faults[:3])}{more}",
            expected="exactly the network's weights, all finite",
            action="Check that the file belongs to this network, or fetch it again",
        )
    module.load_state_dict(dict(state), strict=False)


def _faults(wanted: State, given: State) -> Iterator[str]:
    for key in sorted(set(wanted) | set(given)):
        if key not in wanted:
            yield f"{key} is unexpected"
        elif key not in given:
            if not key.endswith("num_batches_tracked"):
                yield f"{key} is missing"
        elif wanted[key].shape != given[key].shape:
            yield f"{key} is {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
        elif not bool(torch.isfinite(given[key]).all()):
            yield f"{key} holds numbers that are not finite"


def _locate(name: str, *, folder: Path | None, cache: Path | None) -> Path:
    if folder is None:
        return download_imagenet(name, cache=cache)
    path = folder / find_published(name).file
    if not path.is_file():
        raise WeightsError(
            f"the ImageNet weights of {name} are missing: there is no {path}",
            expected=f"the file {path.name} in the folder given by --imagenet",
            action="Leave --imagenet out to download them, or set model.init=random",
        )
    return path
