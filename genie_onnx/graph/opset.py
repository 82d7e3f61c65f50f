"""Operator sets 7 to 12 raised to 13, the oldest in which quantized files are portable (per-channel QuantizeLinear).

onnx.version_converter does the work and keeps all names. One thing it gets wrong without a word (onnx 1.23): Resize up to
opset 10 and Upsample sample at  x_in = x_out / scale  ("asymmetric"), which from opset 11 on has to be said, and the
converter does not; the new default, half_pixel, gives another picture. Nearest then meant floor(x_in) for enlarging and
ceil(x_in) for reducing (what onnxruntime computes for such files).
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from genie_onnx.errors import ModelError

OLDEST_OPSET = 7
MINIMUM_OPSET = 13
_IR_OF_MINIMUM_OPSET = 7  # IR version published with opset 13
_FIRST_RESIZE_WITH_MODES = 11
_FIRST_IR_WITH_SEPARATE_INITIALIZERS = 4  # before, every initializer had to be listed among the inputs


def default_opset(proto: onnx.ModelProto) -> int | None:
    """Return the version of the standard operators that a model imports, None where it imports none."""
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), None)


def raise_opset(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Return `proto` at opset 13. Raises ModelError for operators that the converter cannot translate."""
    opset = default_opset(proto)
    if proto.ir_version < _FIRST_IR_WITH_SEPARATE_INITIALIZERS:  # the converter insists on its rule; runtimes do not
        older, proto = proto, onnx.ModelProto()
        proto.CopyFrom(older)
        proto.ir_version = _FIRST_IR_WITH_SEPARATE_INITIALIZERS
    try:
        raised = onnx.version_converter.convert_version(proto, MINIMUM_OPSET)
    except (RuntimeError, onnx.version_converter.ConvertError, onnx.shape_inference.InferenceError) as error:
        reason = str(error).strip().splitlines()[0].rsplit("Assertion", 1)[-1]
        raise ModelError(
            f"opset {opset} cannot be raised to {MINIMUM_OPSET}: {reason}. "
            f"Export the model again with opset_version={MINIMUM_OPSET} or newer."
        ) from error
    raised.ir_version = max(raised.ir_version, _IR_OF_MINIMUM_OPSET)
    if opset is not None and opset < _FIRST_RESIZE_WITH_MODES:
        constants = _constants(raised.graph)
        for node in raised.graph.node:
            if node.op_type == "Resize":
                _say_asymmetric(node, constants)
    return raised


def _say_asymmetric(node: onnx.NodeProto, constants: dict[str, np.ndarray]) -> None:
    node.attribute.append(onnx.helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
    mode = next((a.s for a in node.attribute if a.name == "mode"), b"nearest")
    if mode != b"nearest":
        return
    scales = constants.get(node.input[2], np.ones(1))  # computed scales: taken to enlarge, as in every upsampling layer
    if (scales < 1).any() and (scales > 1).any():
        raise ModelError(
            f"Resize '{node.name}' enlarges one axis and reduces another, with the nearest pixel: from opset 11 on no rounding "
            f"mode means both. Export the model again with opset_version={MINIMUM_OPSET} or newer."
        )
    rounding = "ceil" if (scales < 1).any() else "floor"
    node.attribute.append(onnx.helper.make_attribute("nearest_mode", rounding))


def _constants(graph: onnx.GraphProto) -> dict[str, np.ndarray]:
    tensors = {t.name: t for t in graph.initializer}
    tensors |= {n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"}
    wanted = {n.input[2] for n in graph.node if n.op_type == "Resize" and len(n.input) > 2}
    return {name: numpy_helper.to_array(t) for name, t in tensors.items() if name in wanted}
