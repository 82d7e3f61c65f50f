"""Reading a QDQ file: where the codes of each weight and value are, and on which grid.

The tables `genie_onnx.weights` and `genie_onnx.activations` in the file's metadata name the tensors of codes; everything
else is read off the nodes, as any other consumer of the file would.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from genie_onnx.errors import ParityError
from genie_onnx.qparams import QTensor


@dataclass(frozen=True, kw_only=True)
class FileGrid:
    """The grid a DequantizeLinear or QuantizeLinear of the file uses; `axis` is None for a scalar scale."""

    scale: npt.NDArray[np.float32]
    zero_point: npt.NDArray[np.int64]
    axis: int | None


@dataclass(frozen=True, kw_only=True)
class FileWeight:
    """Stored codes (of an integer type of 4 or 8 bits, as int16) and their grid."""

    stored: npt.NDArray[np.int16]
    grid: FileGrid


class QdqFile:
    """The Q/DQ structure of `proto`, which is not changed. Every lookup raises ParityError for what the file lacks."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        metadata = {entry.key: entry.value for entry in proto.metadata_props}
        self._tables = {kind: _table(metadata, kind) for kind in ("weights", "activations")}
        self._initializers = {t.name: t for t in proto.graph.initializer}
        self._producers = {name: node for node in proto.graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in proto.graph.node:
            for name in node.input:
                self._readers[name].append(node)

    def codes(self, kind: str, name: str) -> str:
        """Return the name of the tensor with the codes of weight or value `name`; `kind` is weights or activations."""
        if name not in self._tables[kind]:
            raise ParityError(f"the file's metadata names no codes for '{name}' among its {kind}")
        return self._tables[kind][name]

    def names(self, kind: str) -> frozenset[str]:
        """Return the names of all quantised `kind` (weights or activations)."""
        return frozenset(self._tables[kind])

    def weight(self, name: str) -> FileWeight:
        """Return the stored codes of weight `name` and the grid on which they are read."""
        codes = self.codes("weights", name)
        stored = self._constant(codes)
        return FileWeight(stored=stored.astype(np.int16), grid=self._one_grid(name, self._dequantizers(codes)))

    def grid(self, name: str) -> FileGrid:
        """Return the grid on which value `name` is rounded and read."""
        return self._one_grid(name, [self.quantizer(name), *self._dequantizers(self.codes("activations", name))])

    def stored(self, name: str, value: QTensor) -> npt.NDArray[Any]:
        """Return the codes of `value`, simulated under the name `name`, in the type and with the zero point of the file."""
        codes = self.codes("activations", name)
        shift = int(self.grid(name).zero_point) - int(value.qparams.zero_point)
        kind = onnx.helper.tensor_dtype_to_np_dtype(self.element_type(codes))
        return np.add(value.codes, np.int16(shift), dtype=np.int16).astype(kind)

    def quantizer(self, name: str) -> onnx.NodeProto:
        """Return the QuantizeLinear that rounds value `name`; an integer Clip may follow it."""
        node = self._producers.get(self.codes("activations", name))
        if node is not None and node.op_type == "Clip":
            node = self._producers.get(node.input[0])
        if node is None or node.op_type != "QuantizeLinear":
            raise ParityError(f"the codes of '{name}' do not come from a QuantizeLinear")
        return node

    def element_type(self, codes: str) -> int:
        """Return the ONNX element type (TensorProto) of the tensor `codes`: that of its zero point."""
        return int(self._initializers[self._dequantizers(codes)[0].input[2]].data_type)

    def _dequantizers(self, codes: str) -> list[onnx.NodeProto]:
        found = self._readers[codes]
        if not found or any(node.op_type != "DequantizeLinear" for node in found):
            readers = ", ".join(node.op_type for node in found) or "nothing"
            raise ParityError(f"the codes '{codes}' are read by {readers}, not by DequantizeLinear alone")
        return found

    def _one_grid(self, name: str, nodes: list[onnx.NodeProto]) -> FileGrid:
        grids = [self._grid_of(node) for node in nodes]
        first = grids[0]
        for other in grids[1:]:
            same = np.array_equal(first.scale, other.scale) and np.array_equal(first.zero_point, other.zero_point)
            if not same or first.axis != other.axis:
                raise ParityError(f"'{name}' is rounded on one grid and read on another")
        return first

    def _grid_of(self, node: onnx.NodeProto) -> FileGrid:
        scale = self._constant(node.input[1])
        zero_point = self._constant(node.input[2])
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        return FileGrid(scale=scale, zero_point=zero_point.astype(np.int64), axis=axis if scale.ndim else None)

    def _constant(self, name: str) -> npt.NDArray[Any]:
        if name not in self._initializers:
            raise ParityError(f"'{name}' is not an initializer of the file")
        return numpy_helper.to_array(self._initializers[name])


def _table(metadata: dict[str, str], kind: str) -> dict[str, str]:
    key = f"genie_onnx.{kind}"
    if key not in metadata:
        raise ParityError(f"the file has no metadata '{key}': it was not written by genie-onnx")
    return {name: entry["codes"] for name, entry in json.loads(metadata[key]).items()}
