#!/usr/bin/env bash
# onnxruntime's quantize_static puts every pixel of an image in -1..1 half-way between two codes of the 8-bit input grid.
#
# Versions: onnxruntime 1.31.1 (CPU), onnx 1.23.2, numpy 2.4.6.
# 8-bit pixels in 8-bit codes should lose nothing. Pixels that were brought to -1..1 by x / 127.5 - 1, as MobileNets want
# them, lose as much as a grid can lose: MinMax finds the range -1..1, makes the scale 2 / 255 and the zero point 128, and
# pixel k becomes k - 127.5 steps, for every k. So each of the 256 pixels is half a step off, the last bit of a division
# decides to which side, and 41 pairs of neighbours become one code. A range that is 2 % wider halves the mean error;
# pixels in 0..1 are exact.
# A way round: feed pixels in 0..1 and let the graph do the rest, or calibrate on a slightly wider range.
# Seen on 2026-12-01, Linux x86-64:
#   x / 127.5 - 1: scale 0.00784314, zero point 128, 215 codes for 256 pixels, error 0.500 to 0.500 steps, mean 0.500
#   x / 127.5 - 1, range 2 % wider: scale 0.00800000, zero point 128, 251 codes for 256 pixels, error 0.000 to 0.490 steps,
#     mean 0.249
#   x / 255: scale 0.00392157, zero point 0, 256 codes for 256 pixels, error 0.000 to 0.000 steps, mean 0.000
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.31.1 onnx==1.23.2 numpy==2.4.6
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
from pathlib import Path

import numpy as np
import onnx.parser
import onnxruntime
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static

folder = Path(sys.argv[1])
model = onnx.parser.parse_model("""
<ir_version: 8, opset_import: ["": 17]>
g (float[1, 1, 16, 16] x) => (float[1, 1, 16, 16] y) <float[1, 1, 1, 1] w = {1}> { y = Conv (x, w) }""")
onnx.checker.check_model(model, full_check=True)
onnx.save(model, folder / "model.onnx")
quantizer = onnx.parser.parse_model("""
<ir_version: 8, opset_import: ["": 13]>
g (float[1, 1, 16, 16] x, float s, uint8 z) => (uint8[1, 1, 16, 16] q) { q = QuantizeLinear (x, s, z) }""")
pixels = np.arange(256, dtype=np.float32).reshape(1, 1, 16, 16)


class Images(CalibrationDataReader):
    def __init__(self, *images):
        self.images = iter(images)

    def get_next(self):
        x = next(self.images, None)
        return None if x is None else {"x": x}


def look(name, x, calibration):
    """Return how many codes the pixels x get on the input grid of quantize_static, and their errors in steps."""
    quantize_static(
        folder / "model.onnx", folder / "quant.onnx", Images(calibration),
        quant_format=QuantFormat.QDQ, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
    )  # fmt: skip
    held = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in onnx.load(folder / "quant.onnx").graph.initializer}
    s, z = held["x_scale"], held["x_zero_point"]
    session = onnxruntime.InferenceSession(quantizer.SerializeToString(), providers=["CPUExecutionProvider"])
    codes = session.run(None, {"x": x, "s": s, "z": z})[0]
    errors = np.abs(x.astype(np.float64) / float(s) - (codes.astype(np.float64) - int(z)))
    print(
        f"{name}: scale {float(s):.8f}, zero point {int(z)}, {len(np.unique(codes))} codes for 256 pixels,"
        f" error {errors.min():.3f} to {errors.max():.3f} steps, mean {errors.mean():.3f}"
    )
    return len(np.unique(codes)), errors


centred, unit = pixels / np.float32(127.5) - np.float32(1), pixels / np.float32(255)
count, errors = look("x / 127.5 - 1", centred, centred)
wide_count, wide = look("x / 127.5 - 1, range 2 % wider", centred, np.float32(1.02) * centred)
unit_count, exact = look("x / 255", unit, unit)
as_before = count < 250 and errors.min() > 0.499 and errors.max() < 0.501
as_before &= wide_count > 245 and bool(0.2 < wide.mean() < 0.3)
as_before &= unit_count == 256 and exact.max() < 1e-3
sys.exit(0 if as_before else "changed: not what the head of this script states")
PY
