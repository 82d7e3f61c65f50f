"""A block as one function: inputs, weights, biases, step sizes -> outputs.

    float block  y = f(x)       quantised block  y = f_q(x, w_q, b, s),  fake quantization after every rounded value

The fake quantizers are put into a copy of the block's torch.fx graph, and whatever reconstruction learns or rounds is an
argument: no module is changed, no hook is set, and the same function serves training (with QDrop) and the final codes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from genie_onnx.blocks import Block
from genie_onnx.importer import Network
from genie_onnx.placement import Placement
from genie_onnx.quant import MaskSource, fake_quantize


@dataclass(frozen=True)
class BiasArgument:
    """The bias of a quantised layer: its initializer, the weight beside it and, where the file stores it in INT32, the grid of
    the layer's input."""

    bias: str
    weight: str
    activation: str | None


@dataclass(frozen=True)
class Student:
    """`module(*inputs, *weights, *biases, *scales) -> outputs`, each group in the order of the names here."""

    module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    weights: tuple[str, ...]  # initializer names
    biases: tuple[BiasArgument, ...]
    scales: tuple[str, ...]  # names of ActivationSpecs

    def __call__(
        self, inputs: Sequence[Tensor], weights: Mapping[str, Tensor], biases: Sequence[Tensor], scales: Mapping[str, Tensor]
    ) -> tuple[Tensor, ...]:
        """Return the block's outputs, which are not themselves rounded: their readers do that."""
        arguments = [*inputs, *(weights[w] for w in self.weights), *biases, *(scales[s] for s in self.scales)]
        return tuple(self.module(*arguments))


class _FakeQuantizer(nn.Module):
    """fake_quantize with its constants: (x, scale) -> x_q."""

    def __init__(self, zero_point: int, qmax: int, masks: MaskSource | None) -> None:
        super().__init__()
        self.zero_point, self.qmax, self.masks = zero_point, qmax, masks

    def forward(self, x: Tensor, scale: Tensor) -> Tensor:
        bits = None if self.masks is None else self.masks.draw(x.numel())
        return fake_quantize(x, scale, self.zero_point, self.qmax, bits)


def build(
    network: Network, block: Block, placement: Placement, zero_points: Mapping[str, int], masks: MaskSource | None
) -> Student:
    """Cut `block` out of the float `network` and put the fake quantizers of `placement` into it.

    `zero_points` has the zero point of every ActivationSpec by name; `masks` drops quantisation at random (QDrop), None
    never. Weights that `placement` leaves float stay inside the module.
    """
    part = network.extract(block.inputs, block.outputs)
    graph = part.module.graph
    initializers = [w for w in dict.fromkeys(block.weights) if placement.weight_of(w) is not None and w in part.nodes]
    weights = {part.nodes[w]: w for w in initializers}
    value_of = {node: value for value, node in part.nodes.items()}
    biases = _bias_arguments(graph, weights, value_of, placement)

    arguments = _Arguments(graph)
    for node, name in weights.items():
        node.replace_all_uses_with(arguments.add(f"weight_{len(arguments)}", name))
    for consumer, place, _ in biases:
        consumer.update_arg(place, arguments.add(f"bias_{len(arguments)}"))
    scales: dict[str, fx.Node] = {}
    for value, node in list(part.nodes.items()):
        spec = placement.activation_of(value)
        readers = [user for user in node.users if user.op != "output" and not _reads_floats(user, value_of, placement)]
        if spec is None or value not in spec.roots or node in weights or not readers:  # readers round a block's output
            continue
        if spec.name not in scales:
            scales[spec.name] = arguments.add(f"scale_{len(arguments)}")
        target = f"quantize_{len(arguments)}_{node.name}"
        part.module.add_submodule(target, _FakeQuantizer(zero_points[spec.name], 2**spec.bits - 1, masks))
        with graph.inserting_after(scales[spec.name] if node.op == "placeholder" else node):
            quantizer = graph.call_module(target, (node, scales[spec.name]))
        for reader in readers:
            reader.replace_input_with(node, quantizer)
    graph.eliminate_dead_code()
    graph.lint()
    part.module.recompile()
    return Student(
        module=part.module,
        inputs=tuple(block.inputs),
        outputs=tuple(block.outputs),
        weights=tuple(weights.values()),
        biases=tuple(argument for *_, argument in biases),
        scales=tuple(scales),
    )


class _Arguments:
    """Appends placeholders behind the existing ones, in the order in which they are asked for."""

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        self._last = next((node for node in reversed(graph.nodes) if node.op == "placeholder"), None)
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, name: str, value: str | None = None) -> fx.Node:
        first = next(iter(self._graph.nodes))
        with self._graph.inserting_before(first) if self._last is None else self._graph.inserting_after(self._last):
            self._last = self._graph.placeholder(name)
        self._count += 1
        return self._last


def _reads_floats(node: fx.Node, value_of: Mapping[fx.Node, str], placement: Placement) -> bool:
    """Whether `node` makes values out of floats. One with several outputs is no value itself, what picks them is."""
    made = [node] if node in value_of else list(node.users)
    return any(value_of.get(part) in placement.from_floats for part in made)


def _bias_arguments(
    graph: fx.Graph, weights: Mapping[fx.Node, str], value_of: Mapping[fx.Node, str], placement: Placement
) -> list[tuple[fx.Node, int, BiasArgument]]:
    """Return the calls that add the bias of a layer of quantised `weights`, and which argument it is.

    A MatMul has none; what an Add behind it adds stays float in the file (exporter.matmul_bias).
    """
    found = []
    for node in graph.nodes:
        if node.op != "call_module" or len(node.args) < 2 or node.args[1] not in weights:
            continue
        weight = weights[node.args[1]]
        if len(node.args) > 2 and node.args[2] is not None:
            bias, spec = value_of.get(node.args[2]), placement.activation_of(value_of.get(node.args[0], ""))
            if bias is not None and node.args[2].op == "get_attr":
                found.append((node, 2, BiasArgument(bias, weight, None if spec is None else spec.name)))
            continue
        for reader in list(node.users) if len(node.users) == 1 and len(node.args) == 2 else []:
            place = next((k for k, arg in enumerate(reader.args) if _constant_beside(arg, node)), None)
            if place is not None and len(reader.args) == 2 and reader.args[place] in value_of:
                found.append((reader, place, BiasArgument(value_of[reader.args[place]], weight, None)))
    return found


def _constant_beside(argument: object, node: fx.Node) -> bool:
    return isinstance(argument, fx.Node) and argument is not node and argument.op == "get_attr"


def initializer(network: Network, name: str) -> Tensor:
    """Return the tensor of the initializer `name`."""
    node = network.nodes[name]
    tensor = network.module
    for part in str(node.target).split("."):
        tensor = getattr(tensor, part)
    assert isinstance(tensor, torch.Tensor)
    return tensor.detach()
