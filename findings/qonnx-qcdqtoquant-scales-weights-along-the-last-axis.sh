#!/usr/bin/env bash
# qonnx's QCDQToQuant multiplies weights that have a scale a channel along their last axis: an error, or silently other numbers.
#
# Versions: qonnx 1.0.0, onnx 1.23.2, onnxruntime 1.32.0, numpy 2.4.6.
# INT8 weights behind a DequantizeLinear with a scale for each output channel (axis 0) are the usual form of a QDQ file.
# QCDQToQuant, which is there to read that form, multiplies the codes by the scales before it gives these the shape of
# their axis, so numpy broadcasts them along the last one. Where that has another size there is an error about shapes;
# where it is as long as there are channels (3 channels and kernels 3 wide, a square Gemm) the transformation succeeds,
# and the network computes something else.
# A way round: one scale for the tensor; or write QONNX's Quant nodes by oneself.
# Seen on 2026-12-01, Linux x86-64, Python 3.11.7:
#   4 channels, kernel 3 wide: ValueError: operands could not be broadcast together with shapes (4,2,1,3) (4,)
#   3 channels, kernel 3 wide: onnxruntime [6.0, 12.0, 18.0], behind QCDQToQuant [12.0, 12.0, 12.0]
#   3 channels, kernel 3 wide, one scale: onnxruntime [6.0, 6.0, 6.0], behind QCDQToQuant [6.0, 6.0, 6.0]
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
from qonnx.transformation.infer_shapes import InferShapes
from qonnx.transformation.qcdq_to_qonnx import QCDQToQuant

x = np.ones((1, 2, 1, 3), np.float32)


def build(channels, scales):
    """Return a Conv of codes that are all 1, kernel 3 wide, with `scales` a channel or one for all."""
    count = len(scales)
    shape, axis = (f"[{count}]", "<axis = 0>") if count > 1 else ("", "")
    numbers, zeros = ", ".join(map(str, scales)), ", ".join("0" * count)
    model = onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["": 13]> g (float[1, 2, 1, 3] x) => (float[1, {channels}, 1, 1] y)'
        f" <float{shape} s = {{{numbers}}}, int8{shape} z = {{{zeros}}}>"
        f" {{ w = DequantizeLinear {axis} (codes, s, z) y = Conv (x, w) }}"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((channels, 2, 1, 3), np.int8), "codes"))
    onnx.checker.check_model(model, full_check=True)
    return model


def outcome(model):
    """Return what the model computes behind QCDQToQuant, or the error."""
    try:
        changed = ModelWrapper(model).transform(QCDQToQuant()).transform(InferShapes())
    except ValueError as error:
        return f"{type(error).__name__}: {error}"
    assert [node.op_type for node in changed.graph.node] == ["Quant", "Conv"]
    return execute_onnx(changed, {"x": x})["y"].ravel().tolist()


error = outcome(build(4, [1, 2, 3, 4]))
print(f"4 channels, kernel 3 wide: {error}")
as_before = isinstance(error, str) and "broadcast" in error
for name, scales, found in (("", [1, 2, 3], [12, 12, 12]), (", one scale", [1], [6, 6, 6])):
    model = build(3, scales)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    right, changed = session.run(None, {"x": x})[0].ravel().tolist(), outcome(model)
    print(f"3 channels, kernel 3 wide{name}: onnxruntime {right}, behind QCDQToQuant {changed}")
    as_before &= right == [6 * scale for scale in (scales * 3)[:3]] and changed == found
sys.exit(0 if as_before else "changed: not what the head of this script states")
PY
