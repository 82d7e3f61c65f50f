"""AveragePool without pads has none to count, and one without gaps no dilations.

    AveragePool<count_include_pad=1, pads=0>  ->  AveragePool<pads=0>
    AveragePool<dilations=1>                  ->  AveragePool

The same numbers: what ceil_mode lets a window reach beyond is not a pad. onnxruntime's integer kernel (QLinearAveragePool,
1.31.1) divides by other counts than its float kernel where both attributes are set, which is what torch's
AvgPool2d(k, ceil_mode=True) exports. And it knows no attribute `dilations` (opset 19), whatever that says.
"""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.graph.query import attribute


def drop_counted_pads(model: ir.Model) -> ir.Model:
    """Rewrite in place, behind `explicit_pads`, and return `model`."""
    for node in model.graph:
        if node.domain != "" or node.op_type != "AveragePool":
            continue
        if not any(attribute(node, "pads", ())):
            node.attributes.pop("count_include_pad", None)
        if max(attribute(node, "dilations", (1,))) == 1:
            node.attributes.pop("dilations", None)
    return model
