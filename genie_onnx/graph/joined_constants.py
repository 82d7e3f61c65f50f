"""A constant that is joined to a value becomes one that is added to it.

    y = Concat<axis>(c [1, ...], x)   ->   y = Pad(x) + [c, 0]       x moved up by the size of c, zeros where c goes

    y = Concat<axis>(c, x), c all -1e9  ->   y = Pad(x, -1e9)        it stands for padding, of a maximum that follows

The class token of a transformer, the coordinates of a CoordConv: an exporter writes them as large as the batch it saw, 1, and a
Concat wants just that size, whereas addition broadcasts. The numbers are the same to the bit.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.names import fresh_name
from genie_onnx.graph.pool_pads import LOWEST
from genie_onnx.graph.query import attribute, constant, dims


def add_joined_constants(model: ir.Model) -> ir.Model:
    """Rewrite in place every Concat of one computed float value and constants for one sample; return `model`."""
    for node in list(model.graph):
        if node.domain == "" and node.op_type == "Concat":
            _rewrite(model.graph, node)
    return model


def _rewrite(graph: ir.Graph, node: ir.Node) -> None:
    arrays = [constant(value) for value in node.inputs]
    places = [i for i, array in enumerate(arrays) if array is None]
    (result,) = node.outputs
    shape = dims(node.inputs[places[0]]) if len(places) == 1 else None
    if shape is None or len(arrays) == 1 or result.dtype != ir.DataType.FLOAT or result.shape is None:
        return
    (place,), rank = places, len(shape)
    axis = attribute(node, "axis", 0) % rank
    known = [array for array in arrays if array is not None]
    size = shape[axis]
    if axis == 0 or size is None or any(array.shape[0] != 1 for array in known):
        return
    gap = np.zeros([size if i == axis else n for i, n in enumerate(known[0].shape)], np.float32)
    table = np.concatenate([gap if array is None else array for array in arrays], axis)
    pads = np.zeros(2 * rank, np.int64)
    pads[axis] = sum(array.shape[axis] for array in known[:place])
    pads[rank + axis] = sum(array.shape[axis] for array in known[place:])
    name = str(result.name)
    numbers = np.unique(np.concatenate([array.reshape(-1) for array in known]))
    if len(numbers) == 1 and numbers[0] <= LOWEST:
        _pad(graph, node, pads, numbers[0])
        return
    padding, constants = add_initializer(graph, f"{name}.pads", pads), add_initializer(graph, f"{name}.joined", table)
    moved = ir.node("Pad", [node.inputs[place], padding], name=f"{node.name or name}.pad")
    moved.outputs[0].name = fresh_name(graph, f"{name}.padded")
    added = ir.node("Add", [moved.outputs[0], constants], name=node.name)
    for made in (moved, added):
        made.outputs[0].shape, made.outputs[0].type = result.shape, result.type
    graph.insert_before(node, [moved, added])
    result.replace_all_uses_with(added.outputs[0], replace_graph_outputs=True)
    graph.remove(node, safe=True)
    added.outputs[0].name = name


def _pad(graph: ir.Graph, node: ir.Node, pads: np.ndarray, number: np.generic) -> None:
    """Put a Pad of its one computed operand, filled with `number`, in the place of the Concat `node`."""
    (result,) = node.outputs
    source = next(value for value in node.inputs if constant(value) is None)
    name = str(result.name)
    filling = [add_initializer(graph, f"{name}.pads", pads), add_initializer(graph, f"{name}.filling", np.asarray(number))]
    pad = ir.node("Pad", [source, *filling], name=node.name)
    made = pad.outputs[0]
    made.shape, made.type = result.shape, result.type
    graph.insert_before(node, pad)
    result.replace_all_uses_with(made, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    made.name = name
