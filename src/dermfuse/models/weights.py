"""Loads ImageNet weights into a backbone: all of them or none.

They come from a local folder of safetensors files, or are downloaded once. A download is checked,
converted to safetensors and kept in the cache under the file name that a local folder uses, so the
cache is itself such a folder. Either way the same strict check precedes the first copied weight.
"""

import base64
import hashlib
import http.client
import logging
import os
import pickle
import re
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from dermfuse.errors import DependencyError, WeightsError, installing
from dermfuse.models.backbones import (
    Backbone,
    densenet,
    efficientnet_lite,
    mobilenet_v1,
    mobilenet_v2,
    resnet,
    squeezenet,
    vgg,
)
from dermfuse.models.backbones.base import State
from dermfuse.records.folders import atomic_write

_logger = logging.getLogger(__name__)
_CHUNK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_TORCHVISION = "https://download.pytorch.org/models/"
_TIMM = "https://github.com/rwightman/pytorch-image-models/releases/download/v0.1-weights/"
_KERAS = "https://storage.googleapis.com/tensorflow/keras-applications/mobilenet/"


@dataclass(frozen=True, slots=True)
class Published:
    """Where the ImageNet weights of one backbone are, and how they become ours.

    Args:
        file: File in a local folder and in the cache.
        url: The public download. Its name ends in the first digits of its SHA-256, or its server
            sends an MD5.
        convert: From the names in ``file`` to the backbone's own.
        classifier: Prefix of the names that a backbone has no use for.
    """

    file: str
    url: str
    convert: Callable[[State], State]
    classifier: str = "classifier."


PUBLISHED: Mapping[str, Published] = {
    "mobilenet_v1": Published(
        "mobilenet_v1.safetensors",
        f"{_KERAS}mobilenet_1_0_224_tf_no_top.h5",
        mobilenet_v1.convert_published,
    ),
    "densenet121": Published(
        "densenet121_features.safetensors",
        f"{_TORCHVISION}densenet121-a639ec97.pth",
        densenet.convert_torchvision,
    ),
    "squeezenet1_1": Published(
        "squeezenet1_1.safetensors",
        f"{_TORCHVISION}squeezenet1_1-b8a52dc0.pth",
        squeezenet.convert_torchvision,
        classifier="fc.",  # it has none: its last convolution is the classifier, and is kept
    ),
    "resnet18": Published(
        "resnet18.safetensors",
        f"{_TORCHVISION}resnet18-f37072fd.pth",
        resnet.convert_torchvision,
        classifier="fc.",
    ),
    "vgg16": Published(
        "vgg16_features.safetensors", f"{_TORCHVISION}vgg16-397923af.pth", vgg.convert_torchvision
    ),
    "resnext50": Published(
        "resnext50_32x4d.safetensors",
        f"{_TORCHVISION}resnext50_32x4d-7cdf4587.pth",
        dict,  # the names are torchvision's
        classifier="fc.",
    ),
    "efficientnet_lite0": Published(
        "efficientnet_lite0.safetensors",
        f"{_TIMM}tf_efficientnet_lite0-0aa007d2.pth",
        efficientnet_lite.convert_timm,
    ),
    "mobilenet_v2": Published(
        "mobilenet_v2.safetensors",
        f"{_TORCHVISION}mobilenet_v2-b0353104.pth",
        mobilenet_v2.convert_torchvision,
    ),
}
"""By backbone. ShuffleNet v1 is missing: neither torchvision nor timm publishes its weights."""


def load_imagenet(backbone: Backbone, *, folder: Path | None) -> None:
    """Loads ImageNet weights into a backbone, all of them or none.

    Args:
        backbone: Changed in place.
        folder: Folder with the safetensors files; None downloads the public file once.

    Raises:
        WeightsError: The file is missing, cannot be had, is damaged or does not fit.
        StorageError: The cache cannot be written.
    """
    name = backbone.name
    if name not in PUBLISHED:
        raise WeightsError(
            f"neither torchvision nor timm publishes ImageNet weights for {name}",
            expected="one of " + ", ".join(PUBLISHED),
            action="Set model.init=random",
        )
    published = PUBLISHED[name]
    path = _cached(published) if folder is None else folder / published.file
    if not path.is_file():
        raise WeightsError(
            f"the ImageNet weights of {name} are missing: there is no {path}",
            expected=f"the file {path.name} in the folder given by --imagenet",
            action="Leave --imagenet out to download them, or set model.init=random",
        )
    state = _without_classifier(published, read_weights(path))
    load_strictly(backbone, _converted(published.convert, state, source=path), source=path)


def read_weights(path: Path) -> State:
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


def _cached(published: Published) -> Path:
    """Returns the cached file, which is downloaded if it is not there."""
    root = os.environ.get("XDG_CACHE_HOME")
    cache = (Path(root) if root else Path.home() / ".cache") / "dermfuse"
    target = cache / published.file
    if target.is_file():
        return target
    name = published.url.rpartition("/")[2]
    raw = cache / f"{os.getpid()}-{name}"  # two trainings may both fetch
    _logger.info("downloading ImageNet weights from %s", published.url)
    with atomic_write(raw) as handle:
        handle.writelines(_fetch(published.url))
    try:
        state = _read_keras(raw) if raw.suffix == ".h5" else _read_pickle(raw)
        kept = _without_classifier(published, state)
        with atomic_write(target) as handle:
            handle.write(save({key: tensor.contiguous() for key, tensor in kept.items()}))
    finally:
        raw.unlink(missing_ok=True)
    return target


def _without_classifier(published: Published, state: State) -> State:
    return {k: tensor for k, tensor in state.items() if not k.startswith(published.classifier)}


def _fetch(url: str) -> Iterator[bytes]:
    """Yields what a publisher sends, in chunks, and refuses at its end what it did not publish."""
    named = re.search(r"-([0-9a-f]{8})\.pth$", url)
    digest = hashlib.new("sha256" if named else "md5", usedforsecurity=False)
    try:
        with urllib.request.urlopen(url, timeout=_TIMEOUT_SECONDS) as response:  # noqa: S310 - a publisher above
            announced = " ".join(response.headers.get_all("x-goog-hash", []))
            while chunk := response.read(_CHUNK_BYTES):
                digest.update(chunk)
                yield chunk
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise WeightsError(
            f"{url} could not be downloaded ({error})",
            expected="a connection to the publisher",
            action="Give a folder with the weights by --imagenet, or set model.init=random",
        ) from error
    md5 = base64.b64encode(digest.digest()).decode()
    if not (digest.hexdigest().startswith(named[1]) if named else f"md5={md5}" in announced):
        raise WeightsError(
            f"what {url} sent does not match its checksum",
            expected=f"SHA-256 {named[1]}..." if named else "the MD5 that the server announces",
            action="Try again; the connection may have broken off",
        )


def _read_pickle(path: Path) -> State:
    try:
        state: State = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError) as error:
        raise WeightsError(
            f"{path.name} cannot be read ({error})", expected="a PyTorch file of weights alone"
        ) from error
    return state


def _read_keras(path: Path) -> State:
    """Returns what Keras's HDF5 (/LAYER/LAYER/WEIGHT:0) holds, under the published names."""
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
    return _converted(mobilenet_v1.convert_keras, state, source=path)


def _converted(convert: Callable[[State], State], state: State, *, source: Path) -> State:
    try:
        return convert(state)
    except (KeyError, ValueError, IndexError, RuntimeError) as error:
        raise WeightsError(
            f"{source} holds other names than its published version ({error})",
            expected="the published weights",
            action="Fetch the file again",
        ) from error


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
