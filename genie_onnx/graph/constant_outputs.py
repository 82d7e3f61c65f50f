"""Outputs that no image has anything to do with become an Identity of an initializer.

    priors : initializer and graph output          priors = Identity(priors.constant)
    Constant() -> priors : graph output            likewise
    f(c1, c2, ...) -> priors : graph output        likewise

Detectors hand out their anchors so. An output is then always what a node makes, and none of it has to be computed.
"""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.fold_constants import known_results
from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.names import fresh_name
from genie_onnx.graph.query import constant


def name_constant_outputs(model: ir.Model) -> ir.Model:
    """Rewrite in place, behind `fold_constants`, and return `model`. Other readers of such a value go on reading it."""
    graph = model.graph
    for index, output in enumerate(list(graph.outputs)):
        array = constant(output)
        if array is not None and output.name is not None:
            name = output.name
            graph.initializers.pop(name)
            output.name = fresh_name(graph, f"{name}.constant")
            if list(output.uses()):
                graph.register_initializer(output)
            _hand_out(graph, index, name, array)
        elif (node := output.producer()) is not None and node.op_type != "Identity" and len(node.outputs) == 1:
            found = known_results(node, model.graph.opset_imports)
            if found is not None:
                name, readers = str(output.name), list(output.uses())
                output.name = fresh_name(graph, f"{name}.computed")
                made = _hand_out(graph, index, name, found[0])
                for reader, place in readers:
                    reader.replace_input_with(place, made)
                graph.remove(node, safe=True)
    return model


def _hand_out(graph: ir.Graph, index: int, name: str, array: np.ndarray) -> ir.Value:
    """Make Identity(`array`) output `index` of `graph` under `name`; return the initializer."""
    value = add_initializer(graph, f"{name}.constant", array)
    node = ir.node("Identity", [value], name=f"{name}_Identity")
    made = node.outputs[0]
    made.name, made.type, made.shape = name, value.type, value.shape
    graph.append(node)
    graph.outputs[index] = made
    return value
