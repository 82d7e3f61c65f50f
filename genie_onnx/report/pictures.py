"""Pixels -> data URIs: pictures that lie in the page itself."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from PIL import Image

SIDE = 128  # pixels, at most: twice what is shown
LOSSLESS = 48  # pixels: up to this side compression artefacts would be what one sees


def data_uris(pictures: Iterable[npt.NDArray[np.uint8]]) -> list[str]:
    """Return each of `pictures`, uint8 [H, W, 1 or 3], as a WebP of at most SIDE pixels a side."""
    return [_data_uri(Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)) for pixels in pictures]


def _data_uri(picture: Image.Image) -> str:
    picture.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    picture.save(file, "WEBP", lossless=max(picture.size) <= LOSSLESS, quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"
