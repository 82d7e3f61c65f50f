"""Tensors of a model apart from the message that they were parsed from, each in memory once.

    TensorProto within a ModelProto -> an array of its own (large float32 tensors), a TensorProto of its own (the others)

A tensor that is part of a message keeps the whole message in memory, and one left in a message is copied every time that its
numbers are asked for: with weights of half a gigabyte, that makes several copies of them.
"""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

LARGE = 2**16  # bytes


def detach_tensors(model: ir.Model) -> None:
    """Detach the initializers and tensor attributes of `model` in place, in subgraphs too."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = _detached(value.const_value)
    for node in ir.traversal.RecursiveGraphIterator(model.graph):
        for name, attribute in list(node.attributes.items()):
            if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                node.attributes[name] = ir.AttrTensor(name, _detached(attribute.value), doc_string=attribute.doc_string)


def _detached(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
    if not isinstance(tensor, ir.serde.TensorProtoTensor):
        return tensor
    if tensor.dtype == ir.DataType.FLOAT and tensor.nbytes >= LARGE and tensor.raw.HasField("raw_data"):
        array = np.array(tensor.numpy())
        return ir.Tensor(array, name=tensor.name, doc_string=tensor.doc_string or None, metadata_props=tensor.metadata_props)
    proto = onnx.TensorProto()
    proto.CopyFrom(tensor.raw)
    return ir.serde.TensorProtoTensor(proto)
