"""The bits of each block's weights and of the costliest values, chosen for a goal: printed, saved in the run directory, applied.

bits.json    the plan, with the damage that each block and each value does at each width
bits.toml    the same as options about single layers: `--layers bits.toml` quantizes to these bits without measuring again
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from genie_onnx.config import PlacementConfig
from genie_onnx.errors import RunError
from genie_onnx.placement import Placement, place
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.targets import Constraints

FLOAT_INPUT = 8  # bits of an input that is not rounded (the image, with --points layer-inputs): asking for bits rounds it
NAMED = 5  # values in a sentence


@dataclass(frozen=True, kw_only=True)
class BlockBits:
    """`damage` at each width is in the unit of the plan: what the block's weights alone do to the outputs."""

    block: str
    bits: int
    parameters: int  # weights whose bits are free
    damage: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class ValueBits:
    """A grid whose bits were free. `damage` at those asked for, and at more, is in the unit of the plan: what it does alone."""

    values: tuple[str, ...]  # that share the grid, topological; it is named after the first
    bits: int
    elements: int  # of one image
    damage: Mapping[int, float]

    @property
    def wider(self) -> bool:
        """Whether it has more bits than were asked for."""
        return self.bits > min(self.damage)


@dataclass(frozen=True, kw_only=True)
class BitPlan:
    """`weights` has the bits of every quantised weight by the name of its initializer, `abits` are those asked for (--abits)."""

    goal: str
    unit: str  # of damages
    blocks: tuple[BlockBits, ...]  # topological
    weights: Mapping[str, int]
    abits: int
    bytes: int  # of the model with quantised weights at their true bits
    bytes_at_8: int
    average: float  # bits of a weight whose bits are free
    drop: float | None = None  # as BitGoal has it, measured at these bits with briefly learned rounding
    values: tuple[ValueBits, ...] = ()  # topological

    @property
    def wider(self) -> tuple[ValueBits, ...]:
        """The values that have more bits than were asked for."""
        return tuple(value for value in self.values if value.wider)

    def notices(self) -> list[str]:
        """Return what a user should know of it: which values have more bits, in a sentence."""
        if not self.wider:
            return []
        wide = max(value.bits for value in self.wider)
        if len(self.wider) == len(self.values):
            return [f"{wide} bits for all values that had fewer by --abits, {len(self.values)} in all."]
        elements = sum(value.elements for value in self.values)
        both = [min(value.damage) for value in self.values], [value.bits for value in self.values]
        asked, given = (sum(v.elements * bits for v, bits in zip(self.values, widths, strict=True)) / elements for widths in both)
        harm, of_those = (sum(value.damage[min(value.damage)] for value in values) for values in (self.values, self.wider))
        names = [f"'{value.values[0]}'" for value in self.wider]
        named = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" if len(names) > NAMED else "")
        return [
            f"{wide} bits for {len(names)} of {len(self.values)} values, those with "
            f"{100 * of_those / max(harm, 1e-30):.0f} % of the damage that rounding values does: {named} (on average {given:.1f} "
            f"bits, {asked:g} asked for)."
        ]

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def applied(self, prepared: Prepared, config: PlacementConfig, constraints: Constraints) -> Prepared:
        """Return `prepared`, placed with `config` for the bits of the plan. Raises RunError for the plan of another model."""
        config = dataclasses.replace(config, abits=self.abits)
        wider = {name: value.bits for value in self.wider for name in value.values}
        return prepared.placed(with_bits(prepared, config, constraints, self.weights, wider))

    def to_toml(self, prepared: Prepared) -> str:
        """Return the bits as `--layers` takes them, each layer with the bits that the value it reads has in `prepared`."""
        lines = [f"# {self.goal}: bits of weights / of what the layer reads", "[bits]"]
        reads = {str(node.name): node.inputs[0] for node in prepared.deploy.graph if node.inputs}
        for spec in prepared.placement.weights:
            for node in spec.nodes:
                value = reads[node]
                rounded = None if value is None else prepared.placement.activation_of(str(value.name))
                bits = FLOAT_INPUT if rounded is None else rounded.bits
                lines.append(f'{json.dumps(node)} = "{spec.bits}/{bits}"')  # strings of JSON are strings of TOML
        return "\n".join(lines) + "\n"


def with_bits(
    prepared: Prepared,
    config: PlacementConfig,
    constraints: Constraints,
    weights: Mapping[str, int],
    wider: Mapping[str, int],
) -> Placement:
    """Return the placement of `config` with `weights` having these bits, and the grids of the values `wider` at least these.

    Raises RunError where the weights are not those of the model.
    """
    placement = place(prepared.deploy, config, constraints, prepared.placement.own_grids)
    unknown = weights.keys() ^ {spec.value for spec in placement.weights}
    if unknown:
        raise RunError(f"the plan of bits is of another model: {', '.join(sorted(unknown)[:3])}")
    return dataclasses.replace(
        placement,
        weights=tuple(dataclasses.replace(spec, bits=weights[spec.value]) for spec in placement.weights),
        activations=tuple(
            dataclasses.replace(spec, bits=max(spec.bits, *(wider.get(value, 0) for value in spec.values)))
            for spec in placement.activations
        ),
    )


def plan_from_json(text: str) -> BitPlan:
    """Return what `BitPlan.to_json` wrote. Raises RunError where it is not that."""
    try:
        raw = json.loads(text)
        blocks = tuple(BlockBits(**_with_widths(block)) for block in raw.pop("blocks"))
        values = tuple(ValueBits(**{**_with_widths(v), "values": tuple(v["values"])}) for v in raw.pop("values", []))
        return BitPlan(blocks=blocks, values=values, **raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"this is no plan of bits: {error!r}") from error


def _with_widths(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Return `raw` with the widths of its damage as numbers, as they were before they became keys of JSON."""
    return {**raw, "damage": {int(width): float(damage) for width, damage in raw["damage"].items()}}
