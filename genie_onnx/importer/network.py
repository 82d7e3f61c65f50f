"""Network: an ONNX graph as a torch.fx.GraphModule, addressed by ONNX value names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx


@dataclass(frozen=True)
class Network:
    """An executable graph.

    module    eval mode, parameters frozen. forward(*inputs) -> tuple of outputs. One call_module node for each ONNX node, the
              submodules named `n00012_Conv` by the node's place in the imported graph; initializers are get_attr nodes passed
              as arguments.
    inputs    value names in the order of forward's arguments
    outputs   value names in the order of the returned tuple
    nodes     value name (graph inputs and the initializers in use included) -> the fx node that yields this value
    """

    module: fx.GraphModule
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: Mapping[str, fx.Node]

    def __call__(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name. `feeds` has every input by name. Raises KeyError for a missing one."""
        return dict(zip(self.outputs, self.module(*[feeds[name] for name in self.inputs]), strict=True))

    def to(self, device: torch.device | str) -> Network:
        """Moves the module in place, as torch does, and returns self. Extract after moving: buffers of extracts stay behind."""
        self.module.to(device)
        return self

    def extract(self, inputs: Sequence[str], outputs: Sequence[str]) -> Network:
        """The part of the network that computes `outputs` from `inputs`, as a network of its own.

        Both name any values, initializers included: an initializer among the inputs becomes an argument. Modules and parameters
        are shared, not copied. An input that is not needed stays an argument; whatever else is not needed is left out.
        Raises ValueError for an unknown name, and where an output depends on a graph input that is not cut off by `inputs`.
        """
        unknown = [name for name in (*inputs, *outputs) if name not in self.nodes]
        if unknown:
            raise ValueError(f"The network has no value named {', '.join(map(repr, unknown))}.")
        graph = fx.Graph()
        copies: dict[fx.Node, fx.Node] = {}
        for i, name in enumerate(inputs):
            copies[self.nodes[name]] = graph.placeholder(f"input_{i}")
        needed = _ancestors([self.nodes[name] for name in outputs], stop=copies.keys())
        for node in self.module.graph.nodes:
            if node not in needed or node in copies:
                continue
            if node.op == "placeholder":
                missing = next(name for name, its in self.nodes.items() if its is node)
                raise ValueError(f"{list(outputs)} cannot be computed from {list(inputs)} alone: {missing!r} is needed too.")
            copies[node] = graph.node_copy(node, copies.__getitem__)
        graph.output(tuple(copies[self.nodes[name]] for name in outputs))
        nodes = {name: copies[node] for name, node in self.nodes.items() if node in copies}
        return Network(freeze(fx.GraphModule(self.module, graph)), tuple(inputs), tuple(outputs), nodes)


def _ancestors(nodes: Sequence[fx.Node], stop: Mapping[fx.Node, fx.Node] | object) -> set[fx.Node]:
    """The nodes and all they are computed from, not going beyond those in `stop`."""
    found: set[fx.Node] = set()
    waiting = list(nodes)
    while waiting:
        node = waiting.pop()
        if node in found:
            continue
        found.add(node)
        if node not in stop:  # type: ignore[operator]
            waiting.extend(node.all_input_nodes)
    return found


def freeze(module: fx.GraphModule) -> fx.GraphModule:
    """Sets eval mode; parameters are made without gradient and stay so."""
    module.eval()
    return module
