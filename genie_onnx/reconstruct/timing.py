"""What the work on each block takes on this machine: a few steps of the real loop, on a few images.

Each kind of block (same shapes, same bits) is measured once, the dearest first, until the time that this may take is spent. What
is left over is taken in proportion to the time of the float block, which is known of all.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.config import ReconstructConfig
from genie_onnx.errors import RunError
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.machine.stopwatch import Line, measured, seconds_a_step, seconds_once
from genie_onnx.placement import Placement, WeightSpec
from genie_onnx.quant import Grid, MaskSource, Penalty, SoftRounding, soft_weights
from genie_onnx.reconstruct.layout import to_rows, to_stored
from genie_onnx.reconstruct.learning_loop import BlockData, optimise_block
from genie_onnx.reconstruct.learning_step import Fixed, Weight
from genie_onnx.reconstruct.store import Stored
from genie_onnx.reconstruct.student import build, initializer
from genie_onnx.reconstruct.walk import learned_blocks

BACKWARD = 3  # times as long as forward alone, where nothing could be measured
PROBE = 2**16  # elements
WORTH = 3e-3  # seconds of the float block: as many images are measured at least


@dataclass(frozen=True)
class BlockCost:
    """Seconds that a block takes: an image through the float block; an optimiser step, None where nothing is learned."""

    name: str
    forward: float
    step: float | None
    weights: int  # elements whose step sizes are searched


def block_costs(
    network: Network,
    placement: Placement,
    blocks: Sequence[Block],
    images: Tensor,
    config: ReconstructConfig,
    compute: Compute,
    budget: float,
) -> list[BlockCost]:
    """Return what each block costs, measured within about `budget` seconds on `images` [n, C, H, W], on the device of all.

    `network` is left as it is, and so are random numbers.
    """
    learned = frozenset(learned_blocks(blocks, placement))
    values = _values(network, blocks, images)
    forward = {block.name: _forward_seconds(network, block, values) / len(images) for block in blocks}
    weights = {
        b.name: sum(initializer(network, s.value).numel() for s in _specs(b, placement)) for b in blocks if b.name in learned
    }
    rounding = _rounding_seconds(compute.device)
    kinds = {block.name: _kind(block, placement, network, values) for block in blocks if block.name in learned}
    samples = {kinds[block.name]: block for block in reversed(blocks) if block.name in learned}  # the first of each kind
    dearest = sorted(samples.items(), key=lambda found: -forward[found[1].name])
    lines: dict[object, Line] = {}

    def line(block: Block, share: float) -> Line | None:
        # At one small image a step would be all overhead, and tell nothing of what an image takes.
        least = min(config.batch_size, max(1, round(WORTH / forward[block.name])))
        fixed = rounding * weights[block.name]
        return _step_line(network, placement, block, values, config, compute, share, fixed, least)

    if budget > 0 and dearest:
        line(dearest[-1][1], 0.0)  # loads compiled kernels, which takes seconds and is no part of a step
    began = time.perf_counter()
    for number, (kind, block) in enumerate(dearest):
        left = budget - (time.perf_counter() - began)
        found = line(block, left / (len(dearest) - number)) if left > 0 else None
        lines |= {} if found is None else {kind: found}
    ratio = statistics.median([line.each / forward[samples[kind].name] for kind, line in lines.items()] or [float(BACKWARD)])
    costs = []
    for block in blocks:
        step = None
        if block.name in learned:
            guess = Line(rounding * weights[block.name], ratio * forward[block.name])
            step = lines.get(kinds[block.name], guess).at(config.batch_size)
        costs.append(BlockCost(block.name, forward[block.name], step, weights.get(block.name, 0)))
    return costs


def _specs(block: Block, placement: Placement) -> list[WeightSpec]:
    return [spec for spec in map(placement.weight_of, dict.fromkeys(block.weights)) if spec is not None]


def _values(network: Network, blocks: Sequence[Block], images: Tensor) -> dict[str, Tensor]:
    """Return what goes into and out of each block for `images`."""
    between = tuple(dict.fromkeys(v for block in blocks for v in block.outputs if v in network.nodes))
    part = network.extract(network.inputs, between)
    with torch.no_grad():
        return {network.inputs[0]: images, **part({network.inputs[0]: images})}


def _forward_seconds(network: Network, block: Block, values: dict[str, Tensor]) -> float:
    module = network.extract(block.inputs, block.outputs).module
    inputs = [values[v] for v in block.inputs]
    with torch.no_grad():
        return seconds_once(lambda: module(*inputs), next(iter(values.values())).device)


def _kind(block: Block, placement: Placement, network: Network, values: dict[str, Tensor]) -> object:
    """Return something that is equal for blocks which take equally long."""
    shapes = tuple(tuple(values[v].shape) for v in (*block.inputs, *block.outputs))
    weights = tuple((tuple(initializer(network, s.value).shape), s.bits) for s in _specs(block, placement))
    return shapes, weights, len(block.nodes)


def _rounding_seconds(device: torch.device) -> float:
    """Return the seconds that learning an element of a weight adds to a step, whatever the batch."""
    rows = torch.ones(64, PROBE // 64, device=device)
    rounding, v = SoftRounding.build([rows], [Grid(rows[:, 0], rows[:, 0])], [4])
    v.requires_grad_()
    optimiser = torch.optim.Adam([v], fused=True)
    penalty = Penalty(v.new_tensor(2.0), v.new_tensor(1.0))

    def step() -> None:
        (soft,) = soft_weights(v, rounding.initial_scale, rounding, penalty)
        soft.backward(rows)
        optimiser.step()

    step()  # kernels are made the first time
    return seconds_once(step, device) / PROBE


def _step_line(
    network: Network,
    placement: Placement,
    block: Block,
    values: dict[str, Tensor],
    config: ReconstructConfig,
    compute: Compute,
    budget: float,
    fixed: float,
    least: int,
) -> Line | None:
    """Return the seconds of an optimiser step of `least` images or more, of which about `fixed` are for the weights; None where
    noise does not allow it."""
    part = replace(block, outputs=block.targets)
    if not part.outputs:
        return None
    device = compute.device
    generator = torch.Generator(device).manual_seed(0)
    zero_points = {spec.name: 0 for spec in placement.activations}
    student = build(network, part, placement, zero_points, MaskSource(1 - config.drop_probability, generator))
    weights = [_weight(network, spec) for spec in _specs(block, placement)]
    scales = {name: torch.ones((), device=device) for name in student.scales}
    constants = Fixed(weights={}, biases=[initializer(network, b.bias) for b in student.biases], scales={})
    channels = tuple(-1 if v in block.channels_last else 1 for v in part.outputs)

    def stored(names: Sequence[str], batch: int) -> tuple[Stored, ...]:
        return tuple(Stored(to_stored(values[v][torch.arange(batch, device=device) % len(values[v])])) for v in names)

    def measure(batch: int) -> float:
        data = BlockData(stored(part.inputs, batch), stored(part.inputs, batch), stored(part.outputs, batch), channels)

        def run(iterations: int) -> float:
            """Return the seconds of all iterations but the first."""
            told: list[float] = []
            settings = replace(config, iterations=iterations, batch_size=batch, warmup=0.0)

            def report(*_: float) -> None:
                told.append(time.perf_counter())

            optimise_block(student, data, weights, constants, scales, settings, compute, generator, report)
            return told[-1] - told[0]

        return seconds_a_step(run, compute)

    try:
        return measured(measure, least, config.batch_size, budget, fixed)
    except RunError:  # not finite on noise, which says nothing about images: the block is scaled like those not measured
        return None


def _weight(network: Network, spec: WeightSpec) -> Weight:
    """Return a weight on the grid of its whole range; what grid it is takes no time."""
    value = initializer(network, spec.value)
    rows = to_rows(value, spec.axis)
    scale = (2 * rows.abs().amax(1) / (2**spec.bits - 1)).clamp_min(torch.finfo(rows.dtype).tiny * 1e6)
    return Weight(spec.value, value, spec.axis, spec.bits, Grid(scale, torch.full_like(scale, 2 ** (spec.bits - 1))))
