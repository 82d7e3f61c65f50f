"""A list that a tensor is split into, and whose entries are read one by one, is a Split.

    SplitToSequence(x, sizes) -> s;  SequenceAt(s, 0) -> a;  SequenceAt(s, 1) -> b        ->   a, b = Split(x, sizes)

torch's exporter writes x.split and x.chunk like that where it does not optimise (optimize=False). Lists that are read in any
other way stay, and `check` names them.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.query import attribute, constant, dims


def split_sequences(model: ir.Model) -> bool:
    """Rewrite in place where shapes are known; return whether any was."""
    found = False
    for node in list(model.graph):
        if node.domain != "" or node.op_type != "SplitToSequence":
            continue
        sizes, places = _sizes(node), _places(node)
        if sizes is not None and places is not None and all(-len(sizes) <= p < len(sizes) for p in places.values()):
            found |= _split(model.graph, node, sizes, {reader: p % len(sizes) for reader, p in places.items()})
    return found


def _sizes(node: ir.Node) -> list[int] | None:
    """Return how long the entries of the list are along the axis; None where that is not known."""
    shape = dims(node.inputs[0])
    given = node.inputs[1] if len(node.inputs) > 1 else None
    array = constant(given)
    if array is not None and array.ndim == 1:
        return [int(size) for size in array]
    length = None if shape is None else shape[attribute(node, "axis", 0)]
    if length is None or (given is not None and array is None) or (given is None and not attribute(node, "keepdims", 1)):
        return None  # without sizes and keepdims, entries lose the axis
    step = 1 if array is None else int(array)
    return [min(step, length - start) for start in range(0, length, step)] if step > 0 else None


def _places(node: ir.Node) -> dict[ir.Node, int] | None:
    """Return which entry each reader of the list takes; None where one does something else, or takes what is computed."""
    found: dict[ir.Node, int] = {}
    for use in node.outputs[0].uses():
        place = constant(use.node.inputs[1]) if use.node.op_type == "SequenceAt" and use.node.domain == "" else None
        if place is None:
            return None
        found[use.node] = int(place)
    return None if node.outputs[0].is_graph_output() else found


def _split(graph: ir.Graph, node: ir.Node, sizes: list[int], places: dict[ir.Node, int]) -> bool:
    """Replace `node` and its readers by a Split; return False, with all as it was, where two graph outputs are one entry."""
    outputs = [place for reader, place in places.items() if reader.outputs[0].is_graph_output()]
    if len(set(outputs)) < len(outputs):
        return False
    lengths = add_initializer(graph, f"{node.outputs[0].name}.sizes", np.array(sizes, np.int64))
    axis = ir.AttrInt64("axis", attribute(node, "axis", 0))
    split = ir.Node("", "Split", [node.inputs[0], lengths], [axis], num_outputs=len(sizes), name=node.name)
    graph.insert_before(node, split)
    for k, value in enumerate(split.outputs):
        value.name = f"{node.outputs[0].name}.{k}"
        value.type = None if node.inputs[0] is None else node.inputs[0].type
    # Of several readers of an entry the last gives it its name: an output of the graph
    for reader, place in sorted(places.items(), key=lambda found: found[0].outputs[0].is_graph_output()):
        old, new = reader.outputs[0], split.outputs[place]
        name = old.name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        graph.remove(reader, safe=True)
        new.name = name
    graph.remove(node, safe=True)
    return True
