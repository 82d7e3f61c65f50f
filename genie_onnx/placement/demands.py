"""Who asks for which value to be rounded, to how many bits, and why.

Two kinds of demand. A quantised layer asks for its input, at `abits` (first, second and last
layers: see below). With points="full" an integer runtime asks for what its kernels read and write besides, at
`other_bits`. Where both ask for one value, the layer's bits hold: a residual that also feeds a convolution has `abits`.

A node that is kept float asks for nothing, and nor do weightless operators beside it, which have floats on one side then. A
kept Concat, Reshape or MaxPool makes nobody share a grid. What a kept *layer* reads and writes is not rounded for the kernel of
another layer either: only where a quantised layer reads it, or a value that shares its grid. The price is the integer kernel
of the layer before it, whose result has no codes. For a kept Sigmoid it would be that of every layer, so there it is not paid.
"""

from __future__ import annotations

from typing import NamedTuple

import onnx_ir as ir

from genie_onnx.config import PlacementConfig
from genie_onnx.placement.islands import on_islands
from genie_onnx.placement.layers import Layers
from genie_onnx.placement.operators import activations, computes_in_integers, is_activation, written_value
from genie_onnx.placement.target_rules import fused_into_sums, gates
from genie_onnx.targets import Constraints

REDUCED = 7  # bits of a weight with --reduce-range: two products of 8 and 7 bits fit into 16 (pmaddubsw of CPUs without VNNI)


class Demand(NamedTuple):
    """One node's wish for one value."""

    value: ir.Value
    bits: int
    by_layer: bool  # asked for by a quantised layer as its input; such demands outrank the others
    why: str


def demands(graph: ir.Model, layers: Layers, config: PlacementConfig, constraints: Constraints) -> list[Demand]:
    """Return every demand, in topological order of the nodes that ask."""
    quantised = set(layers.quantised)
    fused = fused_into_sums(graph, layers) if constraints.sums == "fused" else frozenset()
    fused |= gates(graph) if constraints.gates == "float" else frozenset()
    islands = on_islands(graph, layers)
    found: list[Demand] = []
    for node in graph.graph:
        if node in quantised:
            found += _of_layer(node, layers, config)
        if config.points == "full" and (node in quantised or (node not in islands and _in_integers(node, layers))):
            found += [d for d in _of_kernel(node, node in quantised, layers, config.other_bits) if d.value not in fused]
        if constraints.outputs == "rounded" and node in quantised and str(node.name) in layers.last:
            found.append(Demand(node.outputs[0], config.other_bits, False, f"written by last layer '{node.name}'"))
    return found


def _in_integers(node: ir.Node, layers: Layers) -> bool:
    return computes_in_integers(node) and not beside_kept(node, layers) and not reads_probabilities(node, layers)


def beside_kept(node: ir.Node, layers: Layers) -> bool:
    """Whether `node` reads or writes what a node that is kept float writes or reads."""
    return not layers.beside_kept.isdisjoint(activations((*node.inputs, written_value(node))))


def reads_probabilities(node: ir.Node, layers: Layers) -> bool:
    """Whether `node` reads what a Softmax computes."""
    return not layers.probabilities.isdisjoint(activations(node.inputs))


def activation_bits(node: ir.Node, layers: Layers, config: PlacementConfig) -> tuple[int, str] | None:
    """Return (bits, why) of a quantised layer's input, None where the input stays float (the image, in the paper's points)."""
    name = str(node.name)
    if (own := layers.bits.get(name)) is not None:
        return own.abits, f"input of layer '{name}' (--bits {own.pattern})"
    if name in layers.first:
        # onnxruntime makes MatMulNBits of a MatMul or Gemm whose weight alone has codes, and rounds the input there by itself
        if config.points == "layer-inputs" and node.op_type not in ("Gemm", "MatMul"):
            return None
        bits = max(config.other_bits, config.first_last_bits) if name in layers.last else config.other_bits
        return bits, f"input of first layer '{name}'"
    if name in layers.last:
        return config.first_last_bits, f"input of last layer '{name}'"
    if name in layers.second and config.setting == "brecq":
        return config.first_last_bits, f"input of second layer '{name}'"
    return config.abits, f"input of layer '{name}'"


def weight_bits(node: ir.Node, layers: Layers, config: PlacementConfig) -> tuple[int, str]:
    """Return (bits, why) of a quantised layer's weight."""
    bits, why = _weight_bits(node, layers, config)
    if config.reduce_range and bits > REDUCED:
        return REDUCED, f"{why} (--reduce-range)"
    return bits, why


def _weight_bits(node: ir.Node, layers: Layers, config: PlacementConfig) -> tuple[int, str]:
    if (own := layers.bits.get(str(node.name))) is not None:
        return own.wbits, f"weight of layer '{node.name}' (--bits {own.pattern})"
    for role, names in (("first", layers.first), ("last", layers.last)):
        if str(node.name) in names:
            return config.first_last_bits, f"weight of {role} layer '{node.name}'"
    return config.wbits, f"weight of layer '{node.name}'"


def _of_layer(node: ir.Node, layers: Layers, config: PlacementConfig) -> list[Demand]:
    asked = activation_bits(node, layers, config)
    data = node.inputs[0]
    assert data is not None  # a quantised layer has a float32 input (layers.find_layers)
    return [] if asked is None else [Demand(data, asked[0], True, asked[1])]


def _of_kernel(node: ir.Node, weighted: bool, layers: Layers, bits: int) -> list[Demand]:
    """What an integer kernel reads and writes. Nothing behind the last layers: decoding, Softmax and outputs stay float.

    Nor what a MatMul writes: with floats on that side onnxruntime has an integer kernel too (MatMulIntegerToFloat), and mostly
    what follows is float anyway: the Add of a bias, Gelu, attention.
    """
    written = written_value(node)
    if node.op_type == "MatMul" or written not in layers.feeding or not is_activation(written):
        return []
    asked = (
        [] if weighted else [Demand(v, bits, False, f"read by {node.op_type} '{node.name}'") for v in activations(node.inputs)]
    )
    if not written.is_graph_output():  # a kernel that has to hand out floats writes no codes
        asked.append(Demand(written, bits, False, f"written by {node.op_type} '{node.name}'"))
    return asked
