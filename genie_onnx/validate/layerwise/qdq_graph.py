"""What a QDQ file rounds, read off its nodes: of values the grid, of constants the codes and the numbers they stand for.

    v -> QuantizeLinear [-> Clip] -> DequantizeLinear -> readers      a rounded value
    codes -> DequantizeLinear -> w -> readers                         a constant as codes, which may be computed from others

So it does not matter which tool wrote the file. Metadata of genie_onnx, where there are any, tell what nodes cannot: the bits
of a grid within its container, and the name of a value whose Relu became a Clip on the codes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.errors import ModelError
from genie_onnx.graph import query
from genie_onnx.validate.layerwise.constants import computed_constants, constant_nodes

_LAYOUT = ("Transpose", "Reshape", "Identity", "Unsqueeze", "Squeeze", "Flatten")


@dataclass(frozen=True, kw_only=True)
class Grid:
    """A per-tensor grid: numbers scale * (code - zero_point) for the codes low .. high (as they are in the file)."""

    scale: np.float32
    zero_point: int
    low: int
    high: int
    bits: int

    @property
    def levels(self) -> int:
        """How many codes there are."""
        return self.high - self.low + 1

    @property
    def range(self) -> tuple[float, float]:
        """The smallest and the largest number."""
        return float(self.scale * (self.low - self.zero_point)), float(self.scale * (self.high - self.zero_point))


@dataclass(frozen=True, kw_only=True)
class RoundedValue:
    """A value, and the names under which the file has its codes and what they stand for."""

    value: str  # what goes into QuantizeLinear; by metadata, the value of the float graph
    codes: str
    dequantized: str
    grid: Grid


@dataclass(frozen=True, kw_only=True)
class Codes:
    """A constant as codes. `axis` is that of its grids (None: one grid), `low` and `high` the ends of all of them."""

    codes: npt.NDArray[np.int64]
    axis: int | None
    bits: int
    low: float
    high: float


class QdqGraph:
    """The Q/DQ structure of a loaded file, which is not changed.

    `rounded`: values, in the order of the nodes. `per_channel`: names of values that are rounded on several grids, and left out.
    Raises ModelError for a file without codes, and for scales that are computed from the input.
    """

    def __init__(self, model: ir.Model) -> None:
        if not any(node.op_type == "DequantizeLinear" for node in model.graph):
            raise ModelError(
                "the quantized file has no DequantizeLinear, so there are no codes to look at: give one in QDQ form (where the "
                "target takes float models, export the run once more: genie-onnx export RUN_DIR --target portable)"
            )
        self.model = model
        self._computed = computed_constants(model)
        self._weights = {entry["codes"]: entry for entry in _table(model.metadata_props, "weights").values()}
        table = _table(model.metadata_props, "activations")
        self._values = {entry["codes"]: (name, entry) for name, entry in table.items()}
        constants = constant_nodes(model)
        quantizers = [node for node in model.graph if node.op_type == "QuantizeLinear" and node not in constants]
        chains = [chain for node in quantizers if (chain := self._chain(node)) is not None]
        self.rounded = tuple(chain for chain in chains if isinstance(chain, RoundedValue))
        self.per_channel = tuple(chain for chain in chains if isinstance(chain, str))

    def constant(self, value: ir.Value | None) -> npt.NDArray[Any] | None:
        """Return the array of an initializer or of what is computed from such; None for anything else."""
        found = query.constant(value)
        return found if found is not None or value is None else self._computed.get(str(value.name))

    def codes(self, value: ir.Value | None) -> Codes | None:
        """Return the codes behind a constant, also through operators that only change its layout; None where it has none."""
        node = None if value is None else value.producer()
        while node is not None and node.op_type in _LAYOUT and node.inputs[0] is not None:
            node = node.inputs[0].producer()
        if node is None or node.op_type != "DequantizeLinear":
            return None
        codes = self.constant(node.inputs[0])
        if codes is None:
            return None
        scale, zero_point = self._parameters(node)
        entry = self._weights.get(str(node.inputs[0].name)) if node.inputs[0] is not None else None
        ends = _container(node)
        low, high = (scale * (np.float32(end) - zero_point) for end in ends)
        return Codes(
            codes=codes.astype(np.int64),
            axis=query.attribute(node, "axis", 1) % codes.ndim if scale.ndim and codes.ndim else None,
            bits=int(entry["bits"]) if entry else (ends[1] - ends[0]).bit_length(),
            low=float(entry["min"] if entry else low.min()),
            high=float(entry["max"] if entry else high.max()),
        )

    def _chain(self, quantizer: ir.Node) -> RoundedValue | str | None:
        """Return what a QuantizeLinear rounds: its name alone where that is done per channel, None where codes are not read as
        floats."""
        codes, bounds = quantizer.outputs[0], None
        readers = [use.node for use in codes.uses()]
        if len(readers) == 1 and readers[0].op_type == "Clip":
            ends = [self.constant(value) for value in readers[0].inputs[1:3]]
            bounds = [int(end.item()) for end in ends if end is not None]
            codes = readers[0].outputs[0]
            readers = [use.node for use in codes.uses()]
        dequantizer = next((node for node in readers if node.op_type == "DequantizeLinear"), None)
        source = quantizer.inputs[0]
        if dequantizer is None or source is None:
            return None
        value, entry = self._values.get(str(codes.name), (str(source.name), None))
        scale, zero_point = self._parameters(dequantizer)
        if scale.size > 1:
            return value
        step, zero = np.float32(scale.item()), int(zero_point.item())
        low, high = bounds or _container(dequantizer)
        if entry is not None:
            low, high = (round(entry[end] / float(step)) + zero for end in ("min", "max"))
        bits = entry["bits"] if entry is not None else (high - low).bit_length()
        grid = Grid(scale=step, zero_point=zero, low=low, high=high, bits=bits)
        return RoundedValue(value=value, codes=str(codes.name), dequantized=str(dequantizer.outputs[0].name), grid=grid)

    def _parameters(self, node: ir.Node) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        """Return scale and zero point of a DequantizeLinear."""
        given = node.inputs[2] if len(node.inputs) > 2 else None
        scale, zero_point = self.constant(node.inputs[1]), np.zeros((), np.int64) if given is None else self.constant(given)
        if scale is None or zero_point is None:
            raise ModelError(f"the grid of DequantizeLinear '{node.name}' is computed from the input; only fixed grids are read")
        return np.asarray(scale, np.float32), zero_point.astype(np.int64)


def _table(metadata: Mapping[str, str], kind: str) -> dict[str, Any]:
    text = metadata.get(f"genie_onnx.{kind}")
    return json.loads(text) if text else {}


def _container(dequantizer: ir.Node) -> tuple[int, int]:
    """Return the smallest and the largest number of the type that a DequantizeLinear reads."""
    typed = dequantizer.inputs[2] if len(dequantizer.inputs) > 2 else dequantizer.inputs[0]
    if typed is None or typed.dtype is None:
        raise ModelError(
            f"the type of what DequantizeLinear '{dequantizer.name}' reads is not known: run shape inference on the file"
        )
    ends = ml_dtypes.iinfo(typed.dtype.numpy())
    return int(ends.min), int(ends.max)
