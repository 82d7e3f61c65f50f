"""The float network that is imitated, beside the one whose weights are rounded.

Equalisation multiplies channel c of a value v by e_c in the network to be rounded, and nowhere else; there it also cuts off what
is above a quantiser's ceiling. What the float network makes is brought to that scale where the two are compared:

    teacher(x) = e_y f(x / e_x)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from genie_onnx.importer import Network


@dataclass(frozen=True)
class Twin:
    """`network` is the float one, `scales` has e [C] of each value that is equalised; its channels are on axis 1."""

    network: Network
    scales: Mapping[str, Tensor] = field(default_factory=dict)

    def function(self, inputs: Sequence[str], outputs: Sequence[str]) -> Callable[..., tuple[Tensor, ...]]:
        """Return the part from `inputs` to `outputs`, which takes and gives values at the scale of the network to be rounded."""
        module = self.network.extract(inputs, outputs).module
        if self.scales.keys().isdisjoint((*inputs, *outputs)):
            return lambda *values: tuple(module(*values))

        def scaled(*values: Tensor) -> tuple[Tensor, ...]:
            floats = [x / self.of(name, x) if name in self.scales else x for name, x in zip(inputs, values, strict=True)]
            results = module(*floats)
            return tuple(y * self.of(name, y) if name in self.scales else y for name, y in zip(outputs, results, strict=True))

        return scaled

    def of(self, value: str, x: Tensor) -> Tensor:
        """Return e of `value`, shaped to broadcast against `x` [N, C, ...]."""
        return self.scales[value].to(x.device).view(1, -1, *(1,) * (x.dim() - 2))
