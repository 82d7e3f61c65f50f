"""What one layer reads in both networks, sample by sample, and its moments."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.closed_form import Columns, Moments, Sums, combined, drawn_positions, mean_column, split
from genie_onnx.config import ClosedFormConfig
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import Placement
from genie_onnx.quant import Grid, fake_quantize
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import final_block
from genie_onnx.reconstruct.forward import batch_of
from genie_onnx.reconstruct.layers import Layer
from genie_onnx.reconstruct.layout import from_stored
from genie_onnx.reconstruct.relief import Relief
from genie_onnx.reconstruct.store import ActivationStore, Stored
from genie_onnx.reconstruct.student import initializer
from genie_onnx.reconstruct.twin import Twin
from genie_onnx.seeds import stream
from genie_onnx.targets import Constraints

HELD = 0.25  # share of the images on which a ridge is judged
COLUMN_ELEMENTS = 2**22  # of the columns that are made at once: they stay in the caches
# float64 tensors of the size of H that are there at once, as measured: H and G of two folds and of all images (6); A, its factor,
# and what it is reordered or factorised from (5); and of those in which rows are solved, half as large, as much as 5
COPIES = 16
ROOM = 2**32  # bytes for these where nothing is said: a quarter of a machine of 16 GB, as Budget.step
LEAST = 2**20  # numbers that a tensor may have, whatever the room is: 8 MB


@dataclass(frozen=True)
class Setting:
    """What stays the same from block to block. `network` is the one whose weights are rounded, `twin` what it is to imitate.

    `elements`: numbers that a tensor of moments or rows may have (`elements_for`).
    """

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
    elements: int


def elements_for(compute: Compute) -> int:
    """Return how many numbers a tensor of a layer's moments may have, in all processes of the team alike.

    It decides about codes of layers that are wide, so it is a matter of the option and of the machine, not of what is free.
    """
    step = None if compute.budget is None else compute.budget.step
    return compute.team.once(lambda: max(LEAST, (ROOM if step is None else step) // (8 * COPIES)))


@dataclass(frozen=True)
class Reader:
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
        parts = split(features, groups, self.setting.elements)
        sums, means = [], _Means(self.layer.columns)
        for start, stop in ((0, first), (first, count)):
            if start == stop:
                continue
            sums.append(Sums(groups, parts, self.setting.compute.device))
            for x, x_q, number in self._batches(start, stop):
                means.add(x, x_q, number is not None)
                if number is not None:
                    self._take_in(sums[-1], x, x_q, self._positions(x, count, number))
        for total in (*(part for fold in sums for part in fold.totals), *means.parts):
            self.setting.compute.team.add_up(total)
        mean, mean_q = (mean_column(self.layer.columns, x) for x in means.found())
        moments = [combined([fold]).with_means(mean, mean_q) for fold in (sums[0], sums[-1])]
        return moments[0], moments[1], combined(sums).with_means(mean, mean_q)

    def means(self) -> tuple[Moments, float]:
        """Return moments with exact means, and of the covariances only that every input is as strong as any other; and the noise
        in x_q as a share of the power of x, means aside."""
        count, means = len(next(iter(self.student.values()))), _Means(self.layer.columns)
        noise = torch.zeros(2, dtype=torch.float64, device=self.setting.compute.device)
        for x, x_q, number in self._batches(0, count):
            means.add(x, x_q, number is not None)
            if number is not None:
                noise += torch.stack([len(x) * part.double().var(correction=0) for part in (x_q - x, x)])
        for total in (*means.parts, noise):
            self.setting.compute.team.add_up(total)
        mean, mean_q = (mean_column(self.layer.columns, x) for x in means.found())
        alike = torch.ones(mean.numel(), 1, 1, dtype=torch.float64, device=mean.device)  # parts of one feature each
        return Moments(alike, alike, mean, mean_q, count), float(noise[0] / noise[1].clamp_min(torch.finfo(torch.float64).tiny))

    def _take_in(self, sums: Sums, x: Tensor, x_q: Tensor, positions: Tensor) -> None:
        """Add the columns at `positions` [N, m], of a few samples at a time."""
        columns = self.layer.columns
        elements = positions.shape[1] * sums.totals[2].numel()
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
        floats, quantised = self._functions()
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
                    for function, values in ((floats, xs), (quantised, x_qs))
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
        made = final_block(setting.network, inner, setting.placement, self.codes, setting.compute.device)
        return lambda *values: floats(*values)[0], lambda *values: on_grid(made(*values)[0])


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
