"""Attributes and inputs that ONNX lets a file leave out, written down, for importers that do not know their defaults.

They are

    Conv, ConvTranspose       kernel_shape, strides, dilations, group, pads
    AveragePool, MaxPool      strides, pads
    Gemm                      alpha, beta, transA, transB, and C (zeros)
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir

from genie_onnx.exporter.builder import Builder
from genie_onnx.graph import query


def write_defaults(builder: Builder) -> None:
    """Complete the nodes of the graph in place."""
    for node in builder.graph:
        if node.domain == "":
            for name, default in _defaults(node).items():
                if name not in node.attributes:
                    node.attributes[name] = ir.convenience.convert_attribute(name, default)
            if node.op_type == "Gemm" and query.bias(node) is None:
                zeros = builder.initializer(f"{node.name}_bias", np.zeros(_features(node), np.float32))
                node.resize_inputs(3)
                node.replace_input_with(2, zeros)


def _defaults(node: ir.Node) -> dict[str, Any]:
    if node.op_type == "Gemm":
        return {"alpha": 1.0, "beta": 1.0, "transA": 0, "transB": 0}
    if node.op_type in ("Conv", "ConvTranspose"):
        shape = query.dims(node.inputs[1])
        assert shape is not None  # of a constant, or a value that the graph's check has seen
        kernel = [int(size) for size in shape[2:] if size is not None]
        rank = len(kernel)
        given = {"kernel_shape": kernel, "strides": [1] * rank, "dilations": [1] * rank, "group": 1}
    elif node.op_type in ("AveragePool", "MaxPool"):
        rank = len(query.attribute(node, "kernel_shape", ()))
        given = {"strides": [1] * rank}
    else:
        return {}
    explicit = query.attribute(node, "auto_pad", "NOTSET") == "NOTSET" and "output_shape" not in node.attributes
    return {**given, **({"pads": [0] * 2 * rank} if explicit else {})}


def _features(node: ir.Node) -> int:
    shape = query.dims(node.inputs[1])
    assert shape is not None
    size = shape[query.channel_axis(node)]
    assert size is not None
    return size
