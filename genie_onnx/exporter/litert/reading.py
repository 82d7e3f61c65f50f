"""A QDQ file as a compiler reads it: what each node reads and writes, codes or floats, with Q, DQ and Clips on codes gone.

    v -> QuantizeLinear -> Clip on codes -> DequantizeLinear -> readers       v is written as codes on a grid, readers read those
    v -> Relu -> QuantizeLinear ..                                            the bounds of Relu and Clip are bounds of the codes

Codes 0 .. 2^b - 1 of the file lie at the upper end of INT8 here, code + 127 - (2^b - 1): INT8 saturates where the grid ends. With
8 bits that is code - 128.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import onnx
from onnx import helper, numpy_helper

from genie_onnx.exporter.litert.draft import HIGH, LOW, Array, Grid


@dataclass(frozen=True)
class Sink:
    """How a node's output is written: its name in the file, and the grid of its codes (None: floats)."""

    name: str
    grid: Grid | None


@dataclass(frozen=True)
class Coded:
    """A constant behind a DequantizeLinear: signed codes without zero point."""

    codes: Array
    scale: Array  # [] or [C]
    axis: int

    def floats(self) -> Array:
        """Return the numbers that the codes stand for."""
        shape = [1] * self.codes.ndim
        if self.scale.ndim:
            shape[self.axis] = -1
        return np.asarray(self.codes.astype(np.float32) * self.scale.reshape(shape), np.float32)


