"""The bias of a MatMul on rounded values, an Add of a constant behind it, is kept in float.

    MatMul(x, w) -> Add(b)   becomes   MatMul(x, w) -> Sum(b)

which are the same by definition. onnxruntime fuses the first into a Gemm (where x is a stack of matrices: behind a Reshape,
if all sizes are known), and then quantises b by itself (as in bias.py) where a QuantizeLinear follows: up to one output code in
six differs from what was simulated, since a MatMul has no bias to simulate. Where none follows, the Gemm is computed in float.
It leaves the second alone, with the product in an integer kernel (1.31.1). A MatMul whose weight stays float would have that
quantised too.
"""

from __future__ import annotations

from collections.abc import Collection

import onnx_ir as ir

from genie_onnx.graph import query


def keep_matmul_biases(graph: ir.Graph, nodes: Collection[str], rounded: Collection[str]) -> None:
    """Rewrite in place behind the MatMuls among `nodes` (names) whose product is not itself in `rounded` (values)."""
    for node in graph:
        product = node.outputs[0]
        if node.op_type != "MatMul" or node.name not in nodes or product.name in rounded or product.is_graph_output():
            continue
        readers = list(product.consumers())
        if len(readers) == 1 and readers[0].op_type == "Add" and any(query.is_constant(v) for v in readers[0].inputs):
            readers[0].op_type = "Sum"
