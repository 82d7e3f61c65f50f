"""What is in a file, and whether a quantized file has its interface: `python exporters_look.py FLOAT [QUANTIZED]` prints JSON.

{"opset": 18, "ir": 10, "input": "1x3x96x96", "batchnorms": 0, "external": 88, "operators": "Conv 46, Gemm 1",
 "interface": "same"}
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from typing import Any

import onnx
import onnxruntime

NOTED = (
    *("Conv", "ConvTranspose", "MatMul", "Gemm", "LSTM", "ConvInteger", "DynamicQuantizeLinear", "HardSwish", "HardSigmoid"),
    *("Erf", "Gelu", "LayerNormalization", "InstanceNormalization", "Softmax", "Transpose", "Identity", "Cast", "If"),
    *("NonMaxSuppression", "TopK", "GridSample"),
)
"""Operators that say what kind of file it is."""


def main() -> None:
    """Print the JSON."""
    float_file, quantized = sys.argv[1], sys.argv[2:]
    model = onnx.load(float_file, load_external_data=False)
    stored = {tensor.name for tensor in model.graph.initializer}
    counts = Counter(node.op_type for node in model.graph.node)
    found: dict[str, Any] = {
        "opset": next(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        "ir": model.ir_version,
        "input": " + ".join(shape(value) for value in model.graph.input if value.name not in stored),
        "batchnorms": counts["BatchNormalization"],
        "external": sum(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer),
        "operators": ", ".join(f"{name} {counts[name]}" for name in NOTED if counts[name]),
    }
    if quantized:
        found["interface"] = compared(float_file, quantized[0])
    print(json.dumps(found))


def shape(value: onnx.ValueInfoProto) -> str:
    """Return the declared shape, e.g. Nx3x?x?."""
    dims = value.type.tensor_type.shape.dim
    return "x".join(d.dim_param or (str(d.dim_value) if d.HasField("dim_value") else "?") for d in dims) or "scalar"


def opened(value: onnx.ValueInfoProto) -> list[str]:
    """Return the declared dimensions; -1 is open, as every reader takes it: ONNX gives it no meaning."""
    dims = value.type.tensor_type.shape.dim
    return [d.dim_param or (str(d.dim_value) if d.HasField("dim_value") and d.dim_value >= 0 else "?") for d in dims]


def compared(first: str, second: str) -> str:
    """Return "same", or what differs: seen by onnxruntime, or declared in the file."""
    sessions = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (first, second)]
    seen = [[(v.name, v.type, v.shape) for v in (*s.get_inputs(), *s.get_outputs())] for s in sessions]
    if len(seen[0]) != len(seen[1]):
        return f"{len(seen[1])} inputs and outputs for {len(seen[0])}"
    for a, b in zip(*seen, strict=True):
        if a != b:
            return f"{b} for {a}"
    stored = [onnx.load(file, load_external_data=False).graph for file in (first, second)]
    for a, b in zip((*stored[0].input, *stored[0].output), (*stored[1].input, *stored[1].output), strict=False):
        if a.name == b.name and opened(a) != opened(b):
            return f"same in onnxruntime; {a.name} is declared {shape(b)} for {shape(a)}"
    return "same"


if __name__ == "__main__":
    main()
