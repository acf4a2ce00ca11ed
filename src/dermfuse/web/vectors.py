"""Test vectors: input pixels and what every stage of an analysis makes of them.

Whoever runs the networks elsewhere, in a browser or on a phone, compares with these. The images
are drawn in integers, so that they are the same everywhere.
"""

import hashlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from dermfuse.analysis.analyzer import Analyzer
from dermfuse.imaging.geometry import reduce_image
from dermfuse.imaging.preprocess import squeeze
from dermfuse.imaging.quality import FEATURES, appearance
from dermfuse.imaging.symmetries import mean_looks
from dermfuse.records.folders import NOTICE, new_folder, write_json
from dermfuse.release.folder import choose_release, read_release
from dermfuse.release.gate import read_dermoscopy
from dermfuse.release.networks import Network, ask_all, join_activations, join_masks, load_networks
from dermfuse.web.build import pack_bytes, pack_dermoscopy, pack_floats

FORMAT = 1

Lesion = Literal["whole", "cut", "none"]

_IMAGES: dict[str, tuple[int, int, Lesion]] = {
    "tiny": (24, 17, "whole"),
    "small": (64, 48, "whole"),
    "odd": (97, 61, "whole"),
    "large": (530, 397, "whole"),
    "tall": (301, 780, "whole"),
    "cut": (211, 160, "cut"),
    "bare": (320, 240, "none"),
}


def write_vectors(out: str | Path, *, release: str | Path | None = None) -> tuple[Path, int]:
    """Writes ``vectors.json`` into a new folder.

    Args:
        out: The folder; new or empty.
        release: Whose answers to write; those of the networks of the package if left out.

    Returns:
        The file, and how many images it holds.

    Raises:
        ReleaseError: The release cannot be used.
        RunError: ``out`` exists and is not empty.
        StorageError: It cannot be written.
    """
    record = make_vectors(choose_release(release))
    path = new_folder(Path(out), what="vectors") / "vectors.json"
    write_json(path, record, compact=True)
    return path, len(record["images"])


def make_vectors(folder: Path) -> dict[str, Any]:
    """Returns the vectors of a release as JSON values; docs/browser.md has the keys."""
    release = read_release(folder)
    networks = load_networks(folder, release, threads=1)
    analyzer = Analyzer(folder)
    gate = release.gate
    return {
        "format": FORMAT,
        "notice": NOTICE,
        "release": release.to_dict(),
        "looks": analyzer.looks,
        "dermoscopy": pack_dermoscopy(read_dermoscopy(folder, gate)) if gate else None,
        "features": list(FEATURES),
        "images": [
            _stages(analyzer, networks, name, draw_image(width, height, lesion=lesion))
            for name, (width, height, lesion) in _IMAGES.items()
        ],
    }


def draw_image(width: int, height: int, *, lesion: Lesion = "whole") -> NDArray[np.uint8]:
    """Returns drawn skin and a lobed lesion of several colours, made in integers alone.

    Args:
        width: How wide the image is, in pixels.
        height: How high it is.
        lesion: Whether there is one, and whether it runs out of the frame.

    Returns:
        (H, W, 3)
    """
    y, x = np.mgrid[:height, :width].astype(np.int64)
    light = 24 * x // width - 18 * y // height
    texture = (7 * x + 13 * y) % 11 + (x * y) % 5
    image = np.stack([205 + light, 152 + light, 128 + light], axis=-1) - texture[..., None]
    if lesion != "none":
        u = 200 * (2 * x - (width // 4 if lesion == "cut" else width)) // width
        v = 200 * (2 * y - height) // height  # -200 to 200 over the frame
        ragged = 12 * (((u + v) // 23) % 2)
        squares = 3 * u * u + 4 * v * v + u * v
        for reach, colour in ((190, (150, 98, 72)), (140, (86, 46, 36)), (60, (40, 34, 36))):
            image[squares < (reach + ragged) ** 2] = colour
        image[(u + 60) ** 2 + (v - 30) ** 2 < 700] = (96, 88, 100)
        image += (texture % 4)[..., None]
    drawn: NDArray[np.uint8] = np.clip(image, 0, 255).astype(np.uint8)
    return drawn


def _stages(
    analyzer: Analyzer, networks: list[Network], name: str, image: NDArray[np.uint8]
) -> dict[str, Any]:
    """Returns one image and what each stage makes of it."""
    reduced = reduce_image(image)
    apart = ask_all(networks, Image.fromarray(image), looks=analyzer.looks)
    answers = {network.card.name: found for network, found in zip(networks, apart, strict=True)}
    classes, masks = analyzer.release.classes, analyzer.release.masks
    means = {network: mean_looks(answer) for network, answer in answers.items()}
    height, width = image.shape[:2]
    outlined = [means[member.name] for member in masks.members]
    mask = join_masks(outlined, masks, height=height, width=width)
    scored = [means[member.name] for member in classes.members]
    sizes = sorted({network.card.input.size for network in networks})
    return {
        "name": name,
        "rgb": pack_bytes(image),
        "squeezed": {str(size): pack_bytes(squeeze(image, size)) for size in sizes},
        "answers": {
            network: {key: pack_floats(value) for key, value in mean.items()}
            for network, mean in means.items()
        },
        "malignant_by_look": {
            network: pack_floats(answer["malignant"])
            for network, answer in answers.items()
            if "malignant" in answer
        },
        "reduced_sha256": hashlib.sha256(reduced.image.tobytes()).hexdigest(),
        "appearance": appearance(reduced).tolist(),
        "mask": pack_bytes(mask.view(np.uint8)),
        "activation": pack_floats(join_activations(scored, classes.members)),
        "analysis": analyzer.analyze(image, name=name).to_dict(),
    }
