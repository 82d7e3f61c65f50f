#!/usr/bin/env bash
# MNN 3.6.1: an Add with a Relu behind it, computed in int8, cuts at code 0 and not at the zero point of its output.
#
# What: Conv, Conv, Add, Relu, Conv, all given scales and zero points by --compressionParamsFile. With a zero point of 0 behind
# the Relu the result is that of the rounded float network to one step; with -128 (unsigned codes 0..255 as INT8) every value
# below the middle of the range becomes the middle.
# Expected: the same numbers for any zero point that the codes fit: the convolution alone is exact with -128.
# Seen: 2026-12-01, MNN 3.6.1 (PyPI), Python 3.12, x86-64:
#   zero point 0: largest difference 1 steps   zero point -128: largest difference 132 steps
# mnnconvert runs `pip install -U aliyun-log-python-sdk` by itself where that is not there (MNN/tools/utils/log.py), which replaced
# protobuf by an older one beside onnx; so it is installed here, and onnx stands in an environment of its own.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/env"
"$folder/env/bin/python" -m pip install --quiet MNN==3.6.1 "numpy<3" aliyun-log-python-sdk==0.9.52
"$folder/env/bin/python" -m venv "$folder/maker"
"$folder/maker/bin/python" -m pip install --quiet onnx==1.22.0 "numpy<3"
cat > "$folder/make.py" <<'PY'
import json, sys
import numpy as np, onnx
from onnx import helper, numpy_helper

zero, folder = int(sys.argv[1]), sys.argv[2]
rng = np.random.default_rng(0)
nodes, layers, tensors = [], [], []
scales = {"x": (0.02, 0), "h": (0.05, 0), "g": (0.06, 0), "r": (0.1, zero), "o": (0.2, 0)}


def value(name):
    scale, point = scales[name]
    return {"name": name, "bits": 8, "scales": [scale], "zeroPoint": point, "clampMin": -128, "clampMax": 127}


def conv(read, written):
    codes, scale = rng.integers(-7, 8, (8, 8, 3, 3)), (0.02 + 0.02 * rng.random(8)).astype(np.float32)
    tensors.append(numpy_helper.from_array((codes * scale[:, None, None, None]).astype(np.float32), f"w_{written}"))
    nodes.append(helper.make_node("Conv", [read, f"w_{written}"], [written], kernel_shape=[3, 3], pads=[1, 1, 1, 1]))
    weight = {"name": f"w_{written}", "bits": 8, "scales": scale.tolist(), "clampMin": -7, "clampMax": 7}
    layers.append({"opName": written, "input": [value(read)], "weight": [weight], "output": [value(written)]})
    return (codes * scale[:, None, None, None]).astype(np.float64)


def rounded(v, name):
    scale, point = scales[name]
    return (np.clip(np.rint(v / scale) + point, -128, 127) - point) * scale


def apply(v, w):
    padded = np.pad(v, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return np.einsum("nchwij,ocij->nohw", windows, w)


wh, wg = conv("x", "h"), conv("h", "g")
nodes += [helper.make_node("Add", ["h", "g"], ["s"]), helper.make_node("Relu", ["s"], ["r"])]
wo = conv("r", "o")
nodes.append(helper.make_node("Neg", ["o"], ["y"]))
shape = [1, 8, 8, 8]
info = [helper.make_tensor_value_info(name, 1, shape) for name in ("x", "y")]
graph = helper.make_graph(nodes, "g", info[:1], info[1:], tensors)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), f"{folder}/net.onnx")
table = {"version": "3.6.1", "algo": [{"type": "QUANTIZE", "quantParams": {"layer": layers}}]}
json.dump(table, open(f"{folder}/net.json", "w"))
x = (rng.integers(-100, 100, shape) * 0.02).astype(np.float32)
h = rounded(apply(rounded(x, "x"), wh), "h")
r = rounded(np.maximum(h + rounded(apply(h, wg), "g"), 0), "r")
np.savez(f"{folder}/expected.npz", x=x, y=-rounded(apply(r, wo), "o"))
PY
cat > "$folder/run.py" <<'PY'
import sys
import numpy as np
import MNN.expr as expr, MNN.nn as nn

folder = sys.argv[1]
data = np.load(f"{folder}/expected.npz")
net = nn.load_module_from_file(f"{folder}/net.mnn", ["x"], ["y"])
answer = net.forward([expr.const(data["x"].copy(), list(data["x"].shape), expr.NCHW)])
answer = answer[0] if isinstance(answer, (list, tuple)) else answer
found = np.array(expr.convert(answer, expr.NCHW).read()).reshape(data["y"].shape)
print(round(float(np.abs(found - data["y"]).max() / 0.2)))
PY
steps() {
    "$folder/maker/bin/python" "$folder/make.py" "$1" "$folder"
    PATH="$folder/env/bin:$PATH" "$folder/env/bin/mnnconvert" -f ONNX --modelFile "$folder/net.onnx" --MNNModel "$folder/net.mnn" \
        --bizCode finding --compressionParamsFile "$folder/net.json" > "$folder/log" 2>&1
    "$folder/env/bin/python" "$folder/run.py" "$folder" 2> /dev/null | tail -1
}
at_zero=$(steps 0)
at_minus=$(steps -128)
echo "zero point 0: largest difference $at_zero steps   zero point -128: largest difference $at_minus steps"
[ "$at_zero" -le 2 ] && [ "$at_minus" -gt 20 ]
