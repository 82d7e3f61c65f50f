"""Which bits may be chosen, and how many a goal (config.BitGoal) allows weights together: known before anything runs."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from genie_onnx.config import BitGoal, QuantizeConfig
from genie_onnx.errors import ConfigError
from genie_onnx.graph import query
from genie_onnx.graph.sizes import packed
from genie_onnx.placement import REDUCED, ActivationSpec, resolve
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.reconstruct import new_weights

WIDTHS = (2, 3, 4, 8)
WIDE = 8  # bits that values may get in place of fewer


@dataclass(frozen=True)
class Choices:
    """What may be chosen: `parameters` of each block (only weights whose bits are free), `widths`, ascending; and the values that
    may have `wide` bits in place of those asked for."""

    blocks: dict[str, tuple[str, ...]]  # free weights by the block that learns them, topological
    parameters: npt.NDArray[np.int64]  # [B]
    widths: tuple[int, ...]
    fixed: dict[str, int]  # bits of the other weights
    other_bits: int  # bits of everything in the model but free weights
    values: tuple[ActivationSpec, ...]  # with fewer than `wide` bits, which nobody asked for by name; topological
    wide: int

    @property
    def parts(self) -> int:
        """What the choosing consists of: a trial of each width, measuring all of them, and measuring values."""
        return len(self.widths) + 1 + bool(self.values)

    @property
    def total(self) -> int:
        """Weights whose bits are free."""
        return int(self.parameters.sum())

    def bits(self, chosen: npt.NDArray[np.int64]) -> dict[str, int]:
        """Return the bits of every quantised weight, with those `chosen` for each block, int64 [B]."""
        free = {w: int(bits) for names, bits in zip(self.blocks.values(), chosen, strict=True) for w in names}
        return {**self.fixed, **free}

    def bytes(self, bits: int) -> int:
        """Return the bytes of the model with so many bits in all free weights together."""
        return -(-(bits + self.other_bits) // 8)


def choices(prepared: Prepared, config: QuantizeConfig) -> Choices:
    """Return what may be chosen. Raises ConfigError where that is nothing."""
    placement, constraints = prepared.placement, config.target.constraints
    low, high = constraints.weight_bits
    most = min(high, REDUCED) if config.placement.reduce_range else high
    widths = tuple(sorted({min(width, most) for width in WIDTHS if low <= width <= high}))
    if len(widths) < 2:
        raise ConfigError(
            f"{config.bit_goal}: target {config.target.name} holds weights of {low} bits only: leave that option out"
        )
    asked = resolve(prepared.deploy, config.placement).bits
    fixed = {spec.value: spec.bits for spec in placement.weights if not asked.keys().isdisjoint(spec.nodes)}
    learned = new_weights(prepared.blocks, placement)
    blocks = {name: free for name, weights in learned.items() if (free := tuple(w for w in weights if w not in fixed))}
    if not blocks:
        raise ConfigError(f"{config.bit_goal} has nothing to choose: every layer has bits of its own (--bits, --layers)")
    arrays = {name: query.constant(value) for name, value in prepared.deploy.graph.initializers.items()}
    counts = [sum(array.size for w in names if (array := arrays[w]) is not None) for names in blocks.values()]
    none = {w: 0 for names in blocks.values() for w in names}
    wide = min(WIDE, constraints.value_bits[1])
    return Choices(
        blocks=blocks,
        parameters=np.array(counts, np.int64),
        widths=widths,
        fixed=fixed,
        other_bits=8 * packed(prepared.deploy, {**fixed, **none})[0],
        values=_values(prepared, asked, wide),
        wide=wide,
    )


def _values(prepared: Prepared, asked: Collection[str], wide: int) -> tuple[ActivationSpec, ...]:
    """Return the values below `wide` bits that quantised layers read, but none of those `asked` for bits: what `--bits` can say,
    and has not said."""
    placement = prepared.placement
    layers = {node for spec in placement.weights for node in spec.nodes}
    reads: dict[str, set[str]] = {}
    for node in prepared.deploy.graph:
        value = node.inputs[0] if node.name in layers else None
        spec = None if value is None else placement.activation_of(str(value.name))
        if spec is not None:
            reads.setdefault(spec.name, set()).add(str(node.name))
    free = {name for name, readers in reads.items() if readers.isdisjoint(asked)}
    return tuple(spec for spec in placement.activations if spec.bits < wide and spec.name in free)


def require_goal(prepared: Prepared, config: QuantizeConfig) -> None:
    """Raise ConfigError where `config.bit_goal` cannot be met by any choice of bits."""
    goal = config.bit_goal
    if goal is None:
        return
    found = choices(prepared, config)
    budget = budget_of(goal, found)
    if budget is not None and budget < found.total * found.widths[0]:
        smallest = found.bytes(found.total * found.widths[0])
        at_8 = found.bytes(found.total * found.widths[-1])
        raise ConfigError(
            f"{goal} is too small: with {found.widths[0]} bits in every layer that has none of its own, the average is "
            f"{found.widths[0]} bits and the model has {smallest} bytes ({100 * smallest / at_8:.1f} % of those at "
            f"{found.widths[-1]} bits); use at least that"
        )


def budget_of(goal: BitGoal, found: Choices) -> int | None:
    """Return how many bits free weights may have together; None where the goal is a loss."""
    if goal.average is not None:
        return int(goal.average * found.total)
    wanted = goal.bytes
    if goal.share is not None:
        wanted = int(goal.share * found.bytes(found.total * found.widths[-1]))
    return None if wanted is None else 8 * wanted - found.other_bits
