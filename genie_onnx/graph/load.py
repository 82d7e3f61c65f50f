"""first version"""
from __future__ import annotations

import os

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import InlinePass, RemoveInitializersFromInputsPass


def load(source: str | os.PathLike[str] | onnx.ModelProto) -> ir.Model:
    """Load."""
    proto = source if isinstance(source, onnx.ModelProto) else onnx.load(source)
    if next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")) < 13:
        proto = onnx.version_converter.convert_version(proto, 13)
        proto.ir_version = max(proto.ir_version, 7)
    model = ir.from_proto(proto)
    RemoveInitializersFromInputsPass()(model)
    InlinePass()(model)
    return model
