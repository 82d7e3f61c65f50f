"""Step-size search: the grid that loses least, out of 100 shrunken min/max ranges (paper, Eq. 6).

s(r) = r (max - min) / (2^b - 1),   z = round(-min / s(1)),   r = 1.00, 0.99 ... 0.01
s0   = argmin_r  mean |x - s (clip(round(x / s) + z, 0, 2^b - 1) - z)|^2.4

A target may ask for symmetric grids, one grid a tensor, or scales that are powers of two (targets.Constraints).
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from genie_onnx.targets import WIDE, Constraints

RATIOS = tuple(k / 100 for k in range(100, 0, -1))
NORM = 2.4  # exponent of the error, as in the published results of BRECQ, QDrop and GENIE
OCTAVES = 8  # powers of two that are tried from the whole range on: down to less than RATIOS go
# INT8 weights are stored without a zero point, as codes - z. An asymmetric grid of 8 bits would not fit. One of 7 would, up to
# -127..127; but what --reduce-range and onnxruntime's kernels for CPUs without VNNI take for 7 bits are -64..63.
WIDEST_ASYMMETRIC_WEIGHT = 6
# Scale of what is zero everywhere. Not 1: OpenVINO 2026.4.1 never ends compiling a layer whose scales are all 1.
NOTHING = 2.0**-7
OFF_GRID = 0.25  # steps between zero and the next code
ANY = Constraints()
SEARCHED = 2**17  # elements of a weight that are rounded a hundred times before the next ones are: they stay in a core's cache
SMALLEST_SCALE = 2**-14  # of a tensor's largest scale: what is lost by it is far below the 8-bit steps of the largest channel


class Grid(NamedTuple):
    """Scale and zero point, float32, both [] (per tensor) or [C] (per channel); zero points are whole numbers >= 0."""

    scale: Tensor
    zero_point: Tensor


def weight_grid(weight: Tensor, bits: int, constraints: Constraints = ANY, power: Tensor | None = None) -> Grid:
    """Search one grid per row of `weight` [C, K] (C output channels, float32): asymmetric, symmetric from 7 bits on.

    With `power` [C, K], that of what each element is multiplied by, its squared error counts so much: an estimate of what
    rounding does to the layer's output.

    A row of (almost) zeros gets at least SMALLEST_SCALE of the largest scale: its bias is stored in steps of s_x s_w, and would
    overflow INT32 at the scale that fits such a row best.
    """
    if constraints.weight_scale == "tensor":
        flat = None if power is None else power.reshape(1, -1)
        one = weight_grid(weight.reshape(1, -1), bits, replace(constraints, weight_scale="channel"), flat)
        return Grid(*(part.expand(len(weight)).clone() for part in one))
    low, high = weight.amin(1).clamp(max=0), weight.amax(1).clamp(min=0)
    symmetric = bits > WIDEST_ASYMMETRIC_WEIGHT or constraints.weight_grid == "symmetric"
    full = _symmetric(low, high, bits) if symmetric else _affine(low, high, bits)
    rows = max(1, SEARCHED // weight.shape[1])
    powers = [None] * -(-len(weight) // rows) if power is None else power.split(rows)
    parts = zip(weight.split(rows), full.scale.split(rows), full.zero_point.split(rows), powers, strict=True)
    found = [_search(part, _shrunk(Grid(scale, zero), bits, constraints), bits, share)[0] for part, scale, zero, share in parts]
    best = Grid(torch.cat([grid.scale for grid in found]), torch.cat([grid.zero_point for grid in found]))
    alive = torch.where(high > low, best.scale, torch.zeros_like(best.scale))
    typical = alive.max() if bool((alive > 0).any()) else torch.full_like(alive[0], NOTHING)
    floored = torch.where(alive > 0, alive.clamp(min=typical * SMALLEST_SCALE), typical)
    return Grid(floored, best.zero_point)


def activation_grid(
    sample: Tensor, low: Tensor, high: Tensor, bits: int, constraints: Constraints = ANY, norm: float = NORM
) -> Grid:
    """Search the grid of a tensor from a `sample` [K] of its elements and its true range [low, high] (0-dim).

    No negative value: unsigned, z = 0. Otherwise signed with z = 2^(b-1), or affine where that loses less: a SiLU
    that reaches from -0.28 to 6 would waste nearly half of a symmetric 4-bit grid. Of affine ranges both ends are
    shrunk together (Eq. 6), and the upper end alone. `norm`: the exponent of the error.
    """
    row = sample.reshape(1, -1)
    low, high = low.reshape(1).clamp(max=0), high.reshape(1).clamp(min=0)
    symmetric = _shrunk(_symmetric(low, high, bits), bits, constraints)
    candidates = [_shrunk(_affine(low, high, bits), bits, constraints)]  # z = 0 where low = 0
    if _symmetric_values(low, bits, constraints):
        candidates = [symmetric]
    elif bool(low < 0):
        candidates.append(symmetric)
        if constraints.scales == "any":
            candidates.append(_affine(low, high * _ratios(high), bits))
    grid, _ = min((_search(row, c, bits, norm=norm) for c in candidates), key=lambda found: float(found[1]))
    return Grid(grid.scale.reshape(()), grid.zero_point.reshape(()))


def range_grid(low: float, high: float, bits: int, constraints: Constraints = ANY) -> Grid:
    """Return the per-tensor grid that spans [low, high] (and zero) without clipping; nothing is searched.

    Where zero would lie between two codes, the range has one step fewer, so that it lies on one. With pixels x / 127.5 - 1 all
    255 steps would put every pixel half-way between two codes: half of the codes would never be used, and which of the two a
    pixel gets would be up to the float arithmetic of each runtime.
    """
    ends = torch.tensor([min(low, 0.0)]), torch.tensor([max(high, 0.0)])
    symmetric = _symmetric_values(ends[0], bits, constraints)
    full = _symmetric(*ends, bits) if symmetric else _affine(*ends, bits)
    position = -ends[0] / full.scale
    if bool((position - position.round()).abs() > OFF_GRID) and not symmetric:
        steps = 2**bits - 2
        scale = _usable((ends[1] - ends[0]) / steps)
        full = Grid(scale, torch.round(-ends[0] / scale).clamp(0, steps))
    return Grid(*(part[0].reshape(()) for part in _shrunk(full, bits, constraints)))


def _symmetric_values(low: Tensor, bits: int, constraints: Constraints) -> bool:
    """Whether the grid of a value that reaches down to `low` has to be symmetric."""
    negative = constraints.value_grid == "unshifted" and bool(low < 0)
    return negative or (bits >= WIDE and constraints.wide_values == "symmetric")


def _usable(scale: Tensor) -> Tensor:
    """Return `scale` with NOTHING where it is too small to divide by: such a range holds nothing to represent."""
    return torch.where(scale > torch.finfo(scale.dtype).tiny * 1e3, scale, torch.full_like(scale, NOTHING))


def _affine(low: Tensor, high: Tensor, bits: int) -> Grid:
    """Return the scale of the whole range and the zero point that puts `low` on code 0."""
    qmax = 2**bits - 1
    scale = _usable((high - low) / qmax)
    return Grid(scale, torch.round(-low / scale).clamp(0, qmax))


def _symmetric(low: Tensor, high: Tensor, bits: int) -> Grid:
    """Return the scale at which max |x| is the largest positive code, and z = 2^(b-1)."""
    half = 2 ** (bits - 1)
    return Grid(_usable(torch.maximum(-low, high) / (half - 1)), torch.full_like(low, half))


def _ratios(like: Tensor) -> Tensor:
    """RATIOS as [R, 1], of the type and on the device of `like`."""
    return torch.tensor(RATIOS, dtype=like.dtype, device=like.device).unsqueeze(1)


def _shrunk(full: Grid, bits: int, constraints: Constraints) -> Grid:
    """Return the hundred grids of Eq. 6, [R, C] for a `full` one of [C]: both ends of the range shrink, so the zero point stays.

    Or those whose scale is a power of two, from the first that spans the whole range on; the zero point follows the lower end.
    """
    if constraints.scales == "any":
        scale = full.scale * _ratios(full.scale)
        return Grid(scale, full.zero_point.expand_as(scale))
    octaves = torch.arange(OCTAVES, dtype=full.scale.dtype, device=full.scale.device).unsqueeze(1)
    scale = torch.exp2(torch.ceil(torch.log2(full.scale)) - octaves)
    if bool((full.zero_point == 2 ** (bits - 1)).all()):
        return Grid(scale, full.zero_point.expand_as(scale))
    return Grid(scale, torch.round(full.zero_point * full.scale / scale).clamp(0, 2**bits - 1))


def _search(x: Tensor, candidates: Grid, bits: int, power: Tensor | None = None, norm: float = NORM) -> tuple[Grid, Tensor]:
    """Return for each row of `x` [C, K] the best of `candidates` [R, C], the first of equals, and its error [C]: by Eq. 6, or,
    with `power` [C, K], squared and weighted."""
    best_error = torch.full_like(x[:, 0], torch.inf)
    best = Grid(torch.ones_like(best_error), torch.zeros_like(best_error))
    at_once = max(1, SEARCHED // x.numel())  # of a small tensor, rounding at several scales costs as much as at one
    for scale, zero_point in zip(*(part.split(at_once) for part in candidates), strict=True):
        s, z = scale.unsqueeze(2), zero_point.unsqueeze(2)
        rounded = (x / s).round_().clamp_(-z, 2**bits - 1 - z).mul_(s)
        rounded.sub_(x)
        errors = (rounded.abs_().pow_(norm) if power is None else rounded.square_().mul_(power)).mean(2)
        error, place = errors.nan_to_num(torch.inf, torch.inf).min(0)
        better = error < best_error
        best_error = torch.where(better, error, best_error)
        chosen = (part.gather(0, place.unsqueeze(0)).squeeze(0) for part in (scale, zero_point))
        best = Grid(*(torch.where(better, new, old) for new, old in zip(chosen, best, strict=True)))
    return best, best_error
