"""Closed-form rounding of a block, piece by piece: moments of what each layer reads, then its codes, scales and bias.

for each layer, in topological order:
    H, G, E[x], E[x_q]    of x, what the float network feeds it, and x_q, what the layers rounded so far make of it
    w_q, s, z          <- solve(w, H, G)                       b_q = b + w E[x] - w_q E[x_q]
    x, x_q             of the next layer are what both make of theirs
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.closed_form import (
    RIDGES,
    Moments,
    Solution,
    best_ridge,
    bias_shift,
    nearest_solution,
    solve,
    stacked,
)
from genie_onnx.placement import WeightSpec
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.quant import Grid, weight_grid
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import final_block, float32, unlearned
from genie_onnx.reconstruct.forward import forward
from genie_onnx.reconstruct.layers import Layer, layers_of
from genie_onnx.reconstruct.layout import from_rows, to_rows
from genie_onnx.reconstruct.reading import Reader, Setting
from genie_onnx.reconstruct.store import Stored
from genie_onnx.reconstruct.student import initializer
from genie_onnx.targets import Constraints

Function = Callable[..., tuple[Tensor, ...]]
# Of the power of an input: with less noise in it, 8-bit weights have nothing to make good for and are rounded to the nearest. In
# YOLOX-nano, whose values have 8 bits and 15 to 30 dB, they have: its outputs have 17.5 dB in place of 14.3
QUIET = 1e-2
JUDGES = 1024  # rows, evenly spaced, by which a ridge is chosen: it is a matter of the images and not of single rows


@dataclass(frozen=True)
class Solved:
    """`codes` of a block's weights, its biases and the values that it rounds; what both networks make of it: `teacher` and
    `student` have the values that it hands on. Weights that are `settled` are not learned: they have bits enough."""

    codes: Codes
    settled: frozenset[str]
    teacher: dict[str, Stored]
    student: dict[str, Stored]

    @property
    def fixed(self) -> Codes:
        """The codes that learning leaves as they are."""
        return Codes(weights={name: weight for name, weight in self.codes.weights.items() if name in self.settled})


def solve_block(
    setting: Setting,
    block: Block,
    pieces: Sequence[Block],
    codes: Codes,
    teacher: Mapping[str, Stored],
    student: Mapping[str, Stored],
    outputs: Sequence[str],
    tell: Callable[[int], None],
) -> Solved:
    """Round the weights of `block` that are not in `codes`, and carry both networks over it, as far as `outputs` asks.

    `teacher` and `student` have what the block reads, at the scale of the network to be rounded. `tell` is told how many weights
    are done.
    """
    own = Codes()
    xs, x_qs = dict(teacher), dict(student)
    done = 0
    for place, piece in enumerate(pieces):
        later = {v for after in pieces[place + 1 :] for v in after.inputs}
        known = codes.merged(own)
        own = own.merged(unlearned(piece, setting.network, setting.placement, setting.grids, known))
        for layer, spec in _new_layers(setting, piece, codes.merged(own)):
            own = own.merged(_solve_layer(setting, piece, layer, spec, codes.merged(own), xs, x_qs))
            done += 1
            tell(done)
        for spec in _without_layer(setting, piece, codes.merged(own)):
            own = own.merged(_nearest(setting, spec))
            done += 1
            tell(done)
        wanted = tuple(v for v in piece.outputs if v in later or v in outputs)
        if not wanted:
            continue
        floats = setting.twin.function(piece.inputs, wanted)
        device = setting.compute.device
        rounded = final_block(setting.network, replace(piece, outputs=wanted), setting.placement, codes.merged(own), device)
        for values, function in ((xs, floats), (x_qs, rounded)):
            made = _carried(setting, function, [values[v] for v in piece.inputs])
            values.update(zip(wanted, made, strict=True))
        for values, given in ((xs, teacher), (x_qs, student)):
            for value in [v for v in values if v not in given and v not in later and v not in outputs]:
                values.pop(value).free()
    wide = setting.config.wide_bits
    settled = frozenset(name for name, weight in own.weights.items() if weight.qparams.bits >= wide)
    return Solved(own, settled, {v: xs[v] for v in outputs}, {v: x_qs[v] for v in outputs})


def _carried(setting: Setting, function: Function, inputs: Sequence[Stored]) -> tuple[Stored, ...]:
    return forward(function, inputs, setting.store, setting.relief, setting.compute.team, lambda done: None)


def _new_layers(setting: Setting, piece: Block, codes: Codes) -> list[tuple[Layer, WeightSpec]]:
    specs = {w: setting.placement.weight_of(w) for w in piece.weights if w not in codes.weights}
    weights = [w for w, spec in specs.items() if spec is not None]
    values = set(setting.network.extract(piece.inputs, piece.outputs).nodes)
    found: dict[str, tuple[Layer, WeightSpec]] = {}
    for layer in layers_of(setting.network, weights, values):
        spec = specs[layer.weight]
        if spec is not None:  # of a weight that several layers of the piece read, the first decides
            found.setdefault(layer.weight, (layer, spec))
    return list(found.values())


def _without_layer(setting: Setting, piece: Block, codes: Codes) -> list[WeightSpec]:
    """Return the weights of `piece` that are left: their layers compute in a way that has no moments (layers_of)."""
    specs = (setting.placement.weight_of(w) for w in piece.weights if w not in codes.weights)
    return [spec for spec in specs if spec is not None]


def _nearest(setting: Setting, spec: WeightSpec) -> Codes:
    value = initializer(setting.network, spec.value)
    rows = to_rows(value, spec.axis)
    constraints = setting.constraints.of_weight(spec.ungrouped)
    grid = weight_grid(rows, spec.bits, constraints)
    scale, zero = (part[:, None] for part in grid)
    codes = (rows / scale).round_().clamp_(-zero, 2**spec.bits - 1 - zero)
    whole = from_rows(codes.to(torch.int8), value.shape, spec.axis)
    return Codes(weights={spec.value: _on_grid(whole, grid, spec, constraints)})


def _on_grid(codes: Tensor, grid: Grid, spec: WeightSpec, constraints: Constraints) -> QTensor:
    """Return `codes` - zero point, int8 in the shape of the file, on their grid, [C] each."""
    scale, zero_point = float32(grid.scale), grid.zero_point.cpu().numpy().astype(np.int64)
    qparams = QParams(bits=spec.bits, scale=scale, zero_point=zero_point, axis=spec.axis)
    if constraints.weight_scale == "tensor":
        qparams = QParams(bits=spec.bits, scale=scale[0, ...], zero_point=zero_point[0, ...])
    return QTensor.from_centred(np.ascontiguousarray(codes.cpu().numpy()), qparams)


def _solve_layer(
    setting: Setting,
    piece: Block,
    layer: Layer,
    spec: WeightSpec,
    codes: Codes,
    teacher: Mapping[str, Stored],
    student: Mapping[str, Stored],
) -> Codes:
    network, config = setting.network, setting.config
    value = initializer(network, layer.weight)
    weight = layer.columns.rows(value).contiguous() * layer.gain
    movable = layer.bias is not None and config.biases
    reader = Reader(setting, piece, layer, codes, teacher, student)
    constraints = setting.constraints.of_weight(spec.ungrouped)
    rows = _rows_at_once(setting, constraints, weight)
    wide = reader.means() if spec.bits >= config.wide_bits and movable else None
    if wide is not None and wide[1] < QUIET:
        moments, _ = wide
        nearest = partial(nearest_solution, moments=moments, bits=spec.bits, constraints=constraints, ridge=RIDGES[0])
        solution = stacked([nearest(part) for part in weight.split(rows, 1)])
    else:
        found = list(reader.folds())
        for k, part in enumerate(found):  # one after the other: they are large
            part = part if movable else part.uncentred
            found[k] = part if config.mismatch else part.without_mismatch
        train, held, moments = found
        judges = weight[:, :: -(-weight.shape[1] // min(rows, JUDGES))]
        rounded = partial(_rounded, spec.bits, constraints, config.sweeps)
        ridge = config.ridge if config.ridge is not None else best_ridge(judges, train, held, partial(rounded, judges))
        del train, held, found
        solution = stacked([rounded(part, moments, ridge) for part in weight.split(rows, 1)])
    return setting.compute.team.once(partial(_codes, layer, spec, value, weight, solution, moments, setting, movable, rows))


def _rows_at_once(setting: Setting, constraints: Constraints, weight: Tensor) -> int:
    """Return how many rows of `weight` [g, R, n] are solved at once: half as many numbers as moments have, as rows are there in
    more copies. All where they share a scale."""
    groups, rows, features = weight.shape
    if constraints.weight_scale == "tensor":
        return rows
    return max(1, min(rows, setting.elements // (2 * groups * features)))


def _rounded(bits: int, constraints: Constraints, sweeps: int, weight: Tensor, moments: Moments, ridge: float) -> Solution:
    return solve(weight, moments, bits, constraints, ridge, sweeps)


def _codes(
    layer: Layer,
    spec: WeightSpec,
    value: Tensor,
    weight: Tensor,
    solution: Solution,
    moments: Moments,
    setting: Setting,
    movable: bool,
    rows: int,
) -> Codes:
    """Return the solution as integer codes in the shape of the file, and the bias that takes the mean error."""
    grid = Grid(solution.scale.flatten() / layer.gain, solution.zero_point.flatten())
    whole = layer.columns.weight(solution.codes, value.shape)
    constraints = setting.constraints.of_weight(spec.ungrouped)
    codes = Codes(weights={layer.weight: _on_grid(whole, grid, spec, constraints)})
    if movable and layer.bias is not None:
        bias = initializer(setting.network, layer.bias)
        pairs = zip(weight.split(rows, 1), solution.weights.split(rows, 1), strict=True)
        shift = torch.cat([bias_shift(w, w_q, moments) for w, w_q in pairs], 1).flatten() / layer.bias_gain
        codes.biases[layer.bias] = float32((bias.double().flatten() + shift).view(bias.shape))
    return codes
