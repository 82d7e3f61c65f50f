"""Picture files: which are found, how they are decoded, and that a bad one is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genie_onnx.data.pictures import check_picture, find_pictures, read_picture
from genie_onnx.errors import DataError


def test_pictures_are_found_at_any_depth_in_sorted_order(tmp_path: Path) -> None:
    for name in ["b/2.png", "b/1.JPG", "a/deep/x.webp", "._b.jpg", "notes.txt", "b/.hidden.png", "c.ppm"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    names = [path.relative_to(tmp_path).as_posix() for path in find_pictures(tmp_path)]
    assert names == ["c.ppm", "a/deep/x.webp", "b/1.JPG", "b/2.png"]


@pytest.mark.parametrize(
    ("mode", "channels"), [("RGB", 3), ("L", 1), ("1", 1), ("LA", 1), ("P", 3), ("RGBA", 3), ("CMYK", 3)], ids=str
)
def test_every_mode_of_8_bits_is_grey_or_rgb(mode: str, channels: int, tmp_path: Path) -> None:
    path = tmp_path / ("x.jpg" if mode == "CMYK" else "x.png")
    Image.new("RGB", (5, 4), (255, 255, 255)).convert(mode).save(path)
    picture = read_picture(path)
    assert picture.shape == (4, 5, channels)
    assert picture.dtype == np.uint8
    assert picture.min() >= 254  # JPEG's rounding


def test_a_rotated_photograph_is_read_upright(tmp_path: Path) -> None:
    image = Image.new("RGB", (6, 4))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn by 90 degrees
    image.save(tmp_path / "x.jpg", exif=exif)
    assert read_picture(tmp_path / "x.jpg").shape == (6, 4, 3)


def test_damaged_pictures_are_named(tmp_path: Path) -> None:
    text = tmp_path / "text.png"
    text.write_text("no picture")
    with pytest.raises(DataError, match=r"text\.png is not a readable picture"):
        check_picture(text)

    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    cut = tmp_path / "cut.png"
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:3000])
    check_picture(cut)  # its header is whole
    with pytest.raises(DataError, match=r"cut\.png is not a readable picture"):
        read_picture(cut)


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.new("L", (100, 100)).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="decompression bomb"):
        check_picture(tmp_path / "x.png")


def test_16_bits_are_refused_rather_than_clipped(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(tmp_path / "x.png")
    with pytest.raises(DataError, match="more than 8 bits a channel"):
        read_picture(tmp_path / "x.png")
