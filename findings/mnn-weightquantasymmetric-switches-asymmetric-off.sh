#!/usr/bin/env bash
# mnnconvert's option --weightQuantAsymmetric, "default: false", switches the asymmetric quantization of weights off.
#
# Versions: MNN 3.6.1, onnx 1.23.2, numpy 2.4.6.
# Its help says that --weightQuantBits quantizes symmetrically, and that --weightQuantAsymmetric is to be set for asymmetric
# grids. It is the other way round: without the option each channel gets a grid between its own least and greatest weight,
# with it one that is symmetric; "=true" is symmetric as well, "=1" is not. Weights that are 4-bit codes already show
# which: codes -8..7 are exact on the asymmetric grid alone, codes -7..7 on the symmetric one alone, and the other grid is
# off by about half a code. (The command mnnconvert also has the pip of the PATH install a logging package, to report the
# run; below, the function that it calls is called by itself.)
# A way round: --weightQuantAsymmetric=0 or =1, always.
# Seen on 2026-12-01, Linux x86-64, Python 3.11.7, largest error in codes:
#   no option: -8..7 0.000, -7..7 0.467
#   --weightQuantAsymmetric: -8..7 0.571, -7..7 0.000
#   --weightQuantAsymmetric=true: -8..7 0.571, -7..7 0.000
#   --weightQuantAsymmetric=1: -8..7 0.000, -7..7 0.467
#   --weightQuantAsymmetric=0: -8..7 0.571, -7..7 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check MNN==3.6.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import subprocess
import sys
from pathlib import Path

import MNN.expr as expr
import MNN.nn
import numpy as np
import onnx.parser

folder = Path(sys.argv[1])
MNNCONVERT = [sys.executable, "-c", "import sys, _tools; _tools.mnnconvert(sys.argv)"]
STEPS = np.array([0.1, 0.2, 0.3, 0.4], np.float32)[:, None]  # of each output channel


def largest_error(low, option):
    """Return how far weights that are codes low..7 are off behind a conversion to 4 bits, in codes."""
    codes = np.maximum(np.arange(-8, 8), low)  # 16 input channels
    weight = (STEPS * codes).astype(np.float32)
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 13]> g (float[1, 16, 1, 1] x) => (float[1, 4, 1, 1] y) { y = Conv (x, w) }'
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight.reshape(4, 16, 1, 1), "w"))
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, folder / "model.onnx")
    command = [*MNNCONVERT, "-f", "ONNX", "--modelFile", folder / "model.onnx", "--MNNModel", folder / "model.mnn"]
    command += ["--bizCode", "test", "--weightQuantBits", "4", *option]
    subprocess.run(command, check=True, capture_output=True)
    net = MNN.nn.load_module_from_file(str(folder / "model.mnn"), ["x"], ["y"])
    columns = []
    for k in range(16):  # one input channel at a time is 1: the output is a column of the weight
        x = expr.const(np.eye(16, dtype=np.float32)[k].tolist(), [1, 16, 1, 1], expr.NCHW)
        columns.append(np.array(expr.convert(net.forward([x])[0], expr.NCHW).read()).ravel()[:4])
    return float(np.abs((np.array(columns).T - weight) / STEPS).max())


as_before = True
for option, asymmetric in (
    ([], True),
    (["--weightQuantAsymmetric"], False),
    (["--weightQuantAsymmetric=true"], False),
    (["--weightQuantAsymmetric=1"], True),
    (["--weightQuantAsymmetric=0"], False),
):
    wide, narrow = largest_error(-8, option), largest_error(-7, option)
    print(f"{' '.join(option) or 'no option'}: -8..7 {wide:.3f}, -7..7 {narrow:.3f}")
    as_before &= (wide < 0.01) == asymmetric and (narrow < 0.01) != asymmetric
helped = " ".join(subprocess.run([*MNNCONVERT, "--help"], capture_output=True, text=True).stdout.split())
as_before &= "the default weight-quant uses SYMMETRIC quant method" in helped
sys.exit(0 if as_before else "changed: not what the head of this script states")
PY
