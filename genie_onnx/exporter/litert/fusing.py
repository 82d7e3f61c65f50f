"""Bounds of codes that an operator keeps by itself, as a fused activation, and those that are left to MAXIMUM and MINIMUM.

NONE     -128 .. 127          RELU     zero point .. 127          RELU6     zero point .. zero point + round(6 / scale)
"""

from __future__ import annotations

import numpy as np
import tflite

from genie_onnx.exporter.litert.draft import HIGH, LOW, Grid


def fused(grid: Grid | None) -> tuple[int, Grid | None]:
    """Return the activation to fuse into an operator that writes on `grid`, and the grid with the bounds that this keeps."""
    if grid is None or grid.low <= LOW or grid.low != grid.zero_point:
        bounds = (tflite.ActivationFunctionType.NONE, LOW, HIGH)
    else:
        bounds = (tflite.ActivationFunctionType.RELU, grid.zero_point, HIGH)
    if grid is None:
        return bounds[0], None
    # a kernel rounds 6 / scale half away from zero
    six = min(HIGH, grid.zero_point + int(np.floor(6 / np.float32(grid.scale) + 0.5)))
    if grid.low == grid.zero_point and grid.high == six < HIGH:
        bounds = (tflite.ActivationFunctionType.RELU6, grid.low, six)
    return bounds[0], Grid(grid.scale, grid.zero_point, bounds[1], bounds[2])
