"""Which selections have a grid of their own (placement.selections): a table that is told, saved in the run directory and applied.

own_grids.json    the selections that were measured to lose much on the grid of what they are selected from; often none
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from genie_onnx.config import PlacementConfig
from genie_onnx.errors import RunError
from genie_onnx.placement import place
from genie_onnx.prepare import Prepared
from genie_onnx.targets import Constraints


@dataclass(frozen=True, kw_only=True)
class OwnGrid:
    """Selections that share one new grid. The decibels are the SQNR of rounding the one that gains most, `value`."""

    values: tuple[str, ...]  # topological
    value: str
    source: str  # what `value` is selected from
    bits: int
    shared_db: float  # on the grid of the source ...
    own_db: float  # ... and on its own

    def __str__(self) -> str:
        """Say what it gains: "'slice' at 4 bits: 12.3 dB on the grid of 'pool', 21.0 dB on its own"."""
        return (
            f"'{self.value}' at {self.bits} bits: {self.shared_db:.1f} dB on the grid of '{self.source}', "
            f"{self.own_db:.1f} dB on its own"
        )


@dataclass(frozen=True, kw_only=True)
class OwnGrids:
    """All of them, topological, and the nodes that hand out floats for it: they are no integer kernels in onnxruntime then."""

    grids: tuple[OwnGrid, ...]
    float_nodes: tuple[str, ...]

    @property
    def values(self) -> frozenset[str]:
        """The selections with a grid of their own."""
        return frozenset(value for grid in self.grids for value in grid.values)

    def applied(self, prepared: Prepared, config: PlacementConfig, constraints: Constraints) -> Prepared:
        """Return `prepared`, placed with `config` and these grids."""
        return prepared.placed(place(prepared.deploy, config, constraints, self.values))

    def to_json(self) -> str:
        """Return the table as JSON text."""
        return json.dumps(dataclasses.asdict(self), indent=2)


def own_grids_from_json(text: str) -> OwnGrids:
    """Return what `OwnGrids.to_json` wrote. Raises RunError where it is not that."""
    try:
        raw = json.loads(text)
        grids = tuple(OwnGrid(**{**grid, "values": tuple(grid["values"])}) for grid in raw["grids"])
        return OwnGrids(grids=grids, float_nodes=tuple(raw["float_nodes"]))
    except (ValueError, TypeError, KeyError) as error:
        raise RunError(f"this is no table of grids: {error!r}") from error
