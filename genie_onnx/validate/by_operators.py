"""What onnxruntime makes of the user's own float operators, from what a file's layers hand to them.

    the file, node by node    -> heads
    heads, simulated codes    -> the user's operators, node by node    -> what the file should have

Asked only where a file has something else than the simulation (parity.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx

from genie_onnx.qparams import FloatArray
from genie_onnx.validate.float_parts import FloatParts
from genie_onnx.validate.session import Array, Session

SAME = 1e-5  # of the largest magnitude: the same operators in the same library on the same numbers

Simulate = Callable[[Sequence[str]], Mapping[str, FloatArray]]
"""Returns simulated values [n, ...] as they are before they are rounded, by the names that are asked for."""


@dataclass(frozen=True)
class Reference:
    """What a file is held against beside codes and outputs: the user's float operators, and any value of the simulation."""

    parts: FloatParts
    simulate: Simulate


@dataclass(frozen=True)
class Computed:
    """What was asked for, by name: `values` by the user's operators, `found` the file's heads and outputs, node by node."""

    values: dict[str, Array]
    found: dict[str, Array]

    def same(self, output: str) -> bool:
        """Whether the file computes `output` as the user's operators do, infinities and what is no number included."""
        if output not in self.values:
            return False
        right, found = self.values[output].astype(np.float64), self.found[output].astype(np.float64)
        magnitude = np.abs(right[np.isfinite(right)]).max(initial=0)
        return bool(np.isclose(found, right, rtol=0, atol=SAME * magnitude, equal_nan=True).all())


def by_operators(
    model: onnx.ModelProto,
    feeds: Mapping[str, Array],
    rounded: Mapping[str, Array],
    suspects: Sequence[str],
    outputs: Sequence[str],
    parts: FloatParts,
) -> Computed:
    """Compute `suspects` by `parts`; those that something is missing for are left out.

    `model` is fed with `feeds`; `rounded` has what the simulated codes stand for. `outputs` are those of `suspects` that the file
    has as they are.
    """
    wanted = tuple(dict.fromkeys((*present(model, parts.heads(suspects)), *outputs)))
    found = Session(model, wanted, optimise=False)(feeds) if wanted else {}
    given = {**feeds, **rounded, **found}
    whole = [name for name in suspects if all(source in given for source in parts.sources(name))]
    return Computed(values={name: parts.compute(name, given) for name in whole}, found=found)


def present(model: onnx.ModelProto, names: Sequence[str]) -> list[str]:
    """Return those of `names` that nodes of `model` write."""
    written = {name for node in model.graph.node for name in node.output}
    return [name for name in names if name in written]
