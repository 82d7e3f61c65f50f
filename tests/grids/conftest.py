"""What tests of grids share: images in a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from selecting_nets import SHAPE


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A file of 40 images."""
    np.save(tmp_path / "images.npy", np.random.default_rng(0).standard_normal((40, *SHAPE)).astype(np.float32))
    return tmp_path / "images.npy"
