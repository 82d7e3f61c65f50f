"""What a comparison of a file with its simulation found, as plain values: of each rounded value, each head and each output."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from genie_onnx.validate.kernels import KernelCounts


@dataclass(frozen=True, kw_only=True)
class ValueParity:
    """One quantised value: codes compared and codes that differ, layer by layer and (`whole_`) in the file as it is."""

    name: str
    elements: int
    flips: int
    unexplained: int  # flips that are no matter of a rounding boundary
    max_step: int  # codes
    whole_flips: int
    whole_max_step: int
    ties: int = 0  # flips in the very middle between two codes
    arithmetic: int = 0  # of the other flips, those that onnxruntime makes of the user's own float operators, too


@dataclass(frozen=True, kw_only=True)
class OutputParity:
    """One graph output against the simulation's, layer by layer and (`whole_`) in the file as it is."""

    name: str
    magnitude: float  # largest absolute value in the simulation
    max_error: float
    mean_error: float
    whole_max_error: float
    whole_mean_error: float
    whole_sqnr_db: float
    elements: int = 0  # of integers or truth values (an ArgMax, a mask) ...
    differing: int = 0  # ... and how many of them are others: of two numbers that are all but equal, either may be the larger
    arithmetic: bool = False  # whether onnxruntime makes the file's numbers, not the simulation's, of the user's operators


@dataclass(frozen=True, kw_only=True)
class HeadParity:
    """What one layer writes as floats on the way to an output, or to codes that had to be looked into, layer by layer."""

    name: str
    magnitude: float  # largest absolute value in the simulation
    max_error: float


@dataclass(frozen=True, kw_only=True)
class Parity:
    """The finding. `problems` is empty exactly when file and simulation agree within the limits."""

    samples: int
    weights: int  # tensors compared, codes and scales exactly
    values: tuple[ValueParity, ...]
    outputs: tuple[OutputParity, ...]
    heads: tuple[HeadParity, ...]
    kernels: KernelCounts
    problems: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether the file computes what was simulated."""
        return not self.problems

    @property
    def flip_rate(self) -> float:
        """Flips that arose in a layer of their own, per code compared."""
        return sum(v.flips for v in self.values) / max(sum(v.elements for v in self.values), 1)

    @property
    def whole_flip_rate(self) -> float:
        """Codes that differ when the file runs as it is, per code compared."""
        return sum(v.whole_flips for v in self.values) / max(sum(v.elements for v in self.values), 1)

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return {"ok": self.ok, "flip_rate": self.flip_rate, "whole_flip_rate": self.whole_flip_rate, **asdict(self)}
