"""Where rows write: what they read, brought to the form they need, and what they write, brought to the grid the file has for it.

A value of four dimensions lies in the file as its maker writes it, mostly NHWC: `order` has the ONNX axis at each place. An ONNX
Transpose changes nothing but that; a TRANSPOSE is written where somebody needs another order than there is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
from onnx import helper

from genie_onnx.exporter.litert.draft import HIGH, LOW, Array, Draft, Grid
from genie_onnx.exporter.litert.reading import Coded, Reading, Sink

NHWC = (0, 2, 3, 1)


class RefusedError(Exception):
    """A node that cannot be written; the text says why."""


@dataclass(frozen=True)
class Value:
    """Where a value lies: tensor number, shape there, the ONNX axis at each place, and the grid of its codes (None: floats)."""

    number: int
    shape: tuple[int, ...]
    order: tuple[int, ...]
    grid: Grid | None


class Desk:
    """One conversion. Rows call it with a node, and write into `draft`."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.draft = Draft()
        self.values: dict[str, Value] = {}
        self.columns: dict[str, Array] = {}  # of values of two dimensions: which ONNX column lies at each place
        self._made: dict[tuple[str, int, object], Value] = {}

    # What is read

    def read(self, name: str) -> Value:
        """Return where the value `name` lies; raises RefusedError where it is a constant or was not written."""
        name = self.reading.codes.get(name, name)
        if name not in self.values:
            kind = "a constant" if name in self.reading.constants or name in self.reading.coded else "not there"
            raise RefusedError(f"'{name}', which it reads, is {kind}")
        return self.values[name]

    def constant(self, name: str) -> Array | None:
        """Return a constant as numbers, also one that is stored as codes; None where `name` is computed."""
        if name in self.reading.coded:
            return self.reading.coded[name].floats()
        return self.reading.constants.get(name)

    def weight(self, name: str) -> Coded | None:
        """Return the codes of a constant, None where it is stored as floats or INT8 cannot hold them."""
        coded = self.reading.coded.get(name)
        return coded if coded is not None and coded.codes.min(initial=0) >= LOW and coded.codes.max(initial=0) <= HIGH else None

    def attribute(self, node: onnx.NodeProto, name: str, default: Any = None) -> Any:
        """Return an attribute of `node`."""
        return next((helper.get_attribute_value(a) for a in node.attribute if a.name == name), default)

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of an ONNX value; raises RefusedError where only a run can tell."""
        found = self.reading.shapes.get(name)
        if found is None or not all(found):
            raise RefusedError(f"the shape of '{name}' depends on more than that of the image")
        return found

    # What is brought to another form

    def floats(self, value: Value) -> Value:
        """Return `value` as floats."""
        if value.grid is None:
            return value
        return self._once("DEQUANTIZE", value, None, replace(value, grid=None), "DequantizeOptions")

    def on_grid(self, value: Value, grid: Grid) -> Value:
        """Return `value` on `grid`, whatever it is now."""
        if value.grid is not None and value.grid == grid:
            return value
        return self._once("QUANTIZE", value, grid, replace(value, grid=Grid(grid.scale, grid.zero_point)), "QuantizeOptions")

    def ordered(self, value: Value, order: Sequence[int]) -> Value:
        """Return `value` with the ONNX axes `order` at its places."""
        order = tuple(order)
        if value.order == order:
            return value
        moves = [value.order.index(axis) for axis in order]
        shape = tuple(value.shape[move] for move in moves)
        result = Value(value.number, shape, order, value.grid)
        wide = [move for move in moves if value.shape[move] > 1]
        if wide == sorted(wide):  # nothing moves in memory
            return self.reshaped(result, shape)
        places = self.draft.constant("permutation", np.asarray(moves, np.int32))
        return self._once("TRANSPOSE", value, order, result, "TransposeOptions", places)

    def plain(self, value: Value) -> Value:
        """Return `value` in ONNX's own order."""
        return self.ordered(value, range(len(value.order)))

    def reshaped(self, value: Value, shape: Sequence[int]) -> Value:
        """Return what lies at `value`, element by element, in another shape; in its order, or ONNX's at another rank."""
        shape = tuple(int(size) for size in shape)
        order = value.order if len(shape) == len(value.order) else tuple(range(len(shape)))
        result = Value(value.number, shape, order, value.grid)
        if shape == self.draft.tensors[value.number].shape:
            return result
        sizes = self.draft.constant("shape", np.asarray(shape, np.int32))
        return self._once("RESHAPE", value, (shape, order), result, "ReshapeOptions", sizes, NewShape=shape)

    def of_rank(self, value: Value, rank: int) -> Value:
        """Return `value` with dimensions of size 1 in front, as ONNX broadcasts."""
        missing = rank - len(value.shape)
        if missing <= 0:
            return value
        flat = self.plain(value)
        return self.reshaped(flat, (1,) * missing + flat.shape)

    def _once(self, name: str, value: Value, key: object, result: Value, table: str, *others: int, **options: object) -> Value:
        known = (name, value.number, key)
        if known not in self._made:
            stem = self.draft.tensors[value.number].name
            number = self.new(f"{stem}_{name.lower()}", result.shape, result.grid)
            self.draft.add(name, [value.number, *others], [number], table, **options)
            self._made[known] = replace(result, number=number)
        return self._made[known]

    # What is written

    def new(self, name: str, shape: Sequence[int], grid: Grid | None) -> int:
        """Add a computed tensor: INT8 on `grid`, or floats."""
        return self.draft.tensor(name, shape, np.float32 if grid is None else np.int8, grid=grid)

    def sink(self, node: onnx.NodeProto, output: int = 0) -> Sink:
        """Return how output `output` of `node` is written."""
        return self.reading.sink(node.output[output])

    def put(self, node: onnx.NodeProto, value: Value, output: int = 0) -> None:
        """Let `value` be what `node` writes: on its grid and within its bounds."""
        self.settle(node.output[output], value)

    def settle(self, name: str, value: Value) -> None:
        """Let `value` be the ONNX value `name`: on the grid it has, and within its bounds."""
        sink = self.reading.sink(name)
        if sink.grid is None:
            self.values[name] = value
            return
        value = self.clamped(self.on_grid(value, sink.grid), sink.grid, sink.name)
        self.values[sink.name] = value
        self.draft.places.codes[sink.name] = (value.number, value.order, self.reading.offsets[sink.name])
        if value.number not in self.draft.inputs:
            self.draft.rename(value.number, sink.name)

    def clamped(self, value: Value, grid: Grid, name: str) -> Value:
        """Return `value`, INT8 on `grid`, with no code outside its bounds."""
        assert value.grid is not None
        low, high = value.grid.low, value.grid.high
        for operator, beyond, bound in (("MAXIMUM", low < grid.low, grid.low), ("MINIMUM", high > grid.high, grid.high)):
            if beyond:
                low, high = (bound, high) if operator == "MAXIMUM" else (low, bound)
                within = Grid(grid.scale, grid.zero_point, low, high)
                limit = self.draft.constant(
                    f"{name}_{operator.lower()}", np.asarray([bound], np.int8), Grid(grid.scale, grid.zero_point)
                )
                number = self.new(name, value.shape, within)
                self.draft.add(operator, [value.number, limit], [number], "MaximumMinimumOptions")
                value = Value(number, value.shape, value.order, within)
        return value
