"""The published reconstruction loop, transcribed plainly, as the baseline that benchmarks/speed.py measures against.

Eager PyTorch, an operator for each term of the formulas, NCHW, a float random number for each element of every mask, one
quantizer module a tensor, the rounding term summed module by module, and for every block teacher and student forwarded from
the images again: the way the authors' code runs (METHOD 2 and 3). Step sizes are given, not searched. Not used by the package.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from genie_onnx.importer import Network

GAMMA, ZETA = -0.1, 1.1
STEP = 0.1  # of all activation quantizers
FORWARD_BATCH = 64


def round_ste(x: Tensor) -> Tensor:
    return (x.round() - x).detach() + x


class PlainActivation(nn.Module):
    """LSQ with QDrop: x_q = s round(clip(x / s)); in training each element is left alone with probability 0.5."""

    def __init__(self, scale: float, bits: int) -> None:
        super().__init__()
        self.delta = nn.Parameter(torch.tensor(scale))
        self.levels = 2**bits

    def forward(self, x: Tensor) -> Tensor:
        x_int = round_ste(x / self.delta)
        x_quant = torch.clamp(x_int, 0, self.levels - 1)
        x_dequant = x_quant * self.delta
        return torch.where(torch.rand_like(x) < 0.5, x_dequant, x) if self.training else x_dequant


class PlainWeight(nn.Module):
    """w_q = s (clip(B + h(v) + z, 0, 2^b - 1) - z), s and v trained."""

    zero_point: Tensor
    base: Tensor

    def __init__(self, weight: Tensor, bits: int) -> None:
        super().__init__()
        self.levels = 2**bits
        shape = (-1, *(1,) * (weight.dim() - 1))
        low, high = weight.flatten(1).amin(1), weight.flatten(1).amax(1)
        scale = ((high - low) / (self.levels - 1)).clamp_min(1e-8).view(shape)
        self.delta = nn.Parameter(scale)
        self.register_buffer("zero_point", (-low.view(shape) / scale).round())
        self.register_buffer("base", torch.floor(weight / scale))
        rest = weight / scale - torch.floor(weight / scale)
        self.alpha = nn.Parameter(-torch.log((ZETA - GAMMA) / (rest - GAMMA) - 1))

    def soft_bits(self) -> Tensor:
        return torch.clamp(torch.sigmoid(self.alpha) * (ZETA - GAMMA) + GAMMA, 0, 1)

    def forward(self) -> Tensor:
        x_int = self.base + self.soft_bits()
        x_quant = torch.clamp(x_int + self.zero_point, 0, self.levels - 1)
        return (x_quant - self.zero_point) * self.delta


@dataclass(frozen=True)
class PlainBlock:
    """A part of the network, float and quantised; `inputs` and `outputs` are its values."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    teacher: fx.GraphModule
    student: fx.GraphModule


def plain_block(
    network: Network, inputs: Sequence[str], outputs: Sequence[str], weights: Collection[str], bits: int = 4
) -> PlainBlock:
    """Cut a block out of `network`; of its student, `weights` and what multiplies with them go through quantizers."""
    part = network.extract(inputs, outputs)
    graph, student = part.module.graph, part.module
    quantised: dict[fx.Node, fx.Node] = {}
    for name, node in part.nodes.items():
        if name not in weights:
            continue
        weight = student.get_parameter(str(node.target)).detach()
        student.add_submodule(f"plain_{node.name}", PlainWeight(weight, bits))
        for layer in [user for user in node.users if user.args[1] is node]:
            x = layer.args[0]
            assert isinstance(x, fx.Node)
            if x not in quantised:
                student.add_submodule(f"plain_{x.name}", PlainActivation(STEP, bits))
                with graph.inserting_after(x):
                    quantised[x] = graph.call_module(f"plain_{x.name}", (x,))
                for user in list(x.users):
                    if user is not quantised[x] and user.op != "output":
                        user.replace_input_with(x, quantised[x])
            with graph.inserting_before(layer):
                layer.update_arg(1, graph.call_module(f"plain_{node.name}"))
    graph.eliminate_dead_code()
    student.recompile()
    teacher = network.extract(inputs, outputs).module
    return PlainBlock(tuple(inputs), tuple(outputs), teacher, student)


