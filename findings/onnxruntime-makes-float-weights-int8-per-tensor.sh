#!/usr/bin/env bash
# onnxruntime makes the float weight of a Conv int8, with one scale for all channels, where Q and DQ stand around it.
#
# Versions: onnxruntime 1.31.1 (CPU), onnx 1.23.2, numpy 2.4.6.
# A QDQ file whose Conv has quantized activations and a FLOAT weight says that the weight is kept in float. From
# ENABLE_BASIC on, the default included, onnxruntime quantizes it to int8 at load: asymmetric, one scale for the whole
# tensor. Below, output channel 0 holds a single 1 and channel 1 holds 64 weights of 0.0015: one int8 step is 1 / 255, so
# all weights of channel 1 become 0 and its output, 12 steps of the output's grid, is 0.
# A way round: the session option session.disable_quant_qdq=1 (no integer kernels then), or no Q/DQ around a layer that
# is to stay float.
# Seen on 2026-12-01, Linux x86-64:
#   onnx.reference: [0.9921875, 0.09375]
#   DISABLE_ALL: [0.9921875, 0.09375], weight FLOAT
#   ENABLE_BASIC: [0.9921875, 0.0], weight INT8, 1 scale
#   ENABLE_BASIC, session.disable_quant_qdq=1: [0.9921875, 0.09375], weight FLOAT
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - "$folder/optimized.onnx" <<'PY'
import sys

import numpy as np
import onnx.parser
import onnxruntime
from onnx.reference import ReferenceEvaluator

model = onnx.parser.parse_model("""
<ir_version: 9, opset_import: ["": 19]>
g (float[1, 64, 1, 1] x) => (float[1, 2, 1, 1] y) <float s = {0.0078125}, uint8 z = {128}> {
    xq = QuantizeLinear (x, s, z)
    xd = DequantizeLinear (xq, s, z)
    c = Conv (xd, weight)
    cq = QuantizeLinear (c, s, z)
    y = DequantizeLinear (cq, s, z)
}""")
weight = np.zeros((2, 64, 1, 1), np.float32)
weight[0, 0], weight[1] = 1, 0.0015
model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "weight"))
onnx.checker.check_model(model, full_check=True)
x = np.full((1, 64, 1, 1), 127 / 128, np.float32)  # on the grid of the input


def outcome(level, **entries):
    """Return the output of `model` and the type and number of scales of its 4-dimensional weight in the session."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.optimized_model_filepath = level, sys.argv[1]
    options.log_severity_level = 3  # its warning about writing the optimized model
    for key, value in entries.items():
        options.add_session_config_entry(f"session.{key}", value)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    graph = onnx.load(sys.argv[1]).graph
    held = {tensor.name: tensor for tensor in graph.initializer}
    (kernel,) = (tensor for tensor in held.values() if len(tensor.dims) == 4)
    kind = onnx.TensorProto.DataType.Name(kernel.data_type)
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] == kernel.name:
            kind += f", {onnx.numpy_helper.to_array(held[node.input[1]]).size} scale"
    return session.run(None, {"x": x})[0].ravel().tolist(), kind


Levels = onnxruntime.GraphOptimizationLevel
reference = ReferenceEvaluator(model).run(None, {"x": x})[0].ravel().tolist()
print(f"onnx.reference: {reference}")
found = {
    "DISABLE_ALL": outcome(Levels.ORT_DISABLE_ALL),
    "ENABLE_BASIC": outcome(Levels.ORT_ENABLE_BASIC),
    "ENABLE_BASIC, session.disable_quant_qdq=1": outcome(Levels.ORT_ENABLE_BASIC, disable_quant_qdq="1"),
}
for level, (y, kind) in found.items():
    print(f"{level}: {y}, weight {kind}")
expected = [(reference, "FLOAT"), ([reference[0], 0.0], "INT8, 1 scale"), (reference, "FLOAT")]
as_before = reference == [0.9921875, 0.09375] and list(found.values()) == expected
sys.exit(0 if as_before else "changed: not what the head of this script states")
PY
