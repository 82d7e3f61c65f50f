"""Made images brought to what BatchNorm knows, layer by layer, while they go through the network.

    y  ->  a y + b        a = std_BN / std(y),   b = mean_BN - a mean(y)        for each channel of each value with statistics

Images that nobody took drift away from real ones the deeper they come: channels die, or are twice as strong. Here each layer's
pre-activations get the mean and deviation that training saw there, in the float network and in the rounded one alike, so what is
rounded is fitted at the right place. The affines are no part of any file: codes, scales and biases are solved for between them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute

STRONGEST = 10.0  # a lies within this factor of 1: a channel that is dead on the images is not blown up beyond it
FAINT = 1e-3  # of the mean deviation of a value's channels: what is below is taken for that
IMAGES, IMAGE_PIXELS = 64, 128 * 128  # go through the network at once up to this resolution; fewer above


@dataclass(frozen=True)
class Affine:
    """a and b, float32 [C] each."""

    a: Tensor
    b: Tensor

    def scaled(self, factors: Tensor) -> Affine:
        """Return the same for a value whose channels are multiplied by `factors` [C]."""
        return Affine(self.a, self.b * factors)


class Matched(nn.Module):
    """x [N, C, ...] -> a x + b."""

    def __init__(self, affine: Affine) -> None:
        super().__init__()
        self.a = nn.Buffer(affine.a.clone())
        self.b = nn.Buffer(affine.b.clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return a x + b."""
        return _along(self.a, x) * x + _along(self.b, x)


class _Matching(fx.Interpreter):
    """Runs a network node by node; what has statistics is brought to them."""

    def __init__(self, network: Network, statistics: Mapping[str, tuple[Tensor, Tensor]], tell: Callable[[int], None]) -> None:
        super().__init__(network.module)
        self._wanted = {network.nodes[value]: (value, wanted) for value, wanted in statistics.items()}
        self._tell = tell
        self.found: dict[str, Affine] = {}

    def run_node(self, n: fx.Node) -> Tensor:
        """Return what the node computes, brought to its statistics."""
        y = super().run_node(n)
        if n not in self._wanted:
            return y
        value, (mean, std) = self._wanted[n]
        affine = matching(y, mean.to(y.device), std.to(y.device))
        self.found[value] = affine
        self._tell(len(self.found))
        return Matched(affine)(y)


def matching(y: Tensor, mean: Tensor, std: Tensor) -> Affine:
    """Return the affine that gives the channels of `y` [N, C, ...] this `mean` and `std` [C], over samples and positions."""
    axes = [axis for axis in range(y.dim()) if axis != 1]
    found, center = torch.std_mean(y, axes, correction=0)
    a = (std / found.clamp_min(FAINT * float(found.mean()) + torch.finfo(y.dtype).tiny)).clamp(1 / STRONGEST, STRONGEST)
    return Affine(a, mean - a * center)


def affines(
    network: Network,
    statistics: Mapping[str, tuple[Tensor, Tensor]],
    images: Tensor,
    compute: Compute,
    tell: Callable[[int], None] = lambda done: None,
) -> dict[str, Affine]:
    """Return the affine of every value in `statistics` (mean and std, [C] each) for some of `images` [N, C, H, W].

    `tell` is told how many values are done.
    """
    network = network.to(compute.device)
    count = max(2, min(IMAGES, IMAGES * IMAGE_PIXELS // images[0, 0].numel()))
    runner = _Matching(network, {v: s for v, s in statistics.items() if v in network.nodes}, tell)
    with torch.no_grad(), Compute(compute.device).products():
        runner.run(images[:count].to(compute.device))
    return runner.found


def with_affines(network: Network, found: Mapping[str, Affine]) -> Network:
    """Return a copy of `network` in which every value of `found` is brought to its statistics by its affine."""
    if not found:
        return network
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    graph.graph_copy(network.module.graph, copies)  # returns what the output reads
    outputs = next(iter(network.module.graph.find_nodes(op="output"))).args[0]
    module = fx.GraphModule(network.module, graph)
    nodes = {value: copies[node] for value, node in network.nodes.items() if node in copies}
    for number, (value, affine) in enumerate(found.items()):
        name = f"affine_{number}"
        module.add_submodule(name, Matched(affine))
        with graph.inserting_after(nodes[value]):
            applied = graph.call_module(name, (nodes[value],))
        nodes[value].replace_all_uses_with(applied)
        applied.update_arg(0, nodes[value])
        nodes[value] = applied
    by_copy = {copies[network.nodes[value]]: node for value, node in nodes.items()}
    graph.output(tuple(by_copy.get(copies[node], copies[node]) for node in outputs))
    graph.lint()
    module.recompile()
    module.eval()
    return Network(module, network.inputs, network.outputs, nodes)


def _along(channels: Tensor, x: Tensor) -> Tensor:
    return channels.view(1, -1, *(1,) * (x.dim() - 2))
