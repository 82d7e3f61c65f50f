"""Values become codes and come back: QuantizeLinear, an integer Clip below 8 bits, DequantizeLinear.

    v -> readers        v -> QuantizeLinear -> Clip(0, qmax) on UINT8 -> DequantizeLinear -> readers          clip: codes
                        v -> Clip(s (0 - z), s (qmax - z)) -> QuantizeLinear -> DequantizeLinear -> readers   clip: floats

The codes in the file are those of the grid (0 .. 2^bits - 1, its own zero point), or less that (containers). A Clip on the codes,
unlike one on the floats, leaves the layers before and after it in integer kernels (onnxruntime, OpenVINO); some
compilers have no such Clip. Both give the same codes. A graph output that is quantised on its way to other nodes stays float
itself, unless outputs are rounded: then DequantizeLinear yields it.

A float Relu or Clip between a layer and QuantizeLinear also keeps the layer out of integer kernels, unless
QuantizeLinear saturates where it does. Where it does not, the bounds move to the integer Clip:

    Relu:        max(x, 0)       -> QuantizeLinear  ==  QuantizeLinear -> Clip(zero_point, ..)
    Clip (ReLU6) min(max(x, l), h) -> QuantizeLinear  ==  QuantizeLinear -> Clip(q(l), q(h))

exactly, because rounding to a grid is monotone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
import onnx_ir as ir

from genie_onnx.exporter.builder import Builder
from genie_onnx.exporter.containers import StoredGrid, store_grid
from genie_onnx.graph import query
from genie_onnx.placement import ActivationSpec
from genie_onnx.qparams import QParams
from genie_onnx.targets import Target

Use: TypeAlias = tuple[ir.Node, int]  # a node, and which of its inputs it is


def quantize_activations(
    builder: Builder,
    values: Mapping[str, ir.Value],
    specs: tuple[ActivationSpec, ...],
    grids: Mapping[str, QParams],
    target: Target,
    from_floats: frozenset[str] = frozenset(),
) -> dict[str, str]:
    """Put Q/DQ on every value of `specs` in place. Return the name of the tensor of codes by value name.

    `values` has the graph's values by name, `grids` the per-tensor grid of each spec by its name. Nodes that make one of the
    values `from_floats` go on reading floats.
    """
    codes = {}
    for spec in specs:
        grid = grids[spec.name]
        if grid.axis is not None:
            raise ValueError(f"the grid of value '{spec.name}' is per channel; values are quantised per tensor")
        stored = store_grid(spec.name, grid, target.form)
        scale = builder.initializer(f"{spec.name}_scale", grid.scale)
        zero_point = builder.initializer(f"{spec.name}_zero_point", stored.zero_point)
        for name in spec.values:
            round_off = _clipped_floats if target.form.clip == "floats" else _clipped_codes
            readers = [(n, i) for n, i in values[name].uses() if from_floats.isdisjoint(str(v.name) for v in n.outputs)]
            rounded, dequantized = round_off(builder, values[name], readers, grid, stored, [scale, zero_point])
            if target.constraints.outputs == "rounded" and values[name].is_graph_output():
                hand_out(builder.graph, values[name], dequantized)
            codes[name] = str(rounded.name)
    return codes


def hand_out(graph: ir.Graph, value: ir.Value, dequantized: ir.Value) -> None:
    """Make `dequantized` the graph output that `value` was, under its name."""
    outputs = graph.outputs
    for index, output in enumerate(outputs):
        if output is value:
            outputs[index] = dequantized
    value.name, dequantized.name = dequantized.name, value.name


def _clipped_codes(
    builder: Builder, value: ir.Value, readers: list[Use], grid: QParams, stored: StoredGrid, parameters: list[ir.Value]
) -> tuple[ir.Value, ir.Value]:
    """Insert Q, Clip, DQ between `value` and its `readers`; return the codes and the floats they stand for."""
    name, sole = str(value.name), len(readers) == len(value.uses())
    source, low, high = _without_float_clip(value, grid) if sole else (value, 0, grid.qmax)
    low, high = low - stored.offset, high - stored.offset
    clip = (low, high) != stored.limits
    nodes = [builder.node("QuantizeLinear", [source, *parameters], name, f"{name}_rounded" if clip else f"{name}_quantized")]
    if clip:
        kind = stored.zero_point.dtype
        bounds = [
            builder.initializer(f"{name}_min", np.asarray(low, dtype=kind)),
            builder.initializer(f"{name}_max", np.asarray(high, dtype=kind)),
        ]
        nodes.append(builder.node("Clip", [nodes[0].outputs[0], *bounds], name, f"{name}_quantized"))
    codes = nodes[-1].outputs[0]
    nodes.append(builder.node("DequantizeLinear", [codes, *parameters], name, f"{name}_dequantized"))
    insert_behind(builder.graph, source, nodes)
    read_instead(readers, nodes[-1].outputs[0])
    if source is not value:
        producer = value.producer()
        assert producer is not None
        builder.graph.remove(producer, safe=True)
    return codes, nodes[-1].outputs[0]


def _clipped_floats(
    builder: Builder, value: ir.Value, readers: list[Use], grid: QParams, stored: StoredGrid, parameters: list[ir.Value]
) -> tuple[ir.Value, ir.Value]:
    """Insert Clip, Q, DQ between `value` and its `readers`; return the codes and the floats they stand for."""
    name, nodes, source = str(value.name), list[ir.Node](), value
    low, high = -int(grid.zero_point), grid.qmax - int(grid.zero_point)
    if (-stored.offset, grid.qmax - stored.offset) != stored.limits:
        bounds = [
            builder.initializer(f"{name}_min", np.asarray(low * grid.scale, np.float32)),
            builder.initializer(f"{name}_max", np.asarray(high * grid.scale, np.float32)),
        ]
        nodes.append(builder.node("Clip", [value, *bounds], name, f"{name}_clipped"))
        source = nodes[-1].outputs[0]
    nodes.append(builder.node("QuantizeLinear", [source, *parameters], name, f"{name}_quantized"))
    codes = nodes[-1].outputs[0]
    nodes.append(builder.node("DequantizeLinear", [codes, *parameters], name, f"{name}_dequantized"))
    insert_behind(builder.graph, value, nodes)
    read_instead(readers, nodes[-1].outputs[0])
    return codes, nodes[-1].outputs[0]


def read_instead(readers: list[Use], value: ir.Value) -> None:
    """Let `readers` read `value`."""
    for node, index in readers:
        node.replace_input_with(index, value)


def insert_behind(graph: ir.Graph, source: ir.Value, nodes: list[ir.Node]) -> None:
    """Put `nodes` behind the node that makes `source`, or before all others where it is an input."""
    producer = source.producer()
    if producer is not None:
        graph.insert_after(producer, nodes)
    elif len(graph):
        graph.insert_before(graph[0], nodes)
    else:
        graph.extend(nodes)


def _without_float_clip(value: ir.Value, grid: QParams) -> tuple[ir.Value, int, int]:
    """Return what QuantizeLinear is to read for `value`, and the bounds of its codes.

    That is the input of the Relu or Clip that makes `value`, where that node is better done on the codes, else `value`.
    """
    producer = value.producer()
    bounds = None if producer is None or value.is_graph_output() else _float_bounds(producer)
    if producer is None or bounds is None:
        return value, 0, grid.qmax
    low, high = (_code(bound, grid) for bound in bounds)
    if producer.op_type == "Relu" and low <= 0:
        return value, 0, grid.qmax  # QuantizeLinear saturates there anyway, onnxruntime sees that, and the node stays
    source = producer.inputs[0]
    assert source is not None
    return source, min(max(low, 0), grid.qmax), max(min(high, grid.qmax), 0)


def _float_bounds(node: ir.Node) -> tuple[np.float32, np.float32] | None:
    """Return the constant bounds of a Relu or Clip, None for any other node."""
    low, high = np.float32(-np.inf), np.float32(np.inf)
    if node.domain != "" or node.op_type not in ("Relu", "Clip"):
        return None
    if node.op_type == "Relu":
        return np.float32(0), high
    ends = [low, high]
    for index, value in enumerate(node.inputs[1:3]):
        if value is not None:
            bound = query.constant(value)
            if bound is None or bound.size != 1:
                return None
            ends[index] = np.float32(bound.item())
    return ends[0], ends[1]


def _code(bound: np.float32, grid: QParams) -> int:
    """Return the code of `bound` as QuantizeLinear rounds it in float32, saturated far outside of any container."""
    rounded = np.clip(np.rint(bound / grid.scale), -(2**24), 2**24)
    return int(rounded) + int(grid.zero_point)
