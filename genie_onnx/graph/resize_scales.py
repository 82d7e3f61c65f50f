"""The scales that a Resize with sizes means, as far as scales can say it: floor(size x scale) must be what is wanted."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def fitting_scale(size: int, wanted: int) -> np.float32 | None:
    """Return the float32 scale `wanted` / `size`, or the next above it; None where neither gives `wanted` pixels."""
    scale = np.float32(wanted) / np.float32(size)
    for candidate in (scale, np.nextafter(scale, np.float32(np.inf))):
        if int(np.floor(np.float32(size) * candidate)) == wanted:
            return np.float32(candidate)
    return None


def policy_scales(sizes: Sequence[int], wanted: Sequence[int], policy: str) -> list[np.float32 | None]:
    """Return the one scale of all axes under keep_aspect_ratio_policy `policy`, None where it would round to another size.

    not_larger takes the smallest scale that some axis asks for, not_smaller the largest; sizes are then rounded half up.
    """
    choose = min if policy == "not_larger" else max
    scale = np.float32(choose(np.float32(w) / np.float32(s) for s, w in zip(sizes, wanted, strict=True)))
    return [scale if np.floor(np.float32(s) * scale) == np.floor(np.float32(s) * scale + 0.5) else None for s in sizes]
