"""Whether a network ends as a classifier does: one number a class, [N, K], for each image."""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.graph.query import attribute, dims, image_outputs

CARRIES = frozenset({"Identity", "Flatten", "Reshape", "Squeeze"})  # hand the numbers on as they are


def class_scores(model: ir.Model) -> str | None:
    """Return the name of the first output [N, K], K >= 2, before any Softmax or LogSoftmax behind it; None where there is none.

    From the shape alone: landmarks and embeddings are [N, K] as well (`distill.classes.decisive` tells them apart).
    """
    wanted = image_outputs(model)
    for output in model.graph.outputs:
        scores = _before_softmax(output)
        found = dims(output) if str(output.name) in wanted else None
        if found is not None and len(found) == 2 and found[1] is not None and found[1] >= 2 and scores.producer() is not None:
            return str(scores.name)
    return None


def may_have_classes(model: ir.Model) -> bool:
    """Whether some output may be compared by classes, as far as types and shapes are known: whole numbers, or float [N, K] or
    [N, K, 1, 1] with K > 1."""
    return any(_may_be_classes(output) for output in model.graph.outputs)


def _may_be_classes(output: ir.Value) -> bool:
    found = dims(output)
    if found is None or output.dtype is None or not output.dtype.is_floating_point():
        return True
    return len(found) >= 2 and found[1] != 1 and all(size in (1, None) for size in found[2:])


def _before_softmax(output: ir.Value) -> ir.Value:
    """Return what enters the Softmax over classes that `output` comes from, or `output` itself.

    Only where that is [N, K] too: a Softmax over another axis of more dimensions is no choice of a class.
    """
    value = output
    while (node := value.producer()) is not None:
        if node.op_type in ("Softmax", "LogSoftmax") and attribute(node, "axis", -1) in (-1, 1):
            before = node.inputs[0]
            return before if before is not None and len(dims(before) or ()) == 2 else output
        if node.op_type not in CARRIES or node.inputs[0] is None:
            break
        value = node.inputs[0]
    return output
