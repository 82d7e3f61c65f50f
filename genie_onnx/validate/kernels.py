"""Which kernels onnxruntime really runs at its default settings: integer ones, or float ones between Q and DQ.

Counted in the graph that onnxruntime writes out after optimising it.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort

from genie_onnx.validate.session import File, runtime_errors, session_options

FLOAT_KERNELS = ("Conv", "FusedConv", "NhwcFusedConv", "ConvTranspose", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
_INTEGER = ("QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat")  # beside QLinear...


@dataclass(frozen=True, kw_only=True)
class KernelCounts:
    """Nodes of the optimised graph by operator: `integer` ones, and weighted operators left in `floating` point."""

    integer: dict[str, int]
    floating: dict[str, int]

    def to_json(self) -> dict[str, dict[str, int]]:
        """Return the counts as plain data."""
        return {"integer": self.integer, "floating": self.floating}


def integer_kernels(model: File) -> KernelCounts:
    """Load `model` in onnxruntime with default options and count its kernels. Raises RunError where it refuses the model."""
    options = session_options(optimise=True)
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        options.optimized_model_filepath = str(optimised)
        source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
        with runtime_errors("load"):
            ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        counts = Counter(node.op_type for node in onnx.load_model(optimised).graph.node)
    return KernelCounts(
        integer={op: n for op, n in sorted(counts.items()) if op.startswith("QLinear") or op in _INTEGER},
        floating={op: n for op, n in sorted(counts.items()) if op in FLOAT_KERNELS},
    )
