"""The one error that a rewrite raises: a node whose constants and shapes do not fit each other."""

from __future__ import annotations

import onnx_ir as ir

from genie_onnx.errors import ModelError
from genie_onnx.graph.names import node_name

ARITHMETIC_FAULTS = (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError)
"""What Python and numpy raise when lengths, axes or values do not fit."""


def inconsistent(node: ir.Node, error: Exception) -> ModelError:
    """Return the ModelError for `node`, on which working with its constants raised `error`."""
    reason = " ".join(str(error).split()) or type(error).__name__
    return ModelError(
        f"{node.op_type} '{node_name(node)}' contradicts itself ({reason}): the file is inconsistent, export the model again."
    )