class Reading:
    """`proto` has fixed shapes, and those of all values (exporter.fix_shapes)."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.graph = proto.graph
        self.constants = {t.name: numpy_helper.to_array(t) for t in proto.graph.initializer}
        self._bits = _bits(proto)
        self.outputs = {value.name for value in proto.graph.output}
        self.coded: dict[str, Coded] = {}
        self.codes: dict[str, str] = {}  # what DequantizeLinear yields -> the codes it reads
        self.grids: dict[str, Grid] = {}  # of codes ...
        self.offsets: dict[str, int] = {}  # ... and what is added to them
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        self._folded: set[str] = set()  # Relu and Clip that have become bounds
        for node in self.graph.node:
            for name in set(node.input):
                self._readers.setdefault(name, []).append(node)
            if node.op_type == "Constant":
                given = helper.get_attribute_value(node.attribute[0])
                array = numpy_helper.to_array(given) if isinstance(given, onnx.TensorProto) else np.asarray(given)
                self.constants[node.output[0]] = array
        for node in self.graph.node:
            self._note(node)

    @cached_property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of all values by name."""
        graph = self.graph
        found = {}
        for value in (*graph.input, *graph.value_info, *graph.output):
            found[value.name] = tuple(int(dim.dim_value) for dim in value.type.tensor_type.shape.dim)
        return {**found, **{name: np.shape(array) for name, array in self.constants.items()}}

    def nodes(self) -> list[onnx.NodeProto]:
        """Return the nodes that compute something, in their order."""
        gone = ("QuantizeLinear", "DequantizeLinear", "Constant")
        return [node for node in self.graph.node if node.op_type not in gone and not self._on_codes(node)]

    def is_folded(self, node: onnx.NodeProto) -> bool:
        """Whether `node` has become the bounds of what is in front of it (`sink`)."""
        return node.output[0] in self._folded

    def readers(self, name: str) -> list[onnx.NodeProto]:
        """Return the nodes that read a value, or the codes it is rounded to."""
        found: list[onnx.NodeProto] = []
        for node in self._readers.get(name, []):
            through = node.op_type in ("QuantizeLinear", "DequantizeLinear") or self._on_codes(node)
            found += self.readers(node.output[0]) if through else [node]
        return found

    def sink(self, name: str) -> Sink:
        """Return how the value `name` is written; a Relu or Clip behind it that becomes bounds is folded."""
        low, high, value = -np.inf, np.inf, name
        reader = self._sole(name)
        if reader is not None and reader.op_type in ("Relu", "Clip") and reader.input[0] == name:
            ends = self.ends(reader)
            if ends is not None and (behind := self._sole(reader.output[0])) is not None and behind.op_type == "QuantizeLinear":
                (low, high), value, reader = ends, reader.output[0], behind
        if reader is None or reader.op_type != "QuantizeLinear":
            return Sink(name, None)
        if value != name:
            self._folded.add(value)
        codes = self._clipped(reader)
        grid = self.grids[codes]
        return Sink(codes, bounded(grid, low, high))

    def ends(self, node: onnx.NodeProto) -> tuple[float, float] | None:
        """Return the bounds of a Relu or a Clip on floats, None where they are computed."""
        if node.op_type == "Relu":
            return 0.0, np.inf
        found = [-np.inf, np.inf]
        for place, name in enumerate(node.input[1:3]):
            if name and name not in self.constants:
                return None
            found[place] = float(self.constants[name]) if name else found[place]
        return found[0], found[1]

    def _note(self, node: onnx.NodeProto) -> None:
        if node.op_type == "QuantizeLinear":
            last = self._clipped(node)
            low, high = 0, 255
            if last != node.output[0]:
                low, high = (int(self.constants[name]) for name in self._sole_clip(node).input[1:3])
            scale, zero_point = self.constants[node.input[1]], int(self.constants[node.input[2]])
            offset = HIGH - (2 ** self._bits.get(last, 8) - 1)
            self.offsets[last] = offset
            self.grids[last] = Grid(
                np.asarray(scale, np.float32), zero_point + offset, max(low + offset, LOW), min(high + offset, HIGH)
            )
        elif node.op_type == "DequantizeLinear":
            source = node.input[0]
            if source in self.constants:
                axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
                codes, scale = self.constants[source], self.constants[node.input[1]]
                if len(node.input) > 2 and node.input[2]:
                    shape = [1] * codes.ndim
                    if scale.ndim:
                        shape[axis] = -1
                    codes = codes.astype(np.int64) - self.constants[node.input[2]].astype(np.int64).reshape(
                        shape if scale.ndim else ()
                    )
                self.coded[node.output[0]] = Coded(codes, scale, axis if scale.ndim else 0)
            else:
                self.codes[node.output[0]] = source

    def _sole(self, name: str) -> onnx.NodeProto | None:
        found = self._readers.get(name, [])
        return found[0] if len(found) == 1 and name not in self.outputs else None

    def _sole_clip(self, quantize: onnx.NodeProto) -> onnx.NodeProto:
        return self._readers[quantize.output[0]][0]

    def _clipped(self, quantize: onnx.NodeProto) -> str:
        """Return the codes that QuantizeLinear yields, or a Clip makes of them."""
        reader = self._sole(quantize.output[0])
        return reader.output[0] if reader is not None and reader.op_type == "Clip" else quantize.output[0]

    def _on_codes(self, node: onnx.NodeProto) -> bool:
        return node.op_type == "Clip" and any(
            n.op_type == "QuantizeLinear" and node.input[0] in n.output for n in self._makers(node.input[0])
        )

    def _makers(self, name: str) -> list[onnx.NodeProto]:
        maker = self._made_by.get(name)
        return [] if maker is None else [maker]

    @cached_property
    def _made_by(self) -> dict[str, onnx.NodeProto]:
        return {output: node for node in self.graph.node for output in node.output}


def bounded(grid: Grid, low: float, high: float) -> Grid:
    """Return `grid` with no codes outside those of low..high, as QuantizeLinear rounds them in float32."""
    ends = []
    for bound, own in ((low, grid.low), (high, grid.high)):
        if np.isfinite(bound):
            code = int(np.clip(np.rint(np.float32(bound) / grid.scale), -(2**24), 2**24)) + grid.zero_point
            ends.append(min(max(code, grid.low), grid.high))
        else:
            ends.append(own)
    return Grid(grid.scale, grid.zero_point, ends[0], ends[1])


def _bits(proto: onnx.ModelProto) -> dict[str, int]:
    """Return the bits of values by the name of their codes, as the file says."""
    table = next((p.value for p in proto.metadata_props if p.key == "genie_onnx.activations"), "{}")
    return {entry["codes"]: int(entry["bits"]) for entry in json.loads(table).values()}
