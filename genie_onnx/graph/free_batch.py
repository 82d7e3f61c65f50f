"""A graph made for one batch size, made to take any.

    input [1, 3, H, W] -> [N, 3, H, W]        and every Reshape, Expand, Resize, Slice that has the 1 in a constant

In: a graph whose shapes were inferred with the batch a fixed number B. The batch is followed from the input through
every node (batch_axis.py); the constants on its way are rewritten and every shape gets the symbol N (58*N where 58
entries of an axis belong to one sample). All or nothing: where one node stands in the way, nothing is changed.
"""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.graph import batch_constants, batch_moves, ops
from genie_onnx.graph.batch_axis import Batch, Edit, FixedBatchError, Rule, obstacle
from genie_onnx.graph.faults import ARITHMETIC_FAULTS, inconsistent
from genie_onnx.graph.initializers import add_initializer

SYMBOL = "N"

_RULES: dict[str, Rule] = {
    **dict.fromkeys(ops.ELEMENTWISE, batch_moves.elementwise),
    **dict.fromkeys(ops.POOLING, batch_moves.batch_first),
    **dict.fromkeys(ops.REDUCTION, batch_moves.reduce),
    **dict.fromkeys(("Conv", "ConvTranspose", "DepthToSpace", "SpaceToDepth", "LRN"), batch_moves.batch_first),
    **dict.fromkeys(("BatchNormalization", "GroupNormalization", "InstanceNormalization"), batch_moves.batch_first),
    **dict.fromkeys(("Softmax", "LogSoftmax", "LpNormalization", "TopK"), batch_moves.along(-1)),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), batch_moves.behind),
    **dict.fromkeys(("ArgMax", "ArgMin"), batch_moves.arg_reduce),
    "Attention": batch_moves.attention,
    "Concat": batch_moves.concat,
    "Expand": batch_constants.expand,
    "Flatten": batch_moves.flatten,
    "Gather": batch_moves.gather,
    "GatherElements": batch_moves.gather_elements,
    "Gemm": batch_moves.gemm,
    "GridSample": batch_moves.grid_sample,
    "MatMul": batch_moves.matmul,
    "Pad": batch_constants.pad,
    "Reshape": batch_constants.reshape,
    "Resize": batch_constants.resize,
    "Slice": batch_constants.slice_,
    "Split": batch_moves.along(0),
    "Squeeze": batch_constants.squeeze,
    "Tile": batch_constants.tile,
    "Transpose": batch_moves.transpose,
    "Unsqueeze": batch_moves.unsqueeze,
}
"""Operators that are not here (Einsum, ScatterND, ...) are not known to treat the samples of a batch alike."""


def free_batch(model: ir.Model) -> ir.Model:
    """Free the batch in place and return `model`. Raises FixedBatchError, with `model` as it was, where that is impossible."""
    batches, edits = _follow(model)
    for node, edit in edits:
        _apply(model.graph, node, edit)
    for value, batch in batches.items():
        if value.shape is not None:
            sizes = list(value.shape)
            sizes[batch.axis] = ir.SymbolicDim(SYMBOL if batch.entries == 1 else f"{batch.entries}*{SYMBOL}")
            value.shape = ir.Shape(sizes)
    return model


def batch_obstacle(model: ir.Model) -> str | None:
    """Return why the batch of a normalised model is still a fixed number; None where it is free."""
    value = batch_input(model)
    if value is None or value.shape is None or not isinstance(value.shape[0], int):
        return None
    try:
        _follow(model)
    except FixedBatchError as error:
        return str(error)
    return None


def batch_input(model: ir.Model) -> ir.Value | None:
    """Return the one graph input, which carries the batch on axis 0; None where there are several, or it has no axes."""
    inputs = list(model.graph.inputs)
    return inputs[0] if len(inputs) == 1 and inputs[0].shape is not None and len(inputs[0].shape) > 0 else None


def _follow(model: ir.Model) -> tuple[dict[ir.Value, Batch], list[tuple[ir.Node, Edit]]]:
    source = batch_input(model)
    if source is None:
        raise FixedBatchError("the model does not have exactly one input with a known rank")
    batches: dict[ir.Value, Batch] = {source: Batch(0)}
    edits: list[tuple[ir.Node, Edit]] = []
    for node in model.graph:
        if not any(v in batches for v in node.inputs if v is not None):
            continue
        rule = _RULES.get(node.op_type) if node.domain == "" else None
        if rule is None:
            raise obstacle(node, "is not known to treat the samples of a batch alike")
        try:
            moved = rule(node, batches)
        except ARITHMETIC_FAULTS as error:
            raise inconsistent(node, error) from error
        batches.update((value, moved.batch) for value in node.outputs)
        edits += [(node, edit) for edit in moved.edits]
    for value in model.graph.outputs:
        if value in batches and batches[value].axis != 0:
            raise FixedBatchError(f"output '{value.name}' has the batch on axis {batches[value].axis}, not on axis 0")
        if value in batches and batches[value].before > 1:
            raise FixedBatchError(f"output '{value.name}' has the samples of a batch between each other")
    return batches, edits


def _apply(graph: ir.Graph, node: ir.Node, edit: Edit) -> None:
    if edit.array is None:
        node.replace_input_with(edit.index, None)
        return
    current = node.inputs[edit.index] if edit.index < len(node.inputs) else None
    wish = f"{node.outputs[0].name}.{edit.index}" if current is None else str(current.name)
    value = add_initializer(graph, wish, edit.array)
    node.resize_inputs(max(len(node.inputs), edit.index + 1))
    node.replace_input_with(edit.index, value)