class PlainLoop:
    """The state of the loop; `step()` is one iteration."""

    def __init__(
        self,
        student: nn.Module,
        x: Sequence[Tensor],
        x_q: Sequence[Tensor],
        y: Sequence[Tensor],
        iterations: int,
        batch_size: int = 32,
    ) -> None:
        self.student, self.x, self.x_q, self.y = student.train(), x, x_q, y
        self.weights = [module for module in student.modules() if isinstance(module, PlainWeight)]
        activations = [module for module in student.modules() if isinstance(module, PlainActivation)]
        self.iterations, self.batch_size, self.iteration = iterations, batch_size, 0
        self.round_opt = torch.optim.Adam([w.alpha for w in self.weights], lr=1e-3)
        self.scale_opt = torch.optim.Adam([w.delta for w in self.weights], lr=1e-4)
        self.act_opt = torch.optim.Adam([a.delta for a in activations], lr=4e-5)
        self.schedules = [
            torch.optim.lr_scheduler.CosineAnnealingLR(o, T_max=iterations, eta_min=0.0) for o in (self.scale_opt, self.act_opt)
        ]

    def step(self) -> None:
        chosen = torch.randperm(len(self.x[0]), device=self.x[0].device)[: self.batch_size]
        x_mix = []
        for x, x_q in zip(self.x, self.x_q, strict=True):
            x_mix.append(torch.where(torch.rand_like(x[chosen]) < 0.5, x_q[chosen], x[chosen]))
        optimisers = (self.round_opt, self.scale_opt, self.act_opt)
        for optimiser in optimisers:
            optimiser.zero_grad()
        outputs = self.student(*x_mix)
        loss = sum(
            ((out - y[chosen]).abs().pow(2).sum(1).mean() for out, y in zip(outputs, self.y, strict=True)), torch.tensor(0.0)
        )
        warmup = 0.2 * self.iterations
        if self.iteration >= warmup:
            beta = 2 + 18 * (1 - (self.iteration - warmup) / (self.iterations - warmup))
            for weight in self.weights:
                loss = loss + (1 - ((weight.soft_bits() - 0.5).abs() * 2).pow(beta)).sum()
        loss.backward()
        for optimiser in optimisers:
            optimiser.step()
        for schedule in self.schedules:
            schedule.step()
        self.iteration += 1
        assert not math.isnan(loss.item())  # the published loop reads the loss back for its log


def plain_run(blocks: Sequence[PlainBlock], learned: Collection[int], images: Tensor, image: str, iterations: int) -> None:
    """Reconstruct the blocks with these numbers one after another; what goes in and comes out is computed from the images."""
    for number in sorted(learned):
        block = blocks[number]
        x = _values(blocks[:number], block.inputs, images, image, quantised=False)
        x_q = _values(blocks[:number], block.inputs, images, image, quantised=True)
        y = _values(blocks[: number + 1], block.outputs, images, image, quantised=False)
        loop = PlainLoop(block.student, x, x_q, y, iterations)
        for _ in range(iterations):
            loop.step()


@torch.no_grad()
def _values(blocks: Sequence[PlainBlock], wanted: Sequence[str], images: Tensor, image: str, quantised: bool) -> list[Tensor]:
    """Return the values `wanted` for all images, computed through all `blocks`."""
    batches = []
    for batch in images.split(FORWARD_BATCH):
        values = {image: batch}
        for block in blocks:
            function = block.student.eval() if quantised else block.teacher
            values.update(zip(block.outputs, function(*(values[v] for v in block.inputs)), strict=True))
        batches.append([values[v] for v in wanted])
    return [torch.cat(parts) for parts in zip(*batches, strict=True)]
