"""Where a quantised file loses: value by value, weight by weight, block by block, against the float model."""

from __future__ import annotations

from genie_onnx.validate.layerwise.blocks import block_findings, owners, parts, value_findings
from genie_onnx.validate.layerwise.ceilings import lifted
from genie_onnx.validate.layerwise.effects import Effects, effects
from genie_onnx.validate.layerwise.findings import Advice, BlockFinding, Effect, Findings, ImagesKind, ValueFinding, WeightFinding
from genie_onnx.validate.layerwise.pairing import pair
from genie_onnx.validate.layerwise.qdq_graph import QdqGraph
from genie_onnx.validate.layerwise.values import Measured, measure
from genie_onnx.validate.layerwise.weights import weight_findings

__all__ = [
    "Advice",
    "BlockFinding",
    "Effect",
    "Effects",
    "Findings",
    "ImagesKind",
    "Measured",
    "QdqGraph",
    "ValueFinding",
    "WeightFinding",
    "block_findings",
    "effects",
    "lifted",
    "measure",
    "owners",
    "pair",
    "parts",
    "value_findings",
    "weight_findings",
]
