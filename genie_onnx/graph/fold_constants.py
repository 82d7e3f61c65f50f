"""Constants become initializers: Constant nodes, and every node all of whose inputs are known.

    Constant() -> c                                        initializer c
    Shape(x), x of static shape -> s                       initializer s  (Size likewise)
    CastLike(c, x) -> y, x of known type                   initializer y  (cast_like)
    SplitToSequence, SequenceAt of known sizes             Split  (split_sequences)
    f(c1, c2, ...) -> y, all c initializers                initializer y = f(c1, c2, ...), by onnx's reference evaluator

A value keeps its name when its producer is folded. Random operators, operators with subgraphs, graph outputs and
results of more than MAX_ELEMENTS elements (a few bytes of file can ask for terabytes) stay as nodes.
"""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir as ir
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from genie_onnx.graph.cast_like import cast_by_type
from genie_onnx.graph.faults import ARITHMETIC_FAULTS, inconsistent
from genie_onnx.graph.infer_shapes import infer_shapes
from genie_onnx.graph.initializers import make_initializer
from genie_onnx.graph.query import attribute, constant, is_constant
from genie_onnx.graph.split_sequences import split_sequences

MAX_ELEMENTS = 2**28  # 1 GiB of float32: above any CNN's weight, below what hurts a small machine

_RANDOM = frozenset({"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"})


def fold_constants(model: ir.Model) -> ir.Model:
    """Fold in place until nothing more can be, inferring shapes between rounds; return `model`.

    Raises ModelError where an operator fails on its own constants: the file is inconsistent.
    """
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    while True:
        infer_shapes(model)
        changed = [cast_by_type(model), split_sequences(model), _fold_once(model)]
        if not any(changed):
            return model


def _fold_once(model: ir.Model) -> bool:
    folded = False
    for node in list(model.graph):
        arrays = _evaluate(node, model.graph.opset_imports)
        if arrays is None:
            continue
        for value, array in zip(node.outputs, arrays, strict=True):
            if value.name and value.uses():
                initializer = make_initializer(value.name, array)
                value.replace_all_uses_with(initializer)
                model.graph.register_initializer(initializer)
        model.graph.remove(node, safe=True)
        folded = True
    return folded


def _evaluate(node: ir.Node, opsets: dict[str, int]) -> list[np.ndarray] | None:
    return None if any(v.is_graph_output() for v in node.outputs) else known_results(node, opsets)


def known_results(node: ir.Node, opsets: dict[str, int]) -> list[np.ndarray] | None:
    """Return the outputs of `node` where they are known now, else None."""
    if node.domain != "":
        return None
    if node.op_type in ("Shape", "Size"):
        return _shape_of(node)
    if node.op_type in _RANDOM or any(
        a.type in (ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS) for a in node.attributes.values()
    ):
        return None
    if (not node.inputs and node.op_type != "Constant") or not all(v is None or is_constant(v) for v in node.inputs):
        return None
    if any(
        v.shape is None or not v.shape.is_static() or math.prod(v.shape.numpy()) > MAX_ELEMENTS for v in node.outputs if v.name
    ):
        return None
    return _run(node, opsets)


def _shape_of(node: ir.Node) -> list[np.ndarray] | None:
    source = node.inputs[0]
    if source is None or source.shape is None:
        return None
    known = source.shape[attribute(node, "start", 0) : attribute(node, "end", None)] if node.op_type == "Shape" else source.shape
    sizes = [d for d in known if isinstance(d, int)]
    if len(sizes) != len(list(known)):
        return None
    return [np.array(sizes if node.op_type == "Shape" else math.prod(sizes), dtype=np.int64)]


def _run(node: ir.Node, opsets: dict[str, int]) -> list[np.ndarray]:
    feeds = {str(v.name): constant(v) for v in node.inputs if v is not None}
    function = onnx.helper.make_function(
        "genie",
        "fold",
        list(feeds),
        [v.name for v in node.outputs if v.name],
        [ir.to_proto(node)],
        [onnx.helper.make_opsetid("", opsets[""])],
    )
    try:
        results = iter(ReferenceEvaluator(function).run(None, feeds, attributes={}))
    except ARITHMETIC_FAULTS as error:
        raise inconsistent(node, error) from error
    return [np.asarray(next(results)) if v.name else np.empty(0) for v in node.outputs]
