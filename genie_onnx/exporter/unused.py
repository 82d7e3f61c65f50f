"""Initializers that nothing reads any more: bounds of a Clip that moved to the codes, numbers behind a node that was replaced.

onnxruntime warns of each at its default log level when it loads the file. Those that the user's own model does not read are gone
since `normalise`.
"""

from __future__ import annotations

import onnx_ir as ir


def drop_unused_initializers(graph: ir.Graph) -> None:
    """Remove in place every initializer of `graph` that no node reads (one in a subgraph counts) and that is no graph output."""
    for name, value in list(graph.initializers.items()):
        if not (value.uses() or value.is_graph_output()):
            del graph.initializers[name]
