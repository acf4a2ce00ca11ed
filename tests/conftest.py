"""What tests share: a small drawn dataset, and where the real data lies if it is there."""

import os
from pathlib import Path

import pytest

from dermfuse.data.synthetic import synthesize_isic2016


@pytest.fixture(scope="session")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A synthetic dataset in the official layout: 30 training and 6 test images, read only."""
    folder = tmp_path_factory.mktemp("drawn") / "data"
    synthesize_isic2016(folder, train_count=30, test_count=6, seed=1, size_px=(80, 64))
    return folder


def _real(variable: str) -> Path:
    folder = os.environ.get(variable)
    if not folder:
        pytest.skip(f"{variable} names no folder")
    return Path(folder)


@pytest.fixture(scope="session")
def real_isic2016() -> Path:
    """The real ISIC 2016 data; the test is skipped without it."""
    return _real("DERMFUSE_ISIC2016")


@pytest.fixture(scope="session")
def real_imagenet() -> Path:
    """The folder of real ImageNet weights; the test is skipped without it."""
    return _real("DERMFUSE_IMAGENET")
