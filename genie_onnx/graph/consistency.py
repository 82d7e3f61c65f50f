"""Whether a model is what it says it is: operands that exist, operators used as specified, shapes and numbers that can be.

Every function yields one sentence for each finding. `undefined_values` and `malformed_nodes` judge a loaded model, and must
find nothing before it can be normalised; the others judge a normalised one.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from genie_onnx.graph.names import node_name
from genie_onnx.graph.ops import WEIGHTED_OPS
from genie_onnx.graph.query import attribute, constant, dims, opset

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_REQUIRED = onnx.defs.OpSchema.FormalParameterOption.Single
_SMALL = 1024  # bytes; what shape inference may need the value of (shapes, axes, pads) is smaller


def undefined_values(model: ir.Model) -> Iterator[str]:
    """Operands that no node, input or initializer provides."""
    for node in model.graph:
        for value in node.inputs:
            if value is not None and value.producer() is None and not value.is_graph_input() and not value.is_initializer():
                yield (
                    f"{node.op_type} '{node_name(node)}' reads '{value.name}', which nothing in the file defines; "
                    "export the model again."
                )


def malformed_nodes(model: ir.Model) -> Iterator[str]:
    """Nodes with too few or too many operands, or without a required attribute, by the operator's schema."""
    for node in model.graph:
        if node.domain != "" or not onnx.defs.has(node.op_type, max_inclusive_version=opset(model)):
            continue  # an operator that is no standard one is not supported, and `check` says so
        schema = onnx.defs.get_schema(node.op_type, opset(model))
        if not schema.min_input <= len(node.inputs) <= schema.max_input:
            found = f"{len(node.inputs)} operands; the operator takes {schema.min_input} to {schema.max_input}"
            yield f"{node.op_type} '{node_name(node)}' has {found}. Export the model again."
        elif any(v is None for v, formal in zip(node.inputs, schema.inputs, strict=False) if formal.option == _REQUIRED):
            yield f"{node.op_type} '{node_name(node)}' lacks a required operand. Export the model again."
        missing = [a.name for a in schema.attributes.values() if a.required and a.name not in node.attributes]
        if missing:
            yield f"{node.op_type} '{node_name(node)}' lacks its attribute '{missing[0]}'. Export the model again."


def numbers(graph: ir.Model) -> Iterator[str]:
    """Types and values of constants. Infinity has its uses outside weights (a Clip without a limit, a mask); NaN has none."""
    for value in graph.graph.initializers.values():
        readers = [n for n, _ in value.uses()]
        is_parameter = any(n.op_type in (*WEIGHTED_OPS, "BatchNormalization") for n in readers)
        array = constant(value)
        if array is None or value.dtype not in _FLOATS or value.dtype is None:
            continue
        where = f"'{value.name}' of {readers[0].op_type} '{readers[0].name}'" if readers else f"'{value.name}'"
        if is_parameter and value.dtype != ir.DataType.FLOAT:
            yield f"the weight {where} is {value.dtype.name}; float32 is supported. Convert the model to float32 first."
        numbers = np.asarray(array, np.float64)
        bad = int(np.isnan(numbers).sum()) + (int(np.isinf(numbers).sum()) if is_parameter else 0)
        if bad:
            yield f"the weight {where} has {bad} of {numbers.size} values NaN or infinite; train or export the model again."
    for node in graph.graph:
        var = constant(node.inputs[4]) if node.op_type == "BatchNormalization" else None
        if var is not None and (np.asarray(var, np.float64) + attribute(node, "epsilon", 1e-5) <= 0).any():
            yield f"BatchNormalization '{node.name}' has a variance below -epsilon, which no data has; export the model again."


def channels(graph: ir.Model) -> Iterator[str]:
    """Numbers of channels that do not fit, which onnx's shape inference lets pass."""
    for node in graph.graph:
        if node.op_type not in ("Conv", "ConvTranspose", "BatchNormalization") or node.domain != "":
            continue
        found, weight = dims(node.inputs[0]), dims(node.inputs[1])
        if found is None or weight is None or len(found) < 2 or None in (found[1], weight[0]):
            continue
        wanted = weight[1] * attribute(node, "group", 1) if node.op_type == "Conv" and weight[1] is not None else weight[0]
        if found[1] != wanted:
            yield (
                f"{node.op_type} '{node.name}' gets {found[1]} channels, but its weight {list(weight)} is for {wanted}; "
                "the file is damaged, export the model again."
            )


def contradictions(graph: ir.Model) -> Iterator[str]:
    """What onnx's strict shape inference says. Large weights become inputs: only their shapes matter."""
    graph = graph.clone()
    for value in list(graph.graph.initializers.values()):
        if value.const_value is not None and value.const_value.nbytes > _SMALL:
            del graph.graph.initializers[str(value.name)]
            graph.graph.inputs.append(value)
    try:
        onnx.shape_inference.infer_shapes(ir.to_proto(graph), check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        yield f"the model contradicts itself, says onnx's shape inference: {' '.join(str(error).split())}"
