"""Judging model files by running them in onnxruntime: parity with a simulation, nearness to a float model, accuracy."""

from __future__ import annotations

from genie_onnx.validate.answers import Answer, Classes, answers
from genie_onnx.validate.by_operators import Reference
from genie_onnx.validate.checksums import changes, with_checksums
from genie_onnx.validate.classification import Classification, Confusion
from genie_onnx.validate.compare import (
    Comparison,
    Difference,
    OutputComparison,
    compare,
    compare_models,
    first_difference,
    run_both,
)
from genie_onnx.validate.float_parts import FloatParts, run_part
from genie_onnx.validate.kernels import KernelCounts, integer_kernels, weighted_layers
from genie_onnx.validate.measure import Measured
from genie_onnx.validate.parity import check_parity, check_rounded_weights, require_parity
from genie_onnx.validate.parity_findings import HeadParity, OutputParity, Parity, ValueParity
from genie_onnx.validate.rules import broken_rules
from genie_onnx.validate.session import Provider, Session, cuda_works, has_cuda, run
from genie_onnx.validate.statistics import Figure, PairedDifference

__all__ = [
    "Answer",
    "Classes",
    "Classification",
    "Comparison",
    "Confusion",
    "Difference",
    "Figure",
    "FloatParts",
    "HeadParity",
    "KernelCounts",
    "Measured",
    "OutputComparison",
    "OutputParity",
    "PairedDifference",
    "Parity",
    "Provider",
    "Reference",
    "Session",
    "ValueParity",
    "answers",
    "broken_rules",
    "changes",
    "check_parity",
    "check_rounded_weights",
    "compare",
    "compare_models",
    "cuda_works",
    "first_difference",
    "has_cuda",
    "integer_kernels",
    "require_parity",
    "run",
    "run_both",
    "run_part",
    "weighted_layers",
    "with_checksums",
]
