"""The bits of each block's weights, chosen for a goal: a table that is printed, saved in the run directory and applied.

bits.json    the plan, with the damage that each block does at each width
bits.toml    the same as options about single layers: `--layers bits.toml` quantizes to these bits without measuring again
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass

from genie_onnx.config import PlacementConfig
from genie_onnx.errors import RunError
from genie_onnx.placement import Placement, place
from genie_onnx.prepare import Prepared
from genie_onnx.targets import Constraints

FLOAT_INPUT = 8  # bits of an input that is not rounded (the image, with --points layer-inputs): asking for bits rounds it


@dataclass(frozen=True, kw_only=True)
class BlockBits:
    """`damage` at each width is in the unit of the plan: what the block's weights alone do to the outputs."""

    block: str
    bits: int
    parameters: int  # weights whose bits are free
    damage: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class BitPlan:
    """`weights` has the bits of every quantised weight by the name of its initializer, `abits` are those of activations."""

    goal: str
    unit: str  # of damages
    blocks: tuple[BlockBits, ...]  # topological
    weights: Mapping[str, int]
    abits: int
    bytes: int  # of the model with quantised weights at their true bits
    bytes_at_8: int
    average: float  # bits of a weight whose bits are free
    drop: float | None = None  # as BitGoal has it, measured at these bits with briefly learned rounding

    def to_json(self) -> str:
        """Return the plan as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)

    def applied(self, prepared: Prepared, config: PlacementConfig, constraints: Constraints) -> Prepared:
        """Return `prepared`, placed with `config` for the bits of the plan. Raises RunError for the plan of another model."""
        config = dataclasses.replace(config, abits=self.abits)
        return prepared.placed(with_weight_bits(prepared, config, constraints, self.weights))

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


def with_weight_bits(
    prepared: Prepared, config: PlacementConfig, constraints: Constraints, weights: Mapping[str, int]
) -> Placement:
    """Return the placement of `config` with `weights` having these bits."""
    placement = place(prepared.deploy, config, constraints, prepared.placement.own_grids)
    unknown = weights.keys() ^ {spec.value for spec in placement.weights}
    if unknown:
        raise RunError(f"the plan of bits is of another model: {', '.join(sorted(unknown)[:3])}")
    return dataclasses.replace(
        placement, weights=tuple(dataclasses.replace(spec, bits=weights[spec.value]) for spec in placement.weights)
    )


def plan_from_json(text: str) -> BitPlan:
    """Return what `BitPlan.to_json` wrote. Raises RunError where it is not that."""
    try:
        raw = json.loads(text)
        blocks = tuple(
            BlockBits(**{**block, "damage": {int(width): float(d) for width, d in block["damage"].items()}})
            for block in raw.pop("blocks")
        )
        return BitPlan(blocks=blocks, **raw)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"this is no plan of bits: {error!r}") from error
