"""Average pools in forms that onnxruntime's integer kernel lacks are kept from becoming one.

    AveragePool(x) -> y    becomes    AveragePool(x) -> Sum -> y        a sum of one operand: the same by definition

Between DequantizeLinear and QuantizeLinear onnxruntime makes QLinearAveragePool of every AveragePool, which (1.31.1) has no
dilations, so that the model is refused, and with ceil_mode and count_include_pad divides by other counts than the float kernel
where the last window reaches beyond pads behind. It leaves the pool alone where another operator stands before the
QuantizeLinear, and has no rule that takes a Sum of one operand out.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from genie_onnx.exporter.builder import Builder
from genie_onnx.graph import query


def keep_float_pools(builder: Builder, rounded: Collection[str]) -> None:
    """Rewrite in place the pools of those forms that write one of `rounded` (values), which keep their names."""
    for node in list(builder.graph):
        if node.op_type == "AveragePool" and node.domain == "" and node.outputs[0].name in rounded and _beyond_integers(node):
            mean = node.outputs[0]
            readers, name = mean.uses(), str(mean.name)
            total = builder.node("Sum", [mean], name, f"{name}_mean")
            builder.graph.insert_after(node, total)
            builder.take_over(mean, total.outputs[0], readers)


def _beyond_integers(node: ir.Node) -> bool:
    counts_beyond = query.attribute(node, "ceil_mode", 0) and query.attribute(node, "count_include_pad", 0)
    return max(query.attribute(node, "dilations", (1,))) > 1 or bool(counts_beyond and any(query.attribute(node, "pads", ())))
