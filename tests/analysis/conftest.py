"""What tests of reading share."""

import numpy as np
import pytest

from ..built_dicom import SECRET


@pytest.fixture(scope="session")
def secret() -> str:
    """What must never appear."""
    return SECRET


@pytest.fixture(scope="session")
def noise() -> np.ndarray:
    """(24, 32, 3) uint8: every value once or more, no symmetry."""
    return np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
