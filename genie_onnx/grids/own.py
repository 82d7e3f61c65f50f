"""Which selections have a grid of their own, and which Concats and other values none: a table that is told, saved and applied.

placement.selections, placement.joins and placement.wide say what becomes of it.

own_grids.json    the selections that were measured to lose much on the grid of what they are selected from, and the Concats that
                  lose an operand, and values that no grid can hold; often none
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

from genie_onnx.config import PlacementConfig
from genie_onnx.errors import RunError
from genie_onnx.placement import place
from genie_onnx.preparation.prepare import Prepared
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
class WideValue:
    """A value whose channels are too different for one grid."""

    value: str
    bits: int  # the most that a value may have
    share: float  # of its channels that rounding leaves nothing of
    output_db: float  # SQNR of the outputs with this value alone rounded

    def __str__(self) -> str:
        """Say what it costs: "'silu' at 8 bits: the outputs would have 9.4 dB by it alone"."""
        return f"'{self.value}' at {self.bits} bits: the outputs would have {self.output_db:.1f} dB by it alone"


@dataclass(frozen=True, kw_only=True)
class OwnGrids:
    """All of them, topological, and the nodes that hand out floats for it: they are no integer kernels in onnxruntime then.

    `lost` are Concats (`values`) whose operand `value` nothing would be left of on their one grid, `wide` values that no grid can
    hold: layers beside them are `float_layers`, which compute in float.
    """

    grids: tuple[OwnGrid, ...]
    float_nodes: tuple[str, ...]
    lost: tuple[OwnGrid, ...] = ()
    float_layers: tuple[str, ...] = ()
    wide: tuple[WideValue, ...] = ()

    @property
    def values(self) -> frozenset[str]:
        """The selections with a grid of their own, and the values without one."""
        own = {value for grid in (*self.grids, *self.lost) for value in grid.values}
        return frozenset(own.union(wide.value for wide in self.wide))

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
        grids, lost = (
            tuple(OwnGrid(**{**grid, "values": tuple(grid["values"])}) for grid in raw.get(part, ()))
            for part in ("grids", "lost")
        )
        layers = tuple(raw.get("float_layers", ()))
        wide = tuple(WideValue(**value) for value in raw.get("wide", ()))
        return OwnGrids(grids=grids, float_nodes=tuple(raw["float_nodes"]), lost=lost, float_layers=layers, wide=wide)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RunError(f"this is no table of grids: {error!r}") from error
