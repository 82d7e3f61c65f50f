"""The PNG of images side by side."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genie_onnx.synthesis.contact_sheet import contact_sheet, save_contact_sheet


def test_grid_and_colours() -> None:
    images = np.zeros((4, 3, 5, 5), np.float32)
    images[1, 0] = 8.0  # the second image is red
    sheet = contact_sheet(images)
    assert sheet.size == (12, 12)
    pixels = np.asarray(sheet)
    assert pixels.shape == (12, 12, 3)
    assert pixels[2, 9, 0] > pixels[2, 2, 0] + 50
    assert (pixels[2, 9, 1:] == pixels[2, 2, 1:]).all()
    assert (pixels[5:7] == 255).all(), "white between the images"


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_other_channels_are_grey(channels: int) -> None:
    assert contact_sheet(np.random.default_rng(0).normal(size=(3, channels, 6, 9))).mode == "L"


def test_limit_and_any_units() -> None:
    images = np.random.default_rng(0).normal(size=(10, 1, 4, 4)).astype(np.float32)
    few = contact_sheet(images, limit=4)
    assert few.size == (10, 10)
    raw = contact_sheet(images * 60 + 120, limit=4)
    assert np.abs(np.asarray(few, np.int16) - np.asarray(raw, np.int16)).max() <= 1


def test_file_appears_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.zeros((2, 3, 4, 4), np.float32)
    save_contact_sheet(images, tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").size == (10, 4)

    def fails(self: Image.Image, path: Path, format: str) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(Image.Image, "save", fails)
    with pytest.raises(OSError, match="disk full"):
        save_contact_sheet(images, tmp_path / "b.png")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]
