"""Learning one block: where it starts from, what is fixed, and whether it was worth it.

nearest rounding at searched steps  --or-->  the codes, scales and biases that closed form found
learn (optimise)  ->  codes;  kept only if the block's error falls on images that nothing was learned on
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.config import ReconstructConfig
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import Placement, WeightSpec
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.quant import Grid, MaskSource, weight_grid
from genie_onnx.reconstruct.closed import Solved
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import biases_of, final_block, float32, settled
from genie_onnx.reconstruct.forward import batch_of
from genie_onnx.reconstruct.layout import from_rows, from_stored, to_rows, to_stored
from genie_onnx.reconstruct.learning_loop import BlockData, batch_share, optimise_block
from genie_onnx.reconstruct.learning_step import Fixed, Learned, Weight
from genie_onnx.reconstruct.reading import HELD
from genie_onnx.reconstruct.relief import Relief
from genie_onnx.reconstruct.store import Stored
from genie_onnx.reconstruct.student import build, initializer
from genie_onnx.seeds import stream
from genie_onnx.targets import Constraints

DOUBT = 0.3  # a weight is put so much of its way from the code that closed form chose: learning starts on its side, near to it
LEAST = 4  # images held back at least, to say whether learning was worth it


@dataclass(frozen=True)
class Outcome:
    """`codes` of a block; its `loss` before and after learning; `gained`: whether it was learned, and to its good."""

    codes: Codes
    loss: tuple[float, float]
    gained: bool


@dataclass(frozen=True)
class Learning:
    """What stays the same from block to block."""

    network: Network
    placement: Placement
    grids: Mapping[str, Grid]
    config: ReconstructConfig
    constraints: Constraints
    compute: Compute
    relief: Relief
    seed: int

    def block(
        self,
        block: Block,
        specs: Sequence[WeightSpec],
        data: BlockData,
        codes: Codes,
        first: Solved | None,
        begun: Step,
        progress: Callable[[Step | Notice], None],
    ) -> Outcome:
        """Learn the weights of `specs`, with `codes` those of earlier blocks; from nearest rounding, or from what closed form
        found `first`. `begun`: the part of the run that this is.
        """
        to_learn = [spec for spec in specs if first is None or spec.value not in first.settled]
        config = self.config if data.target and to_learn else dataclasses.replace(self.config, iterations=0)
        if first is not None and not config.iterations:
            error = _error(data, [first.student[v] for v in block.outputs], 0) if data.target else 0.0
            return Outcome(first.codes, (error, error), gained=False)
        started = codes if first is None else codes.merged(first.codes)
        fixed = codes if first is None else codes.merged(first.fixed)
        weights, tell = [], Tally(progress, dataclasses.replace(begun, stage="weights", iterations=len(to_learn)))
        for done, spec in enumerate(to_learn, start=1):
            weights.append(self._weight(spec, started))
            if first is None:  # else they were searched, and told, in closed form
                tell(done)
        count = len(data.student[0])
        held = held_back(count) if first is not None else 0
        begun = dataclasses.replace(begun, iterations=config.iterations)
        progress(begun)

        def report(iteration: int, loss: float) -> None:
            progress(dataclasses.replace(begun, iteration=iteration, loss=loss))

        learn = partial(self._optimise, block, data, count - held, weights, fixed, started, config, report)
        result = self.relief(learn)
        new = self.compute.team.once(partial(_to_codes, result, to_learn, self.grids, self.placement, self.constraints))
        if first is None:
            return Outcome(new, result.loss, gained=True)
        new = first.codes.merged(new)
        before = _error(data, [first.student[v] for v in block.outputs], count - held)
        after = self._held_error(block, data, codes.merged(new), count - held)
        if not self.compute.team.once(
            lambda: after < before
        ):  # the processes of a team may differ in last bits, and must not here
            return Outcome(first.codes, (before, before), gained=False)
        return Outcome(new, (before, after), gained=True)

    def _weight(self, spec: WeightSpec, started: Codes) -> Weight:
        """Return a weight with the grid to begin from; where it has codes, its numbers are moved until these are the nearest."""
        value = initializer(self.network, spec.value)
        found = started.weights.get(spec.value)
        rows = to_rows(value, spec.axis)
        if found is None:
            constraints = self.constraints.of_weight(spec.ungrouped)
            return Weight(spec.value, value, spec.axis, spec.bits, weight_grid(rows, spec.bits, constraints))
        grid = Grid(
            *(
                torch.from_numpy(np.broadcast_to(part, len(rows)).astype(np.float32)).to(rows.device)
                for part in (found.qparams.scale, found.qparams.zero_point)
            )
        )
        codes = to_rows(torch.from_numpy(found.centred().astype(np.float32)).to(rows.device), spec.axis)
        near = codes + DOUBT * (rows / grid.scale[:, None] - codes).clamp_(-1, 1)
        moved = from_rows(near * grid.scale[:, None], value.shape, spec.axis)
        return Weight(spec.value, moved, spec.axis, spec.bits, grid)

    def _optimise(
        self,
        block: Block,
        data: BlockData,
        samples: int,
        weights: Sequence[Weight],
        known: Codes,
        started: Codes,
        config: ReconstructConfig,
        report: Callable[[int, float], None],
    ) -> Learned:
        """`known` are final; `started` has what is learned as well, as it begins."""
        device, learned = self.compute.device, {w.name for w in weights}
        generator = stream(self.seed, f"reconstruct/{block.name}", device)
        masks = MaskSource(1 - config.drop_probability, generator, batch_share(data, config, self.compute, samples))
        zero_points = {name: int(grid.zero_point) for name, grid in self.grids.items()}
        student = build(self.network, block, self.placement, zero_points, masks)
        final = {name: known.activations[name].scale for name in student.scales if name in known.activations}
        fixed = {name: torch.tensor(scale, device=device) for name, scale in final.items()}
        free = {
            name: torch.tensor(started.activations[name].scale, device=device)
            if name in started.activations
            else self.grids[name].scale
            for name in student.scales
            if name not in known.activations
        }
        if self.constraints.scales == "power-of-two":
            fixed, free = {**fixed, **free}, {}
        if self.constraints.scales == "power-of-two" or self.constraints.weight_scale != "channel":
            config = dataclasses.replace(config, learn_weight_scale=False)
        codes = {w: started.weights[w] for w in student.weights if w not in learned}
        return optimise_block(
            student,
            data,
            weights,
            Fixed(
                weights={w: torch.from_numpy(tensor.dequantize()).to(device) for w, tensor in codes.items()},
                biases=biases_of(self.network, student, started),
                scales=fixed,
            ),
            free,
            config,
            self.compute,
            generator,
            report,
            samples=samples,
            moving=[b.bias in started.biases and b.weight in learned for b in student.biases],
            what=f"learning block '{block.name}' ({', '.join(block.nodes)})",
        )

    def _held_error(self, block: Block, data: BlockData, codes: Codes, start: int) -> float:
        """Return the error of the block at `codes` on the samples from `start` on."""
        device = self.compute.device
        function = final_block(self.network, block, self.placement, codes, device)
        size, total = batch_of(data.student), 0.0
        for begin in range(start, len(data.student[0]), size):
            end = min(begin + size, len(data.student[0]))
            with torch.no_grad(), Compute(device).products():
                outputs = function(*(from_stored(x.slice(begin, end)) for x in data.student))
            total += sum(_squares(to_stored(y), t.slice(begin, end)) for y, t in zip(outputs, data.target, strict=True))
        return total / max(1, len(data.student[0]) - start)


def held_back(count: int) -> int:
    """Return how many of `count` images nothing is learned on, the last ones; 0 of a single one."""
    return min(max(LEAST, round(HELD * count)), count // 2)


def _error(data: BlockData, outputs: Sequence[Stored], start: int) -> float:
    """Return the squared error of stored `outputs` on the samples from `start` on: of all channels, averaged over the rest."""
    size, total = batch_of(outputs), 0.0
    for begin in range(start, len(outputs[0]), size):
        end = min(begin + size, len(outputs[0]))
        total += sum(_squares(y.slice(begin, end), t.slice(begin, end)) for y, t in zip(outputs, data.target, strict=True))
    return total / max(1, len(outputs[0]) - start)


def _squares(y: Tensor, target: Tensor) -> float:
    """Return the squared differences of stored [n, ..., C], summed over samples and channels, averaged over positions."""
    return float((y - target).square().sum(dtype=torch.float64)) / max(1, y[0].numel() // y.shape[-1])


def _to_codes(
    result: Learned, specs: Sequence[WeightSpec], grids: Mapping[str, Grid], placement: Placement, constraints: Constraints
) -> Codes:
    """Turn the learned tensors of one block into integer codes and grids."""
    codes = Codes()
    for spec in specs:
        steps = float32(result.scales[spec.value])
        zero_point = result.zero_points[spec.value].cpu().numpy().astype(np.int64)
        qparams = QParams(bits=spec.bits, scale=steps, zero_point=zero_point, axis=spec.axis)
        if constraints.of_weight(spec.ungrouped).weight_scale == "tensor":  # all channels have one grid, which nothing has moved
            qparams = QParams(bits=spec.bits, scale=steps[0, ...], zero_point=zero_point[0, ...])
        codes.weights[spec.value] = QTensor.from_centred(result.codes[spec.value].cpu().numpy(), qparams)
    for name, scale in result.activations.items():
        codes.activations[name] = settled(name, scale, grids, placement)
    codes.biases.update({name: float32(bias) for name, bias in result.biases.items()})
    return codes
