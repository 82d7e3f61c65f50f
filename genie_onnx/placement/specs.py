"""The result of placement: plain tables keyed by ONNX value and node names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class WeightSpec:
    """One initializer that becomes integer codes, per output channel.

    Invariants: bits in 2..8; at least one node. More than one node: the weight is tied, and all of them read the same codes.
    """

    value: str  # name of the initializer
    bits: int
    axis: int  # axis of the weight that counts output channels
    nodes: tuple[str, ...]  # names of the nodes that multiply by it, topological
    ungrouped: bool = False  # whether all of them are convolutions of one group

    def __post_init__(self) -> None:
        _check_bits(self.value, self.bits)
        if not self.nodes:
            raise ValueError(f"weight '{self.value}' is used by no node")


@dataclass(frozen=True, kw_only=True)
class ActivationSpec:
    """Values that share one per-tensor grid.

    Invariants: bits in 2..8; `name` is `values[0]`; values are distinct; roots are a part of values and never empty.
    Rounding the roots alone gives the same numbers as rounding every value: the others only repeat numbers that are rounded.
    """

    name: str  # the first value in topological order
    values: tuple[str, ...]  # every value that gets Q/DQ, topological
    roots: tuple[str, ...]  # the values that a simulation has to round, topological
    bits: int

    def __post_init__(self) -> None:
        _check_bits(self.name, self.bits)
        if not self.values or self.name != self.values[0]:
            raise ValueError(f"group '{self.name}' does not begin with the value it is named after: {self.values}")
        if len(set(self.values)) != len(self.values):
            raise ValueError(f"group '{self.name}' lists a value twice: {self.values}")
        if not self.roots or not set(self.roots) <= set(self.values):
            raise ValueError(f"group '{self.name}' has roots {self.roots} that are not among its values {self.values}")


@dataclass(frozen=True, kw_only=True)
class Placement:
    """All quantisers of a graph.

    Invariants: a value is in at most one group, an initializer in at most one WeightSpec, a weighted node either uses
    one quantised weight or stays float for a reason, and nothing is both a weight and an activation.
    """

    weights: tuple[WeightSpec, ...]  # in the order of their first node
    activations: tuple[ActivationSpec, ...]  # in topological order of their names
    float_nodes: Mapping[str, str]  # node of WEIGHTED_OPS that stays float -> why
    own_grids: frozenset[str] = frozenset()  # selections apart from their source; what no grid can hold (joins, wide)
    from_floats: frozenset[str] = frozenset()  # values of the nodes that read floats for that, where others read rounded numbers
    _group: dict[str, ActivationSpec] = field(init=False, repr=False, compare=False)
    _weight: dict[str, WeightSpec] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        values = [v for group in self.activations for v in group.values] + [w.value for w in self.weights]
        nodes = [n for w in self.weights for n in w.nodes] + list(self.float_nodes)
        for what, names in (("value", values), ("node", nodes)):
            if twice := _repeated(names):
                raise ValueError(f"{what}s placed more than once: {', '.join(twice)}")
        object.__setattr__(self, "_group", {v: group for group in self.activations for v in group.values})
        object.__setattr__(self, "_weight", {w.value: w for w in self.weights})

    def activation_of(self, value: str) -> ActivationSpec | None:
        """Return the group of a value, None where the value stays float."""
        return self._group.get(value)

    def weight_of(self, initializer: str) -> WeightSpec | None:
        """Return the spec of a weight, None where the initializer stays float."""
        return self._weight.get(initializer)


def _check_bits(name: str, bits: int) -> None:
    if not 2 <= bits <= 8:
        raise ValueError(f"'{name}' has {bits} bits; 2..8 are possible")


def _repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
