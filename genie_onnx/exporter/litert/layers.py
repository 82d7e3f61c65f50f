"""What every layer with a weight reads: its input, the codes of its weight and bias, or floats where one of them has no codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from genie_onnx.exporter.litert.desk import Desk, RefusedError, Value
from genie_onnx.exporter.litert.draft import Array, Grid

INT32 = 2**31 - 1


@dataclass(frozen=True)
class Layer:
    """`grid` is that of the output, None where the layer computes in floats; `weight` and `bias` are tensor numbers."""

    source: Value
    weight: int
    bias: int
    grid: Grid | None
    name: str  # of the output


def layer(
    desk: Desk, node: onnx.NodeProto, order: Sequence[int], axis: int, bias: str | None = None, columns: Array | None = None
) -> Layer:
    """Return what `node` reads and how its output is written.

    `order` is that of the weight's axes in the file, `axis` the one of the output channels there. `bias`: the name of a bias that
    is not input 2; `columns`: which of the weight's input columns (its last axis in the file) lies at each place.
    """
    source, sink = desk.read(node.input[0]), desk.sink(node)
    numbers = desk.constant(node.input[1])
    if numbers is None:
        raise RefusedError("its weight is computed")
    if bias is None:
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
    outputs = numbers.transpose(order).shape[axis]
    shift = np.zeros(outputs, np.float32) if bias is None else desk.constant(bias)
    if shift is None:
        raise RefusedError("its bias is computed")
    if shift.size not in (1, outputs):
        raise RefusedError(f"its bias has {shift.size} elements and it has {outputs} outputs")
    shift = np.broadcast_to(shift.reshape(-1), (outputs,)).astype(np.float32)
    coded = desk.weight(node.input[1])
    name = sink.name
    if source.grid is None or coded is None or sink.grid is None:
        stored = _laid_out(numbers.astype(np.float32), order, columns)
        weight, added = (desk.draft.constant(f"{name}_{kind}", array) for kind, array in (("weight", stored), ("bias", shift)))
        return Layer(desk.floats(source), weight, added, None, name)
    codes = _laid_out(coded.codes, order, columns).astype(np.int8)
    if coded.scale.ndim and order[axis] != coded.axis % len(order):
        raise RefusedError("the scales of its weight are not one an output channel")
    grid = Grid(np.asarray(coded.scale, np.float32), 0, axis=axis)
    steps = np.asarray(np.float32(source.grid.scale) * grid.scale, np.float32)
    rounded = np.rint(shift.astype(np.float64) / steps)
    if np.abs(rounded).max(initial=0) > INT32:
        raise RefusedError("INT32 cannot hold its bias")
    weight = desk.draft.constant(node.input[1], codes, grid)
    added = desk.draft.constant(f"{name}_bias", rounded.astype(np.int32), Grid(steps, 0))
    return Layer(source, weight, added, sink.grid, name)


def _laid_out(array: Array, order: Sequence[int], columns: Array | None) -> Array:
    array = array.transpose(order)
    return np.ascontiguousarray(array if columns is None else array[..., columns])
