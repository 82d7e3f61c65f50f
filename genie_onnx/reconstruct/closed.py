"""Closed-form rounding of a block, piece by piece: moments of what each layer reads, then its codes, scales and bias.

for each layer, in topological order:
    H, G, E[x], E[x_q]    of x, what the float network feeds it, and x_q, what the layers rounded so far make of it
    w_q, s, z          <- solve(w, H, G)                       b_q = b + w E[x] - w_q E[x_q]
    x, x_q             of the next layer are what both make of theirs
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.closed_form import (
    RIDGES,
    Columns,
    Moments,
    Solution,
    Sums,
    best_ridge,
    bias_shift,
    combined,
    drawn_positions,
    mean_column,
    nearest_solution,
    solve,
)
from genie_onnx.compute import Compute
from genie_onnx.config import ClosedFormConfig
from genie_onnx.importer import Network
from genie_onnx.placement import Placement, WeightSpec
from genie_onnx.qparams import QParams, QTensor
from genie_onnx.quant import Grid, fake_quantize, weight_grid
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import final_block, float32, unlearned
from genie_onnx.reconstruct.forward import batch_of, forward
from genie_onnx.reconstruct.layers import Layer, layers_of
from genie_onnx.reconstruct.layout import from_rows, from_stored, to_rows
from genie_onnx.reconstruct.relief import Relief
from genie_onnx.reconstruct.store import ActivationStore, Stored
from genie_onnx.reconstruct.student import initializer
from genie_onnx.reconstruct.twin import Twin
from genie_onnx.seeds import stream
from genie_onnx.targets import Constraints

HELD = 0.25  # share of the images on which a ridge is judged
COLUMN_ELEMENTS = 2**22  # of the columns that are made at once: they stay in the caches
Function = Callable[..., tuple[Tensor, ...]]


@dataclass(frozen=True)
class Setting:
    """What stays the same from block to block. `network` is the one whose weights are rounded, `twin` what it is to imitate."""

    network: Network
    twin: Twin
    placement: Placement
    grids: Mapping[str, Grid]
    config: ClosedFormConfig
    constraints: Constraints
    seed: int
    compute: Compute
    store: ActivationStore
    relief: Relief


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
    grid = weight_grid(rows, spec.bits, setting.constraints)
    scale, zero = (part[:, None] for part in grid)
    codes = (rows / scale).round_().clamp_(-zero, 2**spec.bits - 1 - zero)
    whole = from_rows(codes.to(torch.int8), value.shape, spec.axis)
    return Codes(weights={spec.value: _on_grid(whole, grid, spec, setting.constraints)})


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
    reader = _Reader(setting, piece, layer, codes, teacher, student)
    if spec.bits >= config.wide_bits and movable:
        moments = reader.means()
        solution = nearest_solution(weight, moments, spec.bits, setting.constraints, RIDGES[0])
    else:
        train, held, moments = reader.folds()
        if not movable:
            train, held, moments = train.uncentred, held.uncentred, moments.uncentred
        if not config.mismatch:
            train, held, moments = train.without_mismatch, held.without_mismatch, moments.without_mismatch
        rounded = partial(_rounded, weight, spec.bits, setting.constraints, config.sweeps)
        ridge = config.ridge if config.ridge is not None else best_ridge(weight, train, held, rounded)
        solution = rounded(moments, ridge)
    return setting.compute.team.once(partial(_codes, layer, spec, value, weight, solution, moments, setting, movable))


def _rounded(weight: Tensor, bits: int, constraints: Constraints, sweeps: int, moments: Moments, ridge: float) -> Solution:
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
) -> Codes:
    """Return the solution as integer codes in the shape of the file, and the bias that takes the mean error."""
    grid = Grid(solution.scale.flatten() / layer.gain, solution.zero_point.flatten())
    whole = layer.columns.weight(solution.codes, value.shape)
    codes = Codes(weights={layer.weight: _on_grid(whole, grid, spec, setting.constraints)})
    if movable and layer.bias is not None:
        bias = initializer(setting.network, layer.bias)
        shift = bias_shift(weight, solution.weights, moments).flatten() / layer.bias_gain
        codes.biases[layer.bias] = float32((bias.double().flatten() + shift).view(bias.shape))
    return codes


@dataclass(frozen=True)
class _Reader:
    """What one layer reads in both networks, and its moments."""

    setting: Setting
    piece: Block
    layer: Layer
    codes: Codes
    teacher: Mapping[str, Stored]
    student: Mapping[str, Stored]

    def folds(self) -> tuple[Moments, Moments, Moments]:
        """Return the moments of most images, of the others, and of all; the means are those over all positions of all images."""
        count = len(next(iter(self.student.values())))
        first = count - max(1, round(HELD * count)) if count > 1 else count
        groups, _, features = self.layer.columns.rows(initializer(self.setting.network, self.layer.weight)).shape
        sums, means = [], _Means(self.layer.columns)
        for start, stop in ((0, first), (first, count)):
            if start == stop:
                continue
            sums.append(Sums(groups, features, self.setting.compute.device))
            for x, x_q, number in self._batches(start, stop):
                means.add(x, x_q, number is not None)
                if number is not None:
                    self._take_in(sums[-1], x, x_q, self._positions(x, count, number))
        for total in (*(part for fold in sums for part in fold.parts), *means.parts):
            self.setting.compute.team.add_up(total)
        mean, mean_q = (mean_column(self.layer.columns, x) for x in means.found())
        moments = [combined([fold]).with_means(mean, mean_q) for fold in (sums[0], sums[-1])]
        return moments[0], moments[1], combined(sums).with_means(mean, mean_q)

    def means(self) -> Moments:
        """Return moments with exact means, and of the covariances only that every input is as strong as any other."""
        count, means = len(next(iter(self.student.values()))), _Means(self.layer.columns)
        for x, x_q, number in self._batches(0, count):
            means.add(x, x_q, number is not None)
        for total in means.parts:
            self.setting.compute.team.add_up(total)
        mean, mean_q = (mean_column(self.layer.columns, x) for x in means.found())
        alike = torch.eye(mean.shape[1], dtype=torch.float64, device=mean.device).expand(len(mean), -1, -1)
        return Moments(alike, alike, mean, mean_q, count)

    def _take_in(self, sums: Sums, x: Tensor, x_q: Tensor, positions: Tensor) -> None:
        """Add the columns at `positions` [N, m], of a few samples at a time."""
        columns = self.layer.columns
        elements = positions.shape[1] * sums.parts[2].numel()
        size = max(1, COLUMN_ELEMENTS // max(1, elements))
        for begin in range(0, len(x), size):
            part = slice(begin, begin + size)
            sums.add(columns.at(x[part], positions[part]), columns.at(x_q[part], positions[part]))

    def _positions(self, x: Tensor, count: int, number: int) -> Tensor:
        """Draw the positions of a batch: as many a sample as the wanted number of columns takes, in all `count` samples."""
        layer = self.layer
        features = layer.columns.rows(initializer(self.setting.network, layer.weight)).shape[2]
        wanted = math.ceil(max(self.setting.config.columns, self.setting.config.columns_per_feature * features) / count)
        generator = stream(self.setting.seed, f"columns/{layer.output}/{number}", x.device)
        return drawn_positions(layer.columns.positions(x), len(x), wanted, generator)

    def _batches(self, start: int, stop: int) -> Iterator[tuple[Tensor, Tensor, int | None]]:
        """Yield this process's batches of x and x_q, with the number of the first sample. Where there is none for it, it gets
        one that does not count, without a number: so that it knows the shapes of what is added up."""
        setting, piece, name, team = self.setting, self.piece, self.layer.input, self.setting.compute.team
        floats, rounded = self._functions()
        xs, x_qs = ([values[v] for v in piece.inputs] for values in (self.teacher, self.student))
        if name in piece.inputs:
            xs, x_qs = [self.teacher[name]], [self.student[name]]
        size = batch_of(x_qs)
        starts: Sequence[tuple[int, int | None]] = [(begin, begin) for begin in range(start, stop, size)][team.rank :: team.size]
        for begin, number in starts or [(start, None)]:
            end = min(begin + size, stop)
            with torch.no_grad(), Compute(setting.compute.device).products():
                x, x_q = (
                    function(*(from_stored(v.slice(begin, end)) for v in values))
                    for function, values in ((floats, xs), (rounded, x_qs))
                )
            yield x, x_q, number

    def _functions(self) -> tuple[Callable[..., Tensor], Callable[..., Tensor]]:
        """Return what makes the layer's input of what is stored, in the float network and, rounded, in the other."""
        setting, piece, name = self.setting, self.piece, self.layer.input
        spec = setting.placement.activation_of(name)

        def on_grid(x: Tensor) -> Tensor:
            if spec is None:
                return x
            grid = self.codes.activations[spec.name]
            return fake_quantize(x, torch.tensor(grid.scale, device=x.device), int(grid.zero_point), grid.qmax)

        if name in piece.inputs:
            return lambda x: x, on_grid
        floats = setting.twin.function(piece.inputs, (name,))
        inner = replace(piece, outputs=(name,))
        rounded = final_block(setting.network, inner, setting.placement, self.codes, setting.compute.device)
        return lambda *values: floats(*values)[0], lambda *values: on_grid(rounded(*values)[0])


class _Means:
    """Means of x and x_q over what is alike for a layer (Columns.total)."""

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.parts: list[Tensor] = []

    def add(self, x: Tensor, x_q: Tensor, counts: bool) -> None:
        """Take in a batch; one that does not count only gives the shapes."""
        (total, count), (total_q, _) = (self._columns.total(part) for part in (x, x_q))
        sums = [total, total_q, total.new_tensor(count)]
        if not self.parts:
            self.parts = [torch.zeros_like(part) for part in sums]
        for part, own in zip(self.parts, sums if counts else (), strict=counts):
            part += own

    def found(self) -> tuple[Tensor, Tensor]:
        """Return the means, [1, ...] each."""
        total, total_q, count = self.parts
        return (total / count).float(), (total_q / count).float()
