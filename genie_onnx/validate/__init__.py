"""Judging model files by running them in onnxruntime: parity with a simulation, nearness to a float model, accuracy."""

from __future__ import annotations

from genie_onnx.validate.answers import Answer, answers
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
from genie_onnx.validate.kernels import KernelCounts, integer_kernels
from genie_onnx.validate.measure import Measured
from genie_onnx.validate.parity import OutputParity, Parity, ValueParity, check_parity, check_rounded_weights, require_parity
from genie_onnx.validate.rules import broken_rules
from genie_onnx.validate.session import Provider, Session, cuda_works, has_cuda, run
from genie_onnx.validate.statistics import Figure, PairedDifference

__all__ = [
    "Answer",
    "Classification",
    "Comparison",
    "Confusion",
    "Difference",
    "Figure",
    "KernelCounts",
    "Measured",
    "OutputComparison",
    "OutputParity",
    "PairedDifference",
    "Parity",
    "Provider",
    "Session",
    "ValueParity",
    "answers",
    "broken_rules",
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
]
