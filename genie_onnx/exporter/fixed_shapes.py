"""A model whose input has open dimensions -> the same with all of them fixed, for compilers that take nothing else."""

from __future__ import annotations

import onnx
import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from genie_onnx.exporter.interface import drop_invented_names
from genie_onnx.graph import query


def fix_shapes(proto: onnx.ModelProto, shape: tuple[int, int, int]) -> onnx.ModelProto:
    """Return `proto` with its image input [batch, *shape], in its own layout: an open batch becomes 1, a fixed one stays."""
    model = ir.from_proto(proto)
    image = query.image_input(model)
    batch = query.input_shape(model)[0]
    image.shape = ir.Shape([1 if batch is None else batch, *shape])
    open_outputs = {v: v.shape for v in model.graph.outputs if v.shape is None or not v.shape.is_static()}
    for value in {v for node in model.graph for v in node.outputs if not v.is_graph_output()} | set(open_outputs):
        value.shape = None
    ShapeInferencePass(check_type=True, strict_mode=True, data_prop=True)(model)
    drop_invented_names(model)
    for value, declared in open_outputs.items():
        value.shape = _fixed(declared, value.shape)
    fixed = ir.to_proto(model)
    if fixed.ByteSize() < onnx.checker.MAXIMUM_PROTOBUF:
        onnx.checker.check_model(fixed, full_check=True)
    return fixed


def _fixed(declared: ir.Shape | None, inferred: ir.Shape | None) -> ir.Shape | None:
    """Return what is `declared` of an output with the numbers `inferred` for it; what only a run can tell stays as declared."""
    if inferred is None:
        return declared
    known = [None] * len(inferred) if declared is None else list(declared)
    return ir.Shape([number if isinstance(number, int) else dim for number, dim in zip(inferred, known, strict=True)])
