"""The constants that a network computes with: initializers, and what the file computes from constants alone.

    codes -> DequantizeLinear -> w,    v -> QuantizeLinear -> Clip -> DequantizeLinear -> Transpose -> w,    Constant() -> c

They are computed by onnxruntime, once, so that whatever a tool writes there is read as it will run.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx_ir as ir
from onnx_ir.passes.common import RemoveUnusedNodesPass

from genie_onnx.graph import query
from genie_onnx.validate.session import Session


def constant_nodes(model: ir.Model) -> set[ir.Node]:
    """Return the nodes that depend on no input of the graph."""
    found: set[ir.Node] = set()
    for node in model.graph:
        reads = [value for value in node.inputs if value is not None]
        if (reads or node.op_type == "Constant") and all(query.is_constant(v) or v.producer() in found for v in reads):
            found.add(node)
    return found


def computed_constants(model: ir.Model) -> Mapping[str, npt.NDArray[Any]]:
    """Return the results of `constant_nodes` that other nodes or a DequantizeLinear read, by name. `model` stays as it is.

    Codes of types that numpy lacks (INT4) are not among them where they are computed.
    """
    constants = constant_nodes(model)
    wanted = [
        str(value.name)
        for node in constants
        for value in node.outputs
        if any(use.node not in constants or use.node.op_type == "DequantizeLinear" for use in value.uses())
        and (value.dtype is None or value.dtype.bitwidth >= np.dtype(np.int8).itemsize * 8)
    ]
    if not wanted:
        return {}
    part = model.clone()
    values = query.value_map(part)
    part.graph.outputs[:] = [values[name] for name in wanted]
    RemoveUnusedNodesPass()(part)
    part.graph.inputs.clear()
    return Session(part, optimise=False)({})
