"""What tests share: a small drawn dataset, and where the real data lies if it is there."""

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import settings

from dermfuse.data.synthetic import synthesize_isic2016

from .built_dicom import SECRET, BuildDicom, build_file

settings.register_profile("shared machine", deadline=None)  # other work may take the processor
settings.load_profile("shared machine")


@pytest.fixture(scope="session")
def build_dicom() -> BuildDicom:
    """Builds the bytes of a DICOM file; the test is skipped without pydicom."""
    pytest.importorskip("pydicom")
    return build_file


@pytest.fixture(scope="session")
def secret() -> str:
    return SECRET


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """(24, 32, 3) uint8: every value once or more, no symmetry."""
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic dataset in the official layout: 30 training and 6 test images, read only."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    synthesize_isic2016(folder, train_count=30, test_count=6, seed=1, size_px=(80, 64))
    return folder


def _real(variable: str) -> Path:
    """A folder that a variable names; the test is skipped without it."""
    return Path(os.environ.get(variable) or pytest.skip(f"{variable} names no folder"))


@pytest.fixture(scope="session")
def real_isic2016() -> Path:
    return _real("DERMFUSE_ISIC2016")


@pytest.fixture(scope="session")
def real_imagenet() -> Path:
    return _real("DERMFUSE_IMAGENET")


@pytest.fixture(scope="session")
def made_run(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder of a joint network at 32 pixels, as if it had been trained; read only."""
    import torch

    from dermfuse.config import load_preset
    from dermfuse.data.isic2016 import load_isic2016
    from dermfuse.data.splits import Split, write_split
    from dermfuse.models import build_network
    from dermfuse.records.folders import RunFolder, write_json, write_text
    from dermfuse.training.recorder import write_weights

    folder = RunFolder(tmp_path_factory.mktemp("made") / "joint")
    config = load_preset("joint-mobilenetv1").override(
        ["model.init=random", "data.input_size=32", "train.batch_size=8"]
    )
    torch.manual_seed(0)
    write_text(folder.config, config.to_toml())
    write_weights(folder.weights, build_network(config.model), {"epoch": "3"})
    ids = tuple(lesion.image_id for lesion in load_isic2016(drawn, "train").lesions)
    write_split(folder.split, Split(train=ids[10:], validation=ids[:10]))
    record = {"status": "finished", "epochs": 4, "seed": 0, "data": {"summary": "drawn, 20 images"}}
    write_json(folder.record, record)
    return folder.path
