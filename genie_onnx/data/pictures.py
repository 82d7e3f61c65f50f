"""Picture files: found in folder trees, checked by their header, decoded to uint8 [h, w, 1 or 3]."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from genie_onnx.errors import DataError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".pgm")

# Everything a hostile or damaged file can make Pillow raise: a format it cannot read, a truncated stream, a decompression bomb.
_DAMAGED = (UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, MemoryError, Image.DecompressionBombError)


def is_picture(path: Path) -> bool:
    """Return whether the name is that of a picture; hidden files (macOS leaves `._x.jpg`) are not."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def find_pictures(folder: Path) -> list[Path]:
    """Return the pictures under `folder`, at any depth, sorted by path. Linked folders are not followed."""
    found: list[Path] = []
    for parent, folders, names in os.walk(folder):
        folders.sort()
        found += sorted(path for path in (Path(parent, name) for name in names) if is_picture(path))
    return found


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open a picture; whatever is wrong with the file leaves as a DataError that names it."""
    try:
        with warnings.catch_warnings():
            # Between one and two times its limit of pixels Pillow warns, beyond that it refuses: the first is fine here.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            with Image.open(path) as image:
                yield image
    except _DAMAGED as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is not a readable picture: {reason}") from error


def check_picture(path: Path) -> None:
    """Raise DataError unless the header of `path` is that of a picture of 8 bits a channel. Decodes nothing."""
    with _opened(path) as image:
        mode, kind = image.mode, image.format
    if mode.startswith(("I", "F")):
        raise DataError(f"{path} ({kind}, mode {mode}) has more than 8 bits a channel: convert it, or give the values as .npy")


def read_picture(path: Path) -> np.ndarray:
    """Return the picture as it is to be looked at (EXIF orientation applied): uint8 [h, w, 1] if grey, else [h, w, 3] RGB.

    Raises DataError naming the file if it is damaged. Transparency is dropped.
    """
    check_picture(path)
    with _opened(path) as image:
        upright = ImageOps.exif_transpose(image)
        grey = upright.mode in ("1", "L", "LA")
        pixels = np.asarray(upright.convert("L" if grey else "RGB"))
    return pixels[:, :, None] if grey else pixels
