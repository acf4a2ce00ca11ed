"""Runs that several tests read; each is trained once, and none is changed."""

from pathlib import Path

import pytest

from dermfuse.training import train

from .tiny import tiny


@pytest.fixture(scope="session")
def trained_once(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of one epoch of a pair network, of a U-Net and of a joint network."""
    folder = tmp_path_factory.mktemp("runs")
    presets = ("dc-mobilenetv1", "u-mobilenetv1", "joint-mobilenetv1")
    return {name: train(tiny(name), data=drawn, run=folder / name).run for name in presets}


@pytest.fixture
def classified(trained_once: dict[str, Path]) -> Path:
    """A run of a pair network."""
    return trained_once["dc-mobilenetv1"]


@pytest.fixture
def segmented(trained_once: dict[str, Path]) -> Path:
    """A run of a U-Net."""
    return trained_once["u-mobilenetv1"]


@pytest.fixture
def joint(trained_once: dict[str, Path]) -> Path:
    """A run of a joint network."""
    return trained_once["joint-mobilenetv1"]
