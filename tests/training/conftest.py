"""Runs that several tests read; each is trained once, and none is changed."""

from pathlib import Path

import pytest

from .tiny import Fit


@pytest.fixture
def fit(drawn: Path, tmp_path: Path) -> Fit:
    return Fit(drawn, tmp_path)


@pytest.fixture(scope="session")
def trained_once(drawn: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A run of one epoch of a pair network, of a U-Net and of a joint network."""
    fit = Fit(drawn, tmp_path_factory.mktemp("runs"))
    presets = ("dc-mobilenetv1", "u-mobilenetv1", "joint-mobilenetv1")
    return {name: fit(name, run=name).run for name in presets}


@pytest.fixture
def classified(trained_once: dict[str, Path]) -> Path:
    return trained_once["dc-mobilenetv1"]


@pytest.fixture
def segmented(trained_once: dict[str, Path]) -> Path:
    return trained_once["u-mobilenetv1"]


@pytest.fixture
def joint(trained_once: dict[str, Path]) -> Path:
    return trained_once["joint-mobilenetv1"]
