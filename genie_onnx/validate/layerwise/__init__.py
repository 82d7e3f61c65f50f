"""Where a quantised file loses: value by value, weight by weight, block by block, against the float model."""

from __future__ import annotations

from genie_onnx.validate.layerwise.findings import Advice, BlockFinding, Effect, Findings, ValueFinding, WeightFinding

__all__ = ["Advice", "BlockFinding", "Effect", "Findings", "ValueFinding", "WeightFinding"]
