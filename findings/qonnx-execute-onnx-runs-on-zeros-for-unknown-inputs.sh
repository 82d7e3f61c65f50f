#!/usr/bin/env bash
# qonnx's execute_onnx ignores an input under a name that the model does not have, and runs the model on zeros.
#
# Versions: qonnx 1.0.0, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# onnxruntime and onnx.reference refuse an input name that the model does not have, and a missing input. execute_onnx
# does neither: what is not given is an array of zeros, and no word is said. qonnx's own cleanup_model renames inputs to
# global_in, so the name that was right before it is wrong after it, and a comparison of the two models, fed alike,
# compares the second one on zeros.
# A way round: take names from the model, model.graph.input[0].name, after each transformation.
# Seen on 2026-12-01, Linux x86-64, Python 3.11.7:
#   fed x: [6.0, 6.0]
#   behind cleanup_model, input global_in, fed x: [1.0, 1.0]
#   behind cleanup_model, fed nothing: [1.0, 1.0]
#   behind cleanup_model, fed global_in: [6.0, 6.0]
#   onnxruntime, fed x in place of global_in: refused
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check qonnx==1.0.0 onnx==1.23.2 onnxruntime==1.32.0 numpy==2.4.6
"$folder/venv/bin/python" -W ignore - <<'PY'
import sys

import numpy as np
import onnx.parser
import onnxruntime
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.core.onnx_exec import execute_onnx
from qonnx.util.cleanup import cleanup_model

model = onnx.parser.parse_model(
    '<ir_version: 8, opset_import: ["": 13]> g (float[1, 2] x) => (float[1, 2] y) <float[1] one = {1}> { y = Add (x, one) }'
)
onnx.checker.check_model(model, full_check=True)
x = np.full((1, 2), 5, np.float32)


def computed(model, fed):
    """Return what execute_onnx makes of the inputs `fed`."""
    (y,) = execute_onnx(model, fed).values()
    return y.ravel().tolist()


before = ModelWrapper(model)
right = computed(before, {"x": x})
print(f"fed x: {right}")
after = cleanup_model(ModelWrapper(model))
name = after.graph.input[0].name
unknown, nothing, known = computed(after, {"x": x}), computed(after, {}), computed(after, {name: x})
print(f"behind cleanup_model, input {name}, fed x: {unknown}")
print(f"behind cleanup_model, fed nothing: {nothing}")
print(f"behind cleanup_model, fed {name}: {known}")
session = onnxruntime.InferenceSession(after.model.SerializeToString(), providers=["CPUExecutionProvider"])
try:
    session.run(None, {"x": x})
    refused = False
except ValueError:
    refused = True
print(f"onnxruntime, fed x in place of {name}: {'refused' if refused else 'not refused'}")
as_before = right == known == [6, 6] and unknown == nothing == [1, 1] and name != "x" and refused
sys.exit(0 if as_before else "changed: not what the head of this script states")
PY
