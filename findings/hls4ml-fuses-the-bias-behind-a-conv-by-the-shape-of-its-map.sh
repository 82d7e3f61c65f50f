#!/usr/bin/env bash
# Whether hls4ml converts a QONNX Conv depends on where its bias is and how its weight is scaled, not on what it computes.
#
# Versions: hls4ml 1.3.0, qonnx 1.0.0, onnx 1.23.2, numpy 2.4.6 (Python 3.11).
# A 3x3 Conv of 3 to 4 channels on an 8x8 map, weight and value behind Quant, all scales powers of two, zero points 0, its bias
# inside or as an Add behind it. The weight has a scale a channel, or one in all. Of the four forms two convert. One scale and
# an Add fails in FuseBatchNormalization: the Add is an affine layer of scale 1 there, which is broadcast to the map, [8, 8, 4],
# and multiplied with the weight [3, 3, 3, 4]. Scales a channel that happen to be equal count as one scale, so one file
# needs both forms, and which layer needs which follows from its numbers.
# Way round: keep the bias in a Conv whose scales are all equal, put it into an Add behind the others.
# Seen on 2026-12-01, Linux x86-64:
#   a scale a channel, bias as an Add: converts
#   a scale a channel, bias inside: IndexError: list index out of range
#   one scale, bias as an Add: ValueError: operands could not be broadcast together with shapes (8,8,4) (3,3,3,4)
#   one scale, bias inside: converts
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"${PYTHON:-python3}" -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check hls4ml==1.3.0 qonnx==1.0.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PY' 2> "$folder/messages" || { tail -n 5 "$folder/messages"; exit 1; }
import contextlib
import io
import sys

import hls4ml
import numpy as np
import onnx
from onnx import numpy_helper, parser
from qonnx.core.modelwrapper import ModelWrapper
from qonnx.transformation.channels_last import ConvertToChannelsLastAndClean
from qonnx.util.cleanup import cleanup_model

TEXT = """<ir_version: 8, opset_import: ["": 13, "qonnx.custom_op.general": 1]>
g (float[1,3,8,8] x) => (float[1,4,8,8] y) {
    q = qonnx.custom_op.general.Quant <signed=1, narrow=0, rounding_mode="ROUND"> (x, s, zero, bits)
    v = qonnx.custom_op.general.Quant <signed=1, narrow=0, rounding_mode="ROUND"> (w, t, zero, bits)
    BODY }"""
CONV = "Conv <kernel_shape=[3,3], pads=[1,1,1,1], strides=[1,1], dilations=[1,1], group=1>"
BODIES = {"bias as an Add": f"c = {CONV} (q, v)  y = Add(c, b)", "bias inside": f"y = {CONV} (q, v, b)"}
SCALES = {"a scale a channel": [0.25, 0.5, 0.25, 0.125], "one scale": [0.25] * 4}


def attempt(scales, body):
    """Convert one form; return what came of it."""
    proto = parser.parse_model(TEXT.replace("BODY", BODIES[body]))
    t = np.float32(SCALES[scales]).reshape(4, 1, 1, 1)
    codes = np.random.default_rng(0).integers(-8, 8, (4, 3, 3, 3)).astype(np.float32)
    bias = np.float32([1, -2, 3, 0.5])
    arrays = {"s": np.float32([0.5]), "zero": np.float32([0]), "bits": np.float32([4]), "t": t, "w": codes * t}
    arrays["b"] = bias if body == "bias inside" else bias.reshape(1, 4, 1, 1)
    proto.graph.initializer.extend(numpy_helper.from_array(np.asarray(array), name) for name, array in arrays.items())
    model = cleanup_model(cleanup_model(ModelWrapper(proto)).transform(ConvertToChannelsLastAndClean()))
    addends = {name for node in model.graph.node if node.op_type == "Add" for name in node.input}
    for tensor in list(model.graph.initializer):
        array = numpy_helper.to_array(tensor)
        if array.size == 1 or tensor.name in addends:
            model.set_initializer(tensor.name, array.reshape(-1))
    config = hls4ml.utils.config_from_onnx_model(model, granularity="name", backend="Vivado")
    try:
        hls4ml.converters.convert_from_onnx_model(model, output_dir="hls", backend="Vivado", hls_config=config)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "converts"


expected = ["converts", "IndexError", "ValueError", "converts"]
as_before = True
for (scales, body), begin in zip([(s, b) for s in SCALES for b in BODIES], expected):
    with contextlib.redirect_stdout(io.StringIO()):
        found = attempt(scales, body)
    print(f"{scales}, {body}: {found}")
    as_before &= found.startswith(begin)
sys.exit(0 if as_before else "changed: not what the head of this script states")
PY
