"""A copy of a QDQ file in which every layer starts from given codes.

    v -> QuantizeLinear -> codes -> DequantizeLinear -> layer
    becomes
    v -> QuantizeLinear -> codes (an output)      given codes (an input) -> DequantizeLinear -> layer

What such a probe yields for a value depends on the codes given for the values just before it, not on what became of
the samples further up. Since Q, DQ and the layer stay together, onnxruntime picks the same kernels as for the file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from genie_onnx.qparams import QTensor
from genie_onnx.validate.qdq_file import QdqFile
from genie_onnx.validate.session import Array


@dataclass(frozen=True, kw_only=True)
class Probe:
    """`model` takes `feeds` (the codes given) beside the file's own inputs."""

    model: onnx.ModelProto
    feeds: dict[str, Array]


def layer_probe(proto: onnx.ModelProto, file: QdqFile, activations: Mapping[str, QTensor]) -> Probe:
    """Return the probe of `proto` that reads the codes `activations` ([n, ...], by value name); `proto` stays as it is."""
    model = onnx.ModelProto()
    model.CopyFrom(proto)
    batch = _fixed_batch(proto)
    renamed: dict[str, str] = {}
    feeds: dict[str, Array] = {}
    for name, q in activations.items():
        codes = file.codes("activations", name)
        element_type = file.element_type(codes)
        given = f"{codes}_given"
        # Where the batch is fixed, the first dimension need not be it: a channel shuffle has [58 N, ...] inside.
        shape = ["samples" if batch is None else f"{given}_first", *q.codes.shape[1:]]
        model.graph.input.append(onnx.helper.make_tensor_value_info(given, element_type, shape))
        renamed[codes] = given
        feeds[given] = file.stored(name, q)
    for node in model.graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in renamed:
            node.input[0] = renamed[node.input[0]]
    return Probe(model=model, feeds=feeds)


def _fixed_batch(proto: onnx.ModelProto) -> int | None:
    """Return the batch size that the inputs of `proto` are fixed to, None where it is free."""
    first = [dim for value in proto.graph.input for dim in value.type.tensor_type.shape.dim[:1]]
    return next((int(dim.dim_value) for dim in first if dim.HasField("dim_value")), None)
