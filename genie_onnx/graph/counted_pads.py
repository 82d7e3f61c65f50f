"""AveragePool without pads has none to count.

    AveragePool<count_include_pad=1, pads=0>  ->  AveragePool<pads=0>

The same numbers: what ceil_mode lets a window reach beyond is not a pad. onnxruntime's integer kernel (QLinearAveragePool,
1.31.1) divides by other counts than its float kernel where both attributes are set, which is what torch's
AvgPool2d(k, ceil_mode=True) exports.
"""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.graph.query import attribute


def drop_counted_pads(model: ir.Model) -> ir.Model:
    """Rewrite in place, behind `explicit_pads`, and return `model`."""
    for node in model.graph:
        if node.domain == "" and node.op_type == "AveragePool" and not any(attribute(node, "pads", ())):
            node.attributes.pop("count_include_pad", None)
    return model
