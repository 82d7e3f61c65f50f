"""Whether a model is what it says it is: operands that exist, operators used as specified, shapes and numbers that can be.

Every function yields one sentence for each finding. `undefined_values` and `malformed_nodes` judge a loaded model, and must
find nothing before it can be normalised; the others judge a normalised one.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx
import onnx_ir as ir

from genie_onnx.graph.names import node_name
from genie_onnx.graph.ops import CONTROL_FLOW_OPS, WEIGHTED_OPS
from genie_onnx.graph.query import attribute, constant, dims, opset

_FLOATS = (ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE)
_MAX_ELEMENTS = 2**26  # of one value: 32 channels of a full HD image, 2 GiB for the eight samples that are verified at once
_MAX_RANK = 16  # numpy, torch and onnxruntime each have a limit, 64 at most
_SMALL = 1024  # bytes; what shape inference may need the value of (shapes, axes, pads) is smaller


def undefined_values(model: ir.Model) -> Iterator[str]:
    """Operands and graph outputs that no node, input or initializer provides."""
    for node in model.graph:
        for value in node.inputs:
            if value is not None and not _is_defined(value):
                yield (
                    f"{node.op_type} '{node_name(node)}' reads '{value.name}', which nothing in the file defines; "
                    "export the model again."
                )
    for value in model.graph.outputs:
        if not _is_defined(value):
            yield f"output '{value.name}' is computed by nothing in the file; export the model again."


def _is_defined(value: ir.Value) -> bool:
    return value.producer() is not None or value.is_graph_input() or value.is_initializer()


def malformed_nodes(model: ir.Model) -> Iterator[str]:
    """Nodes whose operands or attributes are not those of the operator, says onnx's checker."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version = model.ir_version
    context.opset_imports = dict(model.graph.opset_imports)
    for node in model.graph:
        if node.domain != "" or not onnx.defs.has(node.op_type, max_inclusive_version=opset(model)):
            continue  # no standard operator: it is not supported, and `check` says so
        if node.op_type in CONTROL_FLOW_OPS:
            continue  # likewise
        try:
            onnx.checker.check_node(ir.to_proto(node), context)
        except (onnx.checker.ValidationError, ir.serde.SerdeError) as error:
            reason = str(error).splitlines()[0].rstrip(".")
            yield f"{node.op_type} '{node_name(node)}' is not as ONNX specifies it: {reason}. Export the model again."


def numbers(graph: ir.Model) -> Iterator[str]:
    """Types and values of constants. Infinity has its uses outside weights (a Clip without a limit, a mask); NaN has none."""
    other_types: list[str] = []
    for value in graph.graph.initializers.values():
        readers = [n for n, _ in value.uses()]
        is_parameter = any(n.op_type in (*WEIGHTED_OPS, "BatchNormalization") for n in readers)
        array = constant(value)
        if array is None or value.dtype not in _FLOATS or value.dtype is None:
            continue
        where = f"'{value.name}' of {readers[0].op_type} '{readers[0].name}'" if readers else f"'{value.name}'"
        if is_parameter and value.dtype != ir.DataType.FLOAT:
            other_types.append(f"{where} is {value.dtype.name}")
        bad = int((~np.isfinite(array) if is_parameter else np.isnan(array)).sum())
        if bad:
            yield f"the weight {where} has {bad} of {array.size} values NaN or infinite; train or export the model again."
    if other_types:
        yield (
            f"{len(other_types)} weights are not float32 (the first: {other_types[0]}); float32 is supported. "
            "Export the model in float32 (model.float())."
        )
    for node in graph.graph:
        var = constant(node.inputs[4]) if node.op_type == "BatchNormalization" and node.domain == "" else None
        if var is not None and (np.asarray(var, np.float64) + attribute(node, "epsilon", 1e-5) <= 0).any():
            yield f"BatchNormalization '{node.name}' has a variance below -epsilon, which no data has; export the model again."


def channels(graph: ir.Model) -> Iterator[str]:
    """Numbers of channels that do not fit, and empty kernels, which onnx's shape inference lets pass."""
    for node in graph.graph:
        if node.op_type not in ("Conv", "ConvTranspose", "BatchNormalization") or node.domain != "":
            continue
        found, weight = dims(node.inputs[0]), dims(node.inputs[1])
        if found is None or weight is None or len(found) < 2 or None in (found[1], *weight):
            continue
        where, damaged = f"{node.op_type} '{node.name}'", "the file is damaged, export the model again."
        if 0 in weight:
            yield f"{where} has an empty weight, {list(weight)}; {damaged}"
            continue
        group = attribute(node, "group", 1)
        wanted = (weight[1] or 0) * group if node.op_type == "Conv" else weight[0]
        if found[1] != wanted:
            yield f"{where} gets {found[1]} channels, but its weight {list(weight)} is for {wanted}; {damaged}"
        yielded = (weight[1] or 0) * group if node.op_type == "ConvTranspose" else weight[0]
        for value in node.inputs[2:]:
            shape = dims(value)
            if value is not None and shape is not None and shape != (yielded,):
                yield f"{where} has {yielded} channels, but '{value.name}' is {list(shape)}; {damaged}"


def sizes(model: ir.Model, graph: ir.Model) -> Iterator[str]:
    """The first value of `graph`, the normalised `model`, that is empty or that no memory holds: a few bytes of file can ask for
    terabytes. Counted for one sample, or for the batch that the file fixes."""
    fixed = dims(model.graph.inputs[0])
    batch = fixed[0] if fixed and fixed[0] is not None else 1
    for value in (*graph.graph.inputs, *(v for node in graph.graph for v in node.outputs)):
        known = [d for d in dims(value) or () if d is not None]
        elements = batch * math.prod(known)
        node = value.producer()
        if len(value.shape or ()) > _MAX_RANK:
            yield f"'{value.name}' has {len(value.shape or ())} dimensions; up to {_MAX_RANK} are supported."
            return
        if not known or (0 < elements <= _MAX_ELEMENTS and min(known) > 0):
            continue
        if elements == 0 and node is not None and (len(known) < 2 or value.dtype not in _FLOATS):
            continue  # a list of axes or sizes may well be empty
        found = "input" if node is None else f"{node.op_type} '{node_name(node)}': its result"
        shape = ", ".join(str(d) for d in value.shape or ())
        what = "it is empty" if elements == 0 else f"{elements:.3g} numbers; up to {_MAX_ELEMENTS:.3g} are supported"
        yield f"{found} '{value.name}' has the shape [{shape}], {what}. Export the model again, for a smaller input if need be."
        return


def contradictions(model: ir.Model, graph: ir.Model) -> Iterator[str]:
    """What onnx's strict shape inference says of `graph`, the normalised `model`, with inputs and outputs as `model` claims them.

    Large weights become inputs: only their shapes matter.
    """
    graph = graph.clone()
    for node in graph.graph:
        for value in node.outputs:
            value.shape = None
    for value, claimed in zip(
        (*graph.graph.inputs, *graph.graph.outputs), (*model.graph.inputs, *model.graph.outputs), strict=True
    ):
        value.shape = claimed.shape.copy() if claimed.shape is not None else None
    for value in list(graph.graph.initializers.values()):
        if value.const_value is not None and value.const_value.nbytes > _SMALL:
            del graph.graph.initializers[str(value.name)]
            graph.graph.inputs.append(value)
    try:
        onnx.shape_inference.infer_shapes(ir.to_proto(graph), check_type=True, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError as error:
        yield f"the model contradicts itself, says onnx's shape inference: {' '.join(str(error).split())}"
