"""Choosing the few values that get more bits than were asked for, by what rounding each alone does to the outputs.

    for a size    those that save most, while all of them together have RISE bits more on average (allocation)
    for a loss    as few as will do, those that save most first

In a network of depthwise convolutions a few early values do most of the damage: of MobileNetV1-0.75 at 4 bits, one of 25 does
42 % of it, and four do 76 %. They are measured before channels are equalised, which takes a quarter off the sum and leaves the
four what they are.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genie_onnx.bits.allocation import allocate, monotone
from genie_onnx.bits.budget import Choices
from genie_onnx.bits.plan import with_bits
from genie_onnx.config import QuantizeConfig
from genie_onnx.events import Step, Tally
from genie_onnx.images.kept import Calibration
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import ActivationSpec
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.qparams import QParams
from genie_onnx.reconstruct import Codes, first_grids, value_sensitivities

# Bits: as much memory and traffic as one bit more everywhere. MobileNetV1-0.75 of 3.9-bit weights: outputs at 9.0 dB in place of
# 7.1 (8.5 with half a bit). The costliest values are early and large, up to a sixth of all elements: less would often not do.
RISE = 1.0
WORTH = 0.01  # of the damage that all weights and values do: what a value has to save, or the difference would not show
IMAGES = 128  # that grids are found on


@dataclass(frozen=True)
class ValueTable:
    """What may be chosen: what shares a grid is one thing. Without any there is nothing to choose."""

    specs: tuple[ActivationSpec, ...]  # at the bits that were asked for, topological
    elements: npt.NDArray[np.int64]  # [V], of one image
    damage: npt.NDArray[np.float64]  # [V, 2], at those bits and at `wide` ones
    wide: int
    grids: tuple[Codes, Codes] = (Codes(), Codes())  # of all values of the network, with these at those bits and at `wide` ones

    @property
    def saved(self) -> npt.NDArray[np.float64]:
        """The damage that each saves with more bits, [V], at least 0."""
        harm = monotone(self.damage)
        return np.asarray(harm[:, 0] - harm[:, 1])

    def costliest(self, count: int) -> frozenset[str]:
        """Return the names of the `count` values that save most."""
        return frozenset(self.specs[k].name for k in np.argsort(-self.saved, kind="stable")[:count])

    def few(self, others: float) -> frozenset[str]:
        """Return the names of the values that get more bits, for a size; `others`: the damage that all weights do."""
        worth = np.flatnonzero(self.saved > WORTH * (others + self.damage[:, 0].sum()))
        more = self.elements * (self.wide - np.array([spec.bits for spec in self.specs], np.int64))
        taken = allocate(more[worth], self.damage[worth], (0, 1), int(RISE * self.elements.sum())) if len(worth) else worth
        assert taken is not None  # nothing has to be bought
        return frozenset(self.specs[k].name for k in worth[taken == 1])

    def mixed(self, wider: Collection[str]) -> dict[str, QParams]:
        """Return the grids of all values of the network, those of the values named at `wide` bits."""
        asked, wide = (grids.activations for grids in self.grids)
        return {**asked, **{name: wide[name] for name in wider}}


def measured_values(
    prepared: Prepared,
    config: QuantizeConfig,
    calibration: Calibration,
    found: Choices,
    images: Tensor,
    scores: str | None,
    compute: Compute,
    progress: Callable[[Step], None],
) -> ValueTable:
    """Return what each of `found.values` does to the outputs on `images` [N, C, H, W], as the last part of choosing bits.

    `scores`: as reconstruct.sensitivities has it. Grids are found on some of `calibration.images`.
    """
    start = Step(stage="bits", index=found.parts - 1, count=found.parts, iterations=len(images))
    specs, network = found.values, prepared.network.to(compute.device)

    def grids(wider: Collection[str]) -> Codes:
        weights = found.bits(np.full(len(found.blocks), found.widths[-1]))
        return first_grids(
            network,
            with_bits(prepared, config.placement, config.target.constraints, weights, dict.fromkeys(wider, found.wide)),
            calibration.images[:IMAGES],
            input_range=calibration.input_range,
            headroom=calibration.headroom,
            seed=config.seed,
            compute=compute,
            constraints=config.target.constraints,
            closed=config.closed_form is not None,
            progress=lambda step: progress(start),
        )

    asked = grids(())
    if not specs:
        return ValueTable((), np.zeros(0, np.int64), np.zeros((0, 2)), found.wide, (asked, asked))
    both = (asked, grids([spec.name for spec in specs]))
    alone = [
        (dataclasses.replace(spec, bits=bits), codes)
        for spec in specs
        for bits, codes in zip((spec.bits, found.wide), both, strict=True)
    ]
    tell = Tally(progress, start)
    harm = value_sensitivities(network, prepared.placement, prepared.blocks, alone, images, scores, compute, tell)
    part = network.extract(network.inputs, [root for spec in specs for root in spec.roots])
    with torch.no_grad():
        one = part({network.inputs[0]: images[:1].to(compute.device)})
    elements = [sum(one[root].numel() for root in spec.roots) for spec in specs]
    return ValueTable(specs, np.array(elements, np.int64), np.array(harm).reshape(-1, 2), found.wide, both)


def fewest(lost: Callable[[int], float], most: int, limit: float) -> tuple[int, float]:
    """Return the least of 1..`most` for which `lost` is within `limit`, by halving, and what is lost; `most` where none is.

    `lost` falls as counts grow, but for noise.
    """
    low, high, found = 0, most, lost(most)  # too few; enough, if anything is
    while found <= limit and high - low > 1:
        middle = (low + high) // 2
        now = lost(middle)
        if now <= limit:
            high, found = middle, now
        else:
            low = middle
    return high, found
