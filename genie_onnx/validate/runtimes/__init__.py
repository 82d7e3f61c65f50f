"""Trying a file in other runtimes, each in a process of its own, and holding what they compute against the file."""

from __future__ import annotations

from genie_onnx.validate.runtimes.child import Answer, ask
from genie_onnx.validate.runtimes.doubts import doubt
from genie_onnx.validate.runtimes.finding import LIMIT, MovedCodes, OutputError, RuntimeFinding, judge
from genie_onnx.validate.runtimes.table import RUNTIMES, Runtime, is_installed

__all__ = [
    "LIMIT",
    "RUNTIMES",
    "Answer",
    "MovedCodes",
    "OutputError",
    "Runtime",
    "RuntimeFinding",
    "ask",
    "doubt",
    "is_installed",
    "judge",
]
