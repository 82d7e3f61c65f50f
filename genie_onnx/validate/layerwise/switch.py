"""The float network with a switch a block: what of it computes as the quantised file does is chosen while it runs.

    w -> node of block b     becomes    Where(block b, numbers of the file, w) -> node
    v -> node of block b     becomes    Where(block b, round(v), v) -> node          round: on the grid that the file has for v

    round(v) = scale * clip(rint(v / scale), low - zero_point, high - zero_point)

in floats, operator by operator what QuantizeLinear, Clip and DequantizeLinear do. All switches on, this is the file; all off, the
float network; one session serves for everything between. The price: weights are inputs of their operators rather than constants,
which onnxruntime cannot pack in advance.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir

from genie_onnx.graph.initializers import add_initializer
from genie_onnx.graph.names import fresh_name
from genie_onnx.qparams import FloatArray
from genie_onnx.validate.layerwise.pairing import Pairing
from genie_onnx.validate.layerwise.qdq_graph import Grid


def add_switches(reference: ir.Model, pairing: Pairing, blocks: Mapping[str, str]) -> tuple[ir.Model, dict[str, str]]:
    """Return a copy of the float graph with switches, and by block the name of the input (BOOL, scalar) that is its switch.

    `blocks`: the block of each node, by names; one that has nothing quantised gets no switch. A value that
    leaves the graph is switched with the block that makes it.
    """
    model = reference.clone()
    switches: dict[str, ir.Value] = {}
    for block in dict.fromkeys(blocks.values()):
        switch = ir.Value(
            name=fresh_name(model.graph, f"quantized_{block}"), shape=ir.Shape([]), type=ir.TensorType(ir.DataType.BOOL)
        )
        model.graph.inputs.append(switch)
        switches[block] = switch
    nodes = {str(node.name): node for node in model.graph}
    _switch_constants(model.graph, pairing, nodes, blocks, switches)
    values = {str(v.name): v for v in (*model.graph.inputs, *(v for node in model.graph for v in node.outputs))}
    for name, rounded in pairing.values.items():
        _switch_value(model.graph, values[name], rounded.grid, pairing, blocks, switches)
    unused = [switch for switch in switches.values() if not switch.uses()]
    model.graph.inputs[:] = [value for value in model.graph.inputs if value not in unused]
    return model, {block: str(switch.name) for block, switch in switches.items() if switch not in unused}


def _switch_constants(
    graph: ir.Graph, pairing: Pairing, nodes: Mapping[str, ir.Node], blocks: Mapping[str, str], switches: Mapping[str, ir.Value]
) -> None:
    made: dict[tuple[str, str], tuple[ir.Value, FloatArray]] = {}
    for constant in pairing.constants:
        node, block = nodes[constant.node], blocks[constant.node]
        found = made.get((constant.constant, block))
        if found is None or not np.array_equal(found[1], constant.numbers):
            rounded = add_initializer(graph, f"{constant.constant}_of_file", constant.numbers)
            choice = ir.node("Where", [switches[block], rounded, node.inputs[constant.index]])
            graph.insert_before(graph[0], choice)
            found = made[constant.constant, block] = choice.outputs[0], constant.numbers
        node.replace_input_with(constant.index, found[0])


def _switch_value(
    graph: ir.Graph,
    value: ir.Value,
    grid: Grid,
    pairing: Pairing,
    blocks: Mapping[str, str],
    switches: Mapping[str, ir.Value],
) -> None:
    producer, added = value.producer(), list[ir.Node]()

    def append(operator: str, *inputs: ir.Value) -> ir.Value:
        added.append(ir.node(operator, inputs))
        return added[-1].outputs[0]

    def number(of: str, amount: float | np.float32) -> ir.Value:
        return add_initializer(graph, f"{value.name}_{of}", np.asarray(amount, np.float32))

    readers: dict[str, list[tuple[ir.Node, int]]] = {}
    for node, index in value.uses():
        if (str(node.name), index) not in pairing.float_reads:
            readers.setdefault(blocks[str(node.name)], []).append((node, index))
    scale = number("scale", grid.scale)
    steps = append("Round", append("Div", value, scale))
    ends = (number(end, code - grid.zero_point) for end, code in (("low", grid.low), ("high", grid.high)))
    rounded = append("Mul", append("Clip", steps, *ends), scale)
    for block, uses in readers.items():
        chosen = append("Where", switches[block], rounded, value)
        for node, index in uses:
            node.replace_input_with(index, chosen)
    if producer is None:
        graph.insert_before(graph[0], added)
        return
    leaving = value.is_graph_output() and value.name not in pairing.float_outputs
    output = append("Where", switches[blocks[str(producer.name)]], rounded, value) if leaving else None
    graph.insert_after(producer, added)
    if output is not None:
        graph.outputs[:] = [output if v is value else v for v in graph.outputs]
        value.name, output.name = output.name, value.name
