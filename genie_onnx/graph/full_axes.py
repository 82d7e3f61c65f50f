"""Pad and Resize that name their axes (opset 18 and later) are written out in full.

    Pad(x, [1, 2, 1, 2], axes = [2, 3])          ->  Pad(x, [0, 0, 1, 2, 0, 0, 1, 2])
    Resize<axes = [2, 3]>(x, scales = [2, 2])    ->  Resize(x, scales = [1, 1, 2, 2])
    Resize<axes = [2, 3]>(x, sizes = [20, 40])   ->  Resize(x, scales = [1, 1, 20 / h, 40 / w])
                                                     Resize(x, sizes = Shape(x) with [20, 40] in it), where h or w is left open

They mean the same, but onnxruntime's layout transformation, which goes through whatever stands between integer convolutions,
takes one number for each axis of the input for granted and fails on fewer (1.31.1: "indices element out of data bounds").
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from genie_onnx.errors import ModelError
from genie_onnx.graph.faults import ARITHMETIC_FAULTS, inconsistent
from genie_onnx.graph.infer_shapes import infer_shapes
from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.names import fresh_name
from genie_onnx.graph.query import attribute, constant, dims
from genie_onnx.graph.resize_scales import fitting_scale, policy_scales


def write_out_axes(model: ir.Model) -> ir.Model:
    """Rewrite in place, and return `model`; computed axes are left for `importer` to refuse.

    Raises ModelError where sizes keep the aspect ratio of an input whose size the file leaves open.
    """
    for node in list(model.graph):
        rank = dims(node.inputs[0]) if _names_axes(node) and node.inputs[0] is not None else None
        if rank is None:
            continue
        try:
            if node.op_type == "Pad":
                _pad(model.graph, node, len(rank))
            else:
                _resize(model.graph, node, rank)
        except ARITHMETIC_FAULTS as error:
            raise inconsistent(node, error) from error
    return model


def without_axes(model: ir.Model) -> ir.Model:
    """Return a loaded `model` that onnxruntime runs at its default options: itself, or a copy in which no node names axes."""
    if not any(_names_axes(node) for node in model.graph):
        return model
    model = model.clone()
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    return write_out_axes(infer_shapes(model))


def _names_axes(node: ir.Node) -> bool:
    """Whether it is a Pad or a Resize that names its axes."""
    if node.domain != "":
        return False
    if node.op_type == "Pad":
        return len(node.inputs) > 3 and node.inputs[3] is not None
    return node.op_type == "Resize" and "axes" in node.attributes


def _pad(graph: ir.Graph, node: ir.Node, rank: int) -> None:
    axes = constant(node.inputs[3])
    if axes is None:
        return
    places = np.asarray(axes, np.int64).reshape(-1) % rank
    _scatter(graph, node, 1, np.zeros(2 * rank, np.int64), np.concatenate([places, places + rank]))
    node.replace_input_with(3, None)
    node.resize_inputs(3)


def _resize(graph: ir.Graph, node: ir.Node, shape: tuple[int | None, ...]) -> None:
    rank = len(shape)
    axes = np.array(attribute(node, "axes", ()), np.int64) % rank
    if _given(node, 1):
        roi = np.repeat(np.array([0, 1], np.float32), rank)
        _scatter(graph, node, 1, roi, np.concatenate([axes, axes + rank]))
    if _given(node, 2):
        _scatter(graph, node, 2, np.ones(rank, np.float32), axes)
    elif _given(node, 3):
        _sizes(graph, node, shape, axes)
    node.attributes.pop("axes")


def _given(node: ir.Node, index: int) -> bool:
    """Whether input `index` is there and not empty, which is how older exporters left it out."""
    value = node.inputs[index] if index < len(node.inputs) else None
    return value is not None and dims(value) != (0,)


def _sizes(graph: ir.Graph, node: ir.Node, shape: tuple[int | None, ...], axes: np.ndarray) -> None:
    sizes, policy = constant(node.inputs[3]), attribute(node, "keep_aspect_ratio_policy", "stretch")
    known = [n for n in (shape[axis] for axis in axes) if n is not None]
    if sizes is not None and len(known) == len(axes):
        wanted = [int(n) for n in np.asarray(sizes).reshape(-1)]
        stretched = [fitting_scale(*pair) for pair in zip(known, wanted, strict=True)]
        factors = stretched if policy == "stretch" else policy_scales(known, wanted, policy)
        full = np.ones(len(shape), np.float32)
        if None not in factors:
            full[axes] = factors
            node.replace_input_with(3, None)
            node.replace_input_with(2, add_initializer(graph, f"{node.outputs[0].name}.scales", full))
            node.attributes.pop("keep_aspect_ratio_policy", None)
            return
    if policy != "stretch":
        raise ModelError(
            f"Resize '{node.name}': sizes on the axes {axes.tolist()} with keep_aspect_ratio_policy={policy} that no scales say; "
            "sizes that are exact, or scales, are supported. Export with a fixed input height and width, or with scales."
        )
    counted = ir.node("Shape", [node.inputs[0]])
    counted.outputs[0].name = fresh_name(graph, f"{node.outputs[0].name}.shape")
    counted.outputs[0].type, counted.outputs[0].shape = ir.TensorType(ir.DataType.INT64), ir.Shape([len(shape)])
    graph.insert_before(node, counted)
    _scatter(graph, node, 3, counted.outputs[0], axes)


def _scatter(graph: ir.Graph, node: ir.Node, index: int, full: np.ndarray | ir.Value, places: np.ndarray) -> None:
    """Let input `index` of `node` be `full` with the numbers of that input at `places`."""
    value = node.inputs[index]
    assert value is not None
    few, wish = constant(value), f"{value.name}.full"
    if few is not None and isinstance(full, np.ndarray):
        full[places] = np.asarray(few).reshape(-1)
        node.replace_input_with(index, add_initializer(graph, wish, full))
        return
    base = add_initializer(graph, f"{wish}.rest", full) if isinstance(full, np.ndarray) else full
    where = add_initializer(graph, f"{wish}.axes", places)
    scattered = ir.node("ScatterElements", [base, where, value], {"axis": 0})
    made = scattered.outputs[0]
    made.name, made.type, made.shape = fresh_name(graph, wish), base.type, base.shape
    graph.insert_before(node, scattered)
    node.replace_input_with(index, made)
