"""A Gather that takes everything in order is a Reshape.

    y = Gather(x [n], [[0, 1], ..., [n-2, n-1]])   ->   y = Reshape(x, shape of the indices)

torch's dynamo exporter writes a change of strides that way (as_strided, in ConvNeXt's global pooling). A Gather whose indices
span the batch cannot be freed of its size; a Reshape can.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.query import constant, dims


def reshape_whole_gathers(model: ir.Model) -> ir.Model:
    """Rewrite in place, where shapes are known, and return `model`."""
    for node in model.graph:
        if node.domain != "" or node.op_type != "Gather":
            continue
        indices, size = constant(node.inputs[1]), dims(node.inputs[0])
        if indices is None or size is None or len(size) != 1 or indices.ndim == 0:
            continue
        if indices.size == size[0] and np.array_equal(indices.reshape(-1), np.arange(indices.size)):
            shape = np.array(indices.shape, np.int64)
            node.replace_input_with(1, add_initializer(model.graph, f"{node.outputs[0].name}.shape", shape))
            node.attributes.clear()
            node.op_type = "Reshape"
    return model
