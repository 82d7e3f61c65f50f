"""Ranks that the file leaves open, once the size of the input is known.

    Squeeze(x), x [N, C, ?, W]     at an input of 48 x 320: x [2, C, 1, 80]     ->   Squeeze(x, axes = [2])
    y of unknown rank              at an input of 48 x 320: y [2, 80, C]        ->   y [?, ?, ?]

What is open with the height and width of the input is not always open once these are chosen (--input-size). Sizes stay open, as
the model may be fed other ones; how many there are does not change with them. A Squeeze without axes takes out what has size 1,
which would be the batch where it has one sample: it gets the axes that it takes out of more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.fold_constants import fold_constants
from genie_onnx.graph.infer_shapes import infer_shapes
from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.query import dims, image_input, value_map


def name_ranks(model: ir.Model, sizes: Sequence[int]) -> list[str]:
    """Give values of a normalised `model` their rank in place, as it is for input of `sizes` [N, C, H, W], N > 1.

    Returns the names of values whose rank shape inference does not find there either.
    """
    nodes = _squeezes(model)
    if not nodes and not _unknown(model):
        return []
    for node in nodes:
        shape = dims(_sized(model, sizes).get(str(node.inputs[0].name))) if node.inputs[0] is not None else None
        if shape is not None and None not in shape:
            axes = np.array([axis for axis, size in enumerate(shape) if size == 1], np.int64)
            node.resize_inputs(2)
            node.replace_input_with(1, add_initializer(model.graph, f"{node.outputs[0].name}.axes", axes))
            infer_shapes(model)
    set_ranks(model, {name: len(value.shape) for name, value in _sized(model, sizes).items() if value.shape is not None})
    return _unknown(model)


def set_ranks(model: ir.Model, ranks: dict[str, int]) -> None:
    """Give values of unknown shape the rank that `ranks` has for their name, with all sizes open; in place."""
    for node in model.graph:
        for value in node.outputs:
            if value.shape is None and value.name in ranks:
                value.shape = ir.Shape([None] * ranks[value.name])


def _squeezes(model: ir.Model) -> list[ir.Node]:
    """Return the Squeezes that have no axes."""
    return [
        node
        for node in model.graph
        if node.domain == "" and node.op_type == "Squeeze" and (len(node.inputs) < 2 or node.inputs[1] is None)
    ]


def _unknown(model: ir.Model) -> list[str]:
    return [str(value.name) for node in model.graph for value in node.outputs if value.shape is None and value.name]


def _sized(model: ir.Model, sizes: Sequence[int]) -> dict[str, ir.Value]:
    """Return the values of `model` by name, with the shapes that they have for input of `sizes`."""
    model = model.clone()
    image_input(model).shape = ir.Shape(sizes)
    return value_map(fold_constants(model))
