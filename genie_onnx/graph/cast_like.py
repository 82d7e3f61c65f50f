"""A type that is taken from another value is written out.

    CastLike(x, y)   ->   Cast(x, to = type of y)

Of y the type alone is read, so what it is made of (the image, mostly) is no operand: `CastLike(0.0, image)`, of which torch's
exporter makes biases and paddings where it does not optimise, is a constant.
"""

from __future__ import annotations

import onnx_ir as ir


def cast_by_type(model: ir.Model) -> bool:
    """Rewrite in place every CastLike whose target type is known; return whether there were any."""
    found = False
    for node in model.graph:
        like = node.inputs[1] if node.domain == "" and node.op_type == "CastLike" else None
        if like is not None and like.dtype is not None:
            node.resize_inputs(1)
            node.attributes["to"] = ir.AttrInt64("to", int(like.dtype))  # the others are those of a Cast
            node.op_type = "Cast"
            found = True
    return found
