"""Can codes be exported for a target they were not made for? Judged by the numbers, not by how they came about."""

from __future__ import annotations

import numpy as np

from genie_onnx.placement import Placement
from genie_onnx.qparams import QParams
from genie_onnx.reconstruct import Codes
from genie_onnx.targets import WIDE, Constraints


def unmet(made: Placement, codes: Codes, wanted: Placement, constraints: Constraints) -> list[str]:
    """Return a sentence for each of `constraints` that `codes`, optimised under the placement `made`, do not meet.

    `wanted` is what placement is under these constraints.
    """
    weights = {spec.value: codes.weights[spec.value].qparams for spec in made.weights}
    values = {spec.name: codes.activations[spec.name] for spec in made.activations}
    wide = {name: grid for name, grid in values.items() if grid.bits >= WIDE}
    problems = []
    for kind, grids, (low, high) in (("weights", weights, constraints.weight_bits), ("values", values, constraints.value_bits)):
        beyond = [name for name, grid in grids.items() if not low <= grid.bits <= high]
        problems += _sentence(f"{kind} have other bits than {low}..{high}", beyond, len(grids))
    mine, theirs = ({v: spec.bits for spec in p.activations for v in spec.values} for p in (made, wanted))
    problems += _sentence("values are rounded here and not there", [v for v in mine if v not in theirs], len(mine))
    problems += _sentence("values are rounded there and not here", [v for v in theirs if v not in mine], len(theirs))
    problems += _sentence("values share a grid there and have several here", _parted(made, wanted), len(mine))
    if constraints.weight_grid == "symmetric":
        problems += _sentence("weights are not symmetric", _asymmetric(weights), len(weights))
    one = [spec.value for spec in made.weights if constraints.of_weight(spec.ungrouped).weight_scale == "tensor"]
    if one:
        several = [name for name in one if np.unique(weights[name].scale).size > 1]
        problems += _sentence("weights have a scale for each channel", several, len(weights))
    if constraints.wide_values == "symmetric":
        problems += _sentence(f"values of {WIDE} bits are not symmetric", _asymmetric(wide), len(wide))
    if constraints.value_grid == "unshifted":
        shifted = [name for name in _asymmetric(values) if values[name].zero_point != 0]
        problems += _sentence("values have zero points", shifted, len(values))
    if constraints.scales == "power-of-two":
        grids = {**weights, **values}
        problems += _sentence("scales are no powers of two", [n for n, grid in grids.items() if not _powers(grid)], len(grids))
    return problems


def _parted(made: Placement, wanted: Placement) -> list[str]:
    """Return the values that are on one grid with others in `wanted`, and on another than those in `made`."""
    groups = {v: spec.name for spec in made.activations for v in spec.values}
    return [
        v for spec in wanted.activations for v in spec.values if v in groups and groups[v] != groups.get(spec.name, groups[v])
    ]


def _sentence(what: str, names: list[str], count: int) -> list[str]:
    return [f"{len(names)} of {count} {what} (first '{names[0]}')"] if names else []


def _asymmetric(grids: dict[str, QParams]) -> list[str]:
    return [name for name, grid in grids.items() if not (grid.zero_point == 2 ** (grid.bits - 1)).all()]


def _powers(grid: QParams) -> bool:
    mantissas, _ = np.frexp(grid.scale)
    return bool((mantissas == 0.5).all())
