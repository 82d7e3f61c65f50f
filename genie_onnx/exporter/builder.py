"""The three things that quantisation adds to a graph: initializers, QuantizeLinear and DequantizeLinear nodes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.exporter.containers import Stored
from genie_onnx.exporter.names import Names


class Builder:
    """Adds to `graph` in place. Nodes are put where the caller says; values get fresh names."""

    def __init__(self, graph: ir.Graph) -> None:
        self.graph = graph
        self.names = Names(graph)

    def initializer(self, name: str, array: npt.NDArray[Any], doc: str | None = None) -> ir.Value:
        """Add `array` under a fresh name like `name`."""
        name = self.names.fresh(name)
        tensor = ir.tensor(np.asarray(array), name=name, doc_string=doc)
        value = ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def node(self, op: str, inputs: list[ir.Value], stem: str, output: str, axis: int | None = None) -> ir.Node:
        """Make a node `stem`_`op` with one output named `output`, both fresh; it is not in the graph yet."""
        attributes = {} if axis is None else {"axis": axis}
        node = ir.node(op, inputs, attributes, name=self.names.fresh(f"{stem}_{op}"))
        node.outputs[0].name = self.names.fresh(output)
        return node

    def take_over(self, value: ir.Value, result: ir.Value, readers: Iterable[tuple[ir.Node, int]]) -> None:
        """Let `result` stand in for `value` before its `readers` and as graph output, under its name; the two exchange names."""
        for reader, index in readers:
            reader.replace_input_with(index, result)
        outputs = self.graph.outputs
        for index, output in enumerate(outputs):
            if output is value:
                outputs[index] = result
        value.name, result.name = result.name, value.name
        result.type, result.shape = value.type, value.shape

    def prepend(self, node: ir.Node) -> ir.Value:
        """Put `node` before all others and return its output."""
        if len(self.graph):
            self.graph.insert_before(self.graph[0], node)
        else:
            self.graph.append(node)
        return node.outputs[0]

    def dequantized(
        self, name: str, stored: Stored, scale: npt.NDArray[np.float32], axis: int | None, output: str, doc: str
    ) -> tuple[ir.Value, ir.Value]:
        """Add the constant `stored` and its DequantizeLinear; return (the codes, the node's output)."""
        codes = self.initializer(f"{name}_quantized", stored.data, doc)
        grid = [self.initializer(f"{name}_scale", scale), self.initializer(f"{name}_zero_point", stored.zero_point)]
        return codes, self.prepend(self.node("DequantizeLinear", [codes, *grid], name, output, axis))
