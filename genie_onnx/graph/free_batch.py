"""A graph made for one batch size, made to take any.

    input [1, 3, H, W] -> [N, 3, H, W]        and every Reshape, Expand, Resize, Slice that has the 1 in a constant

In: a graph whose shapes were inferred with the batch a fixed number B. The batch is followed from the input through
every node (batch_axis.py); the constants on its way are rewritten and every shape gets the symbol N (58*N where 58
entries of an axis belong to one sample). All or nothing: where one node stands in the way, nothing is changed.
"""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.graph.batch_axis import Batch, BatchObstacle, Edit, move_batch
from genie_onnx.graph.names import fresh_name

SYMBOL = "N"


def free_batch(model: ir.Model) -> ir.Model:
    """Free the batch in place and return `model`. Raises BatchObstacle, with `model` as it was, where that is impossible."""
    batches, edits = _follow(model)
    for node, edit in edits:
        _apply(model.graph, node, edit)
    for value, batch in batches.items():
        if value.shape is not None:
            sizes = list(value.shape)
            sizes[batch.axis] = ir.SymbolicDim(SYMBOL if batch.times == 1 else f"{batch.times}*{SYMBOL}")
            value.shape = ir.Shape(sizes)
    return model


def batch_obstacle(model: ir.Model) -> str | None:
    """Return why the batch of a normalised model is still a fixed number; None where it is free."""
    value = batch_input(model)
    if value is None or value.shape is None or not isinstance(value.shape[0], int):
        return None
    try:
        _follow(model)
    except BatchObstacle as obstacle:
        return str(obstacle)
    return None


def batch_input(model: ir.Model) -> ir.Value | None:
    """Return the one graph input, which carries the batch on axis 0; None where there are several, or it has no axes."""
    inputs = list(model.graph.inputs)
    return inputs[0] if len(inputs) == 1 and inputs[0].shape is not None and len(inputs[0].shape) > 0 else None


def _follow(model: ir.Model) -> tuple[dict[ir.Value, Batch], list[tuple[ir.Node, Edit]]]:
    source = batch_input(model)
    if source is None:
        raise BatchObstacle("the model does not have exactly one input with a known rank")
    batches, edits = {source: Batch(0)}, []
    for node in model.graph:
        moved = move_batch(node, batches)
        if moved is not None:
            batches.update((value, moved.batch) for value in node.outputs)
            edits += [(node, edit) for edit in moved.edits]
    for value in model.graph.outputs:
        if value in batches and batches[value].axis != 0:
            raise BatchObstacle(f"output '{value.name}' has the batch on axis {batches[value].axis}, not on axis 0")
    return batches, edits


def _apply(graph: ir.Graph, node: ir.Node, edit: Edit) -> None:
    if edit.array is None:
        node.replace_input_with(edit.index, None)
        return
    current = node.inputs[edit.index] if edit.index < len(node.inputs) else None
    name = fresh_name(graph, str(current.name) if current is not None else f"{node.outputs[0].name}.{edit.index}")
    tensor = ir.tensor(edit.array, name=name)
    value = ir.Value(name=name, shape=ir.Shape(edit.array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
    graph.register_initializer(value)
    if edit.index >= len(node.inputs):
        node.resize_inputs(edit.index + 1)
    node.replace_input_with(edit.index, value)
