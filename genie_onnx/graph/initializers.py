"""New initializers: a value, its tensor and its place in the graph in one step."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph.names import fresh_name


def add_initializer(graph: ir.Graph, wish: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Register `array` under the name `wish`, or `wish`_1, ... where that is taken; return the value."""
    value = make_initializer(fresh_name(graph, wish), array)
    graph.register_initializer(value)
    return value


def make_initializer(name: str, array: npt.NDArray[np.generic]) -> ir.Value:
    """Return a value that `array` can be read from, not yet registered in a graph."""
    tensor = ir.tensor(np.array(array, order="C"), name=name)  # not ascontiguousarray: it gives a scalar a dimension
    return ir.Value(name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
