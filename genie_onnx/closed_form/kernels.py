"""The inner loops of feedback and descent on a CPU, compiled by numba: a row at a time, where torch would need six operators for
each feature.

Arrays are float32 and C-contiguous; blocks of b features, g groups of R rows. What other features than those of the block have to
do with it, is a matrix product outside.
"""

from __future__ import annotations

import numpy as np

from genie_onnx.quant.kernels import compiled

Array = np.ndarray


def _feedback(
    wanted: Array, target: Array, unit: Array, scale: Array, low: Array, high: Array, codes: Array, errors: Array
) -> None:
    """Round `wanted` [g, R, b] one feature after the other, adding each one's error to those behind it; `unit` [g, b, b]."""
    groups, rows, features = wanted.shape
    for g in range(groups):
        for r in range(rows):
            s, lowest, highest = scale[g, r, 0], low[g, r, 0], high[g, r, 0]
            row = wanted[g, r]
            for k in range(features):
                code = min(max(np.rint(row[k] / s), lowest), highest)
                error = target[g, r, k] - code * s
                codes[g, r, k] = code
                errors[g, r, k] = error
                beside = unit[g, k]
                for j in range(k + 1, features):
                    row[j] += error * beside[j]


def _descent(slope: Array, A: Array, codes: Array, low: Array, high: Array) -> None:
    """Move `codes` [g, R, b] one after the other to where the error is least; `slope` [g, R, b] is u / s, `A` [g, b, b]."""
    groups, rows, features = codes.shape
    for g in range(groups):
        for r in range(rows):
            lowest, highest = low[g, r, 0], high[g, r, 0]
            row, own = slope[g, r], codes[g, r]
            for k in range(features):
                new = min(max(np.rint(own[k] + row[k] / A[g, k, k]), lowest), highest)
                step = new - own[k]
                if step != 0:
                    own[k] = new
                    beside = A[g, k]
                    for j in range(features):
                        row[j] -= step * beside[j]


feedback = compiled(_feedback)
descent = compiled(_descent)
