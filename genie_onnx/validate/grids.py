"""Exact comparison of what a file stores with what was simulated: weight codes, and every scale and zero point."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx

from genie_onnx.qparams import QParams, QTensor
from genie_onnx.validate.qdq_file import FileGrid, QdqFile
from genie_onnx.validate.session import Array


def weight_problems(file: QdqFile, weights: Mapping[str, QTensor]) -> list[str]:
    """Return a sentence for each weight whose codes (less zero point) or scales are not those of `weights`, by name."""
    lone = sorted(file.names("weights") ^ set(weights))
    problems = [f"weight '{name}' is not quantised in the {'file' if name in weights else 'simulation'}" for name in lone]
    for name in sorted(file.names("weights") & set(weights)):
        found, expected = file.weight(name), weights[name]
        rank = expected.codes.ndim
        if found.stored.shape != expected.codes.shape:
            problems.append(f"weight '{name}' is {found.stored.shape} in the file, {expected.codes.shape} in the simulation")
            continue
        centred = found.stored - _along(found.grid.zero_point, found.grid.axis, rank).astype(np.int16)
        differing = int((centred != expected.centred()).sum())
        if differing:
            problems.append(f"weight '{name}': {differing} of {centred.size} codes differ")
        if not _same_scale(found.grid, expected.qparams, rank):
            problems.append(f"weight '{name}': the scales differ")
    return problems


def grid_problems(file: QdqFile, activations: Mapping[str, QTensor]) -> list[str]:
    """Return a sentence for each value that the file rounds or reads on another grid than `activations` has, by name."""
    problems = []
    for name, expected in activations.items():
        found = file.grid(name)
        # Stored less their zero point in a signed type, codes have zero point 0 there.
        signed = file.element_type(file.codes("activations", name)) == onnx.TensorProto.INT8
        own = int(expected.qparams.zero_point)
        same_zero_point = int(found.zero_point) in ((0, own - 128) if signed else (own,))  # none, or shifted with the codes
        if not (same_zero_point and _same_scale(found, expected.qparams, expected.codes.ndim)):
            problems.append(f"value '{name}': the grid differs (scale {found.scale}, zero point {found.zero_point} in the file)")
    return problems


def _same_scale(found: FileGrid, expected: QParams, rank: int) -> bool:
    return np.array_equal(_along(found.scale, found.axis, rank), expected.along(rank)[0])


def _along(array: Array, axis: int | None, rank: int) -> Array:
    """Return a [] or [C] array shaped to broadcast along `axis`, which may count from the end."""
    if axis is None:
        return array
    shape = [1] * rank
    shape[axis] = -1
    return array.reshape(shape)
