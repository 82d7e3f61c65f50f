#!/usr/bin/env bash
# onnxruntime moves a Transpose past a Resize as if the Resize had no `axes`: refused, fails in the run, or another shape.
#
# Versions: onnxruntime 1.31.1 (CPU), onnx 1.23.2, numpy 2.4.6.
# Transpose -> Resize -> Transpose is what a channels-last network holds wherever it scales an image up. Since opset 18
# Resize may name the axes that `sizes` or `scales` are for, in any order. The three models below pass the full check of
# onnx; onnx.reference computes them, and onnxruntime does so with optimisation off or ENABLE_BASIC. From
# ENABLE_EXTENDED on, the default included, the Transpose is moved and the permutation of a four-dimensional tensor is
# applied to what was written for `axes`: `sizes` for two axes is refused at load, `scales` for two axes fails in the
# run, and four axes that are not in rising order give an output of another shape, with no error at all.
# A way round: write `sizes` for all axes in order, without `axes`.
# Seen on 2026-12-01, Linux x86-64 (messages shortened):
#   axes [2, 3], sizes [8, 12]: shape (1, 8, 12, 2) by onnx.reference
#     ENABLE_EXTENDED: refused at load: ... Number of elements of input 'sizes' (0) does not match the number of axes (2).
#   axes [2, 3], scales [2.0, 2.0]: shape (1, 8, 12, 2) by onnx.reference
#     ENABLE_EXTENDED: fails in the run: ... Gather ... indices element out of data bounds, idx=2 ...
#   axes [0, 1, 3, 2], scales [1.0, 1.0, 2.0, 1.0]: shape (1, 4, 12, 2) by onnx.reference
#     ENABLE_EXTENDED: shape (1, 8, 6, 2)
#   DISABLE_ALL and ENABLE_BASIC: as onnx.reference
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import sys

import numpy as np
import onnx.parser
import onnxruntime
from onnx.reference import ReferenceEvaluator

HEAD = '<ir_version: 8, opset_import: ["": 18]> g (float[1, 4, 6, 2] x) => (float[A, B, C, D] y)'
CHANNELS_FIRST, CHANNELS_LAST = "perm = [0, 3, 1, 2]", "perm = [0, 2, 3, 1]"
Levels = onnxruntime.GraphOptimizationLevel
x = np.arange(48, dtype=np.float32).reshape(1, 4, 6, 2)


def build(axes, key, numbers):
    """Return the model: channels last -> channels first -> Resize -> channels last."""
    kind, inputs = ("int64", "t, , , k") if key == "sizes" else ("float", "t, , k")
    values = f"{kind}[{len(axes)}] k = {{{', '.join(map(str, numbers))}}}"
    model = onnx.parser.parse_model(
        f"{HEAD} <{values}> {{ t = Transpose <{CHANNELS_FIRST}> (x)  "
        f'r = Resize <axes = {axes}, mode = "nearest"> ({inputs})  y = Transpose <{CHANNELS_LAST}> (r) }}'
    )
    onnx.checker.check_model(model, full_check=True)
    return model


def outcome(model, level):
    """Return what onnxruntime makes of `model` at `level`: its output, or where it failed and how."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 4
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        return f"refused at load: {error}"
    try:
        return session.run(None, {"x": x})[0]
    except Exception as error:
        return f"fails in the run: {error}"


as_before = as_computed = True
for axes, key, numbers, expected in (
    ([2, 3], "sizes", [8, 12], "refused at load"),
    ([2, 3], "scales", [2.0, 2.0], "fails in the run"),
    ([0, 1, 3, 2], "scales", [1.0, 1.0, 2.0, 1.0], "shape (1, 8, 6, 2)"),
):
    model = build(axes, key, numbers)
    (reference,) = ReferenceEvaluator(model).run(None, {"x": x})
    print(f"axes {axes}, {key} {numbers}: shape {reference.shape} by onnx.reference")
    for level in (Levels.ORT_DISABLE_ALL, Levels.ORT_ENABLE_BASIC):
        as_computed &= bool(np.array_equal(outcome(model, level), reference))
    found = outcome(model, Levels.ORT_ENABLE_EXTENDED)
    found = found if isinstance(found, str) else f"shape {found.shape}"
    print(f"  ENABLE_EXTENDED: {found}")
    as_before &= found.startswith(expected)
print(f"DISABLE_ALL and ENABLE_BASIC: {'as' if as_computed else 'not as'} onnx.reference")
as_before &= as_computed
sys.exit(0 if as_before else "changed: not what the head of this script states")
PY
