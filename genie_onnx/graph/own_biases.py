"""Every layer gets a bias that it shares with nobody, so that closed-form rounding can move it.

    Conv(x, w)       -> Conv(x, w, 0)            also ConvTranspose and Gemm
    Conv(x, w, b)    -> Conv(x, w, a copy of b)  where another node reads b too
    Gemm(x, w, [c])  -> Gemm(x, w, [c, c, ...])  one number for each channel

A MatMul has no place for one: there it is the constant that an Add behind it adds, if there is one.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.graph.initializers import add_initializer


def with_own_biases(model: ir.Model, nodes: Collection[str]) -> ir.Model:
    """Return a copy of a normalised `model` in which each of `nodes` (names) but MatMul has a bias initializer of its own.

    A bias that is computed, or has a number for each sample (Gemm), stays as it is.
    """
    model = model.clone()
    for node in model.graph:
        if node.name not in nodes:
            continue
        if node.op_type == "MatMul":
            _own_constants(model.graph, node)
        elif query.bias(node) is None:
            node.resize_inputs(3)
            _set(model.graph, node, 2, np.zeros(_channels(node), np.float32))
        else:
            _own(model.graph, node, 2)
            _widen(model.graph, node)
    return model


def with_constants(model: ir.Model, constants: Mapping[str, np.ndarray]) -> ir.Model:
    """Return a copy of `model` with other numbers in the initializers named in `constants`, of the shapes that they have."""
    if not constants:
        return model
    model = model.clone()
    for name, array in constants.items():
        # not ascontiguousarray: it gives a scalar a dimension
        model.graph.initializers[name].const_value = ir.tensor(np.array(array, order="C"), name=name)
    return model


def _own_constants(graph: ir.Graph, node: ir.Node) -> None:
    """Give the Add behind a MatMul its own constant."""
    readers = list(node.outputs[0].uses())
    if len(readers) == 1 and readers[0].node.op_type == "Add":
        for index in range(2):
            _own(graph, readers[0].node, index)


def _own(graph: ir.Graph, node: ir.Node, index: int) -> None:
    """Give a node a copy of the constant at `index`, if there is one and others read it."""
    value = node.inputs[index]
    array = query.constant(value)
    if value is not None and array is not None and (len(value.uses()) > 1 or value.is_graph_output()):
        _set(graph, node, index, array)


def _widen(graph: ir.Graph, node: ir.Node) -> None:
    """Give a Gemm whose bias is one number for all channels that number for each."""
    array = query.constant(query.bias(node))
    if array is not None and array.size == 1 and array.shape != (_channels(node),):
        _set(graph, node, 2, np.full(_channels(node), array.reshape(-1)[0]))


def _set(graph: ir.Graph, node: ir.Node, index: int, array: npt.NDArray[np.generic]) -> None:
    node.replace_input_with(index, add_initializer(graph, f"{node.name}.bias", array))


def _channels(node: ir.Node) -> int:
    channels = (query.dims(query.weight(node)) or ())[query.channel_axis(node)]
    assert channels is not None  # an initializer has a fixed shape
    return channels * (query.attribute(node, "group", 1) if node.op_type == "ConvTranspose" else 1)
