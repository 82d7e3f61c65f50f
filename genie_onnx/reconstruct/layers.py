"""The weighted layers of a network as closed-form rounding sees them: what each reads, multiplies by, and adds.

output = gain W u(input) + bias_gain bias
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import fx

from genie_onnx.closed_form import Columns, Rows, Windows
from genie_onnx.importer import Network
from genie_onnx.importer.calls import Call, Fold
from genie_onnx.importer.conv import Conv, ConvTranspose
from genie_onnx.importer.linear import Gemm, MatMul
from genie_onnx.reconstruct.renorm import Matched


@dataclass(frozen=True)
class Layer:
    """Names are those of values. `bias`: an initializer with a number for each output channel; None: there is none to move.

    `output` has the bias in it: behind a MatMul, it is what an Add makes of its product.
    """

    weight: str
    input: str
    output: str
    columns: Columns
    bias: str | None
    gain: float = 1.0
    bias_gain: float = 1.0


def layers_of(network: Network, weights: Collection[str], values: Collection[str]) -> list[Layer]:
    """Return the layers that multiply by one of `weights` and whose output is among `values`, in topological order."""
    value_of = {node: value for value, node in network.nodes.items()}
    for value, node in network.nodes.items():
        source = node.args[0] if node.args else None
        if isinstance(source, fx.Node) and node.op == "call_module" and _is_matched(network, node):
            value_of[source] = value  # the layer itself, whose result is brought to statistics
    wanted = {network.nodes[w]: w for w in weights}
    found = []
    for node in network.module.graph.nodes:
        if node.op != "call_module" or len(node.args) < 2 or node.args[1] not in wanted or value_of.get(node) not in values:
            continue
        layer = _layer(network, node, wanted[node.args[1]], value_of, values)
        if layer is not None:
            found.append(layer)
    return found


def _layer(network: Network, node: fx.Node, weight: str, value_of: dict[fx.Node, str], values: Collection[str]) -> Layer | None:
    module, operand = network.module.get_submodule(str(node.target)), node.args[0]
    if not isinstance(operand, fx.Node) or operand not in value_of:  # one on pixels [N, H, W, C] reads no value as it is stored
        return None
    source, output = value_of[operand], value_of[node]
    shape = _tensor(network, network.nodes[weight]).shape
    columns: Columns
    match module:
        case Conv():
            columns = Windows(tuple(shape[2:]), module.stride, module.dilation, module.pads, module.groups)
        case ConvTranspose():
            columns = Windows(
                tuple(shape[2:]), module.stride, module.dilation, module.pads, module.groups, True, module.output_padding
            )
        case Gemm() if not module.transpose_a and module.alpha > 0:
            bias = _own_constant(network, node.args[2] if len(node.args) > 2 else None, value_of, shape[not module.transpose_b])
            bias = bias if module.beta else None
            return Layer(weight, source, output, Rows(module.transpose_b), bias, module.alpha, module.beta)
        case MatMul() if len(shape) == 2:
            adding = next(iter(node.users), node)
            constant = _added(network, adding, node) if len(node.users) == 1 else None
            # An Add in another block is not computed with the layer: it cannot be moved with it
            there = value_of.get(adding) in values
            bias = _own_constant(network, constant, value_of, shape[1]) if there else None
            return Layer(weight, source, output if bias is None else value_of[adding], Rows(False), bias)
        case _:
            return None
    channels = shape[1] if columns.transposed else shape[0]
    bias = _own_constant(network, node.args[2] if len(node.args) > 2 else None, value_of, channels)
    return Layer(weight, source, output, columns, bias)


def _is_matched(network: Network, node: fx.Node) -> bool:
    return isinstance(network.module.get_submodule(str(node.target)), Matched)


def _added(network: Network, node: fx.Node, product: fx.Node) -> fx.Node | None:
    """Return what `node`, if it is an addition, adds to `product`."""
    if node.op != "call_module" or len(node.args) != 2:
        return None
    module = network.module.get_submodule(str(node.target))
    if not isinstance(module, Call | Fold) or module.function is not torch.add:
        return None
    return next((arg for arg in node.args if isinstance(arg, fx.Node) and arg is not product), None)


def _own_constant(network: Network, node: object, value_of: dict[fx.Node, str], channels: int) -> str | None:
    """Return the name of an initializer with one number a channel on its last axis that nobody else reads; None for others."""
    if not isinstance(node, fx.Node) or node.op != "get_attr" or len(node.users) != 1:
        return None
    tensor = _tensor(network, node)
    return value_of[node] if tensor.numel() == channels and tensor.shape[-1:] == (channels,) else None


def _tensor(network: Network, node: fx.Node) -> torch.Tensor:
    tensor = network.module
    for part in str(node.target).split("."):
        tensor = getattr(tensor, part)
    assert isinstance(tensor, torch.Tensor)
    return tensor.detach()
