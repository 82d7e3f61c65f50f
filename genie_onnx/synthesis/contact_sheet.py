"""Images side by side in one PNG, to look at: [N, C, H, W] in any units -> a grid of at most `limit` of them."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from genie_onnx.machine.atomic import replacing

SPREAD = 2.5  # deviations from the mean that become black and white
GAP = 2  # pixels between images


def viewable(images: np.ndarray) -> npt.NDArray[np.uint8]:
    """Return `images`, float [N, C, H, W], as pixels, uint8 [N, H, W, 1 or 3]; N >= 1.

    The channels are stretched each by its own mean and deviation over these images. 3 channels are taken for red, green, blue;
    of any other number the average is shown in grey.
    """
    shown = np.asarray(images, dtype=np.float32)
    if shown.shape[1] != 3:
        shown = shown.mean(axis=1, keepdims=True)
    centre = shown.mean(axis=(0, 2, 3), keepdims=True)
    spread = SPREAD * shown.std(axis=(0, 2, 3), keepdims=True) + 1e-12
    return np.rint(np.clip((shown - centre) / spread * 0.5 + 0.5, 0, 1) * 255).astype(np.uint8).transpose(0, 2, 3, 1)


def contact_sheet(images: np.ndarray, *, limit: int = 64) -> Image.Image:
    """Return the first `limit` of `images`, float [N, C, H, W], `viewable`, in a grid as square as can be; N >= 1."""
    pixels = viewable(images[:limit])
    count, height, width, channels = pixels.shape
    columns = math.ceil(math.sqrt(count * height / width))
    rows = math.ceil(count / columns)
    sheet = np.full((rows * (height + GAP) - GAP, columns * (width + GAP) - GAP, channels), 255, np.uint8)
    for index, image in enumerate(pixels):
        top, left = index // columns * (height + GAP), index % columns * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return Image.fromarray(sheet if channels == 3 else sheet[:, :, 0])


def save_contact_sheet(images: np.ndarray, path: Path, *, limit: int = 64) -> None:
    """Write `contact_sheet(images)` to `path` as PNG; the file appears whole or not at all. Raises OSError."""
    with replacing(path) as partial:
        contact_sheet(images, limit=limit).save(partial, format="PNG")
