"""A draft -> the bytes of a .tflite file: the FlatBuffer schema of TensorFlow Lite, version 3.

https://github.com/google-ai-edge/LiteRT/blob/main/tflite/converter/schema/schema.fbs
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import flatbuffers
import numpy as np
import tflite

from genie_onnx.exporter.litert.draft import Draft, Operator, Tensor

SCHEMA = 3
IDENTIFIER = b"TFL3"
ALIGNMENT = 16  # bytes, of a buffer: what kernels ask for
PLACES = "genie_onnx.places"  # metadata: draft.Places in JSON, for whoever compares the two files
_TYPES = {"float32": tflite.TensorType.FLOAT32, "int8": tflite.TensorType.INT8, "int32": tflite.TensorType.INT32}
# The first version of an operator that has what is used here (tflite/tools/versioning/op_version.cc); 1 where it is not named.
_VERSIONS = {
    "ADD": 2, "AVERAGE_POOL_2D": 2, "CONCATENATION": 2, "CONV_2D": 3, "DEPTHWISE_CONV_2D": 3, "DEQUANTIZE": 2,
    "FULLY_CONNECTED": 4, "LEAKY_RELU": 2, "LOGISTIC": 2, "MAXIMUM": 2, "MAX_POOL_2D": 2, "MEAN": 2, "MINIMUM": 2, "MUL": 2,
    "PAD": 2, "PADV2": 2, "QUANTIZE": 2, "RELU": 2, "RESIZE_BILINEAR": 3, "RESIZE_NEAREST_NEIGHBOR": 3, "SOFTMAX": 2,
    "SPLIT": 2, "STRIDED_SLICE": 2, "SUB": 2, "TANH": 2, "TRANSPOSE": 2, "TRANSPOSE_CONV": 3, "REDUCE_MAX": 2, "SUM": 2,
}  # fmt: skip
_PER_CHANNEL = 12  # of FULLY_CONNECTED


def write(draft: Draft, description: str) -> bytes:
    """Return the file. The same draft gives the same bytes."""
    builder = flatbuffers.Builder(1 << 16)
    buffers = [_table(builder, "Buffer")]  # number 0 is empty, by agreement
    tensors = []
    for tensor in draft.tensors:
        number = 0
        if tensor.data is not None:
            number = len(buffers)
            buffers.append(_buffer(builder, _bytes(tensor)))
        tensors.append(_tensor(builder, tensor, number))
    codes = sorted({(operator.name, _version(draft, operator)) for operator in draft.operators})
    operators = [_operator(builder, codes.index((o.name, _version(draft, o))), o) for o in draft.operators]
    subgraph = _table(
        builder,
        "SubGraph",
        Tensors=_offsets(builder, tensors),
        Inputs=_numbers(builder, draft.inputs),
        Outputs=_numbers(builder, draft.outputs),
        Operators=_offsets(builder, operators),
        Name=builder.CreateString("main"),
    )
    metadata = _table(builder, "Metadata", Name=builder.CreateString(PLACES), Buffer=len(buffers))
    buffers.append(_buffer(builder, json.dumps(asdict(draft.places)).encode()))
    model = _table(
        builder,
        "Model",
        Version=SCHEMA,
        OperatorCodes=_offsets(builder, [_code(builder, name, version) for name, version in codes]),
        Subgraphs=_offsets(builder, [subgraph]),
        Description=builder.CreateString(description),
        Buffers=_offsets(builder, buffers),
        Metadata=_offsets(builder, [metadata]),
    )
    builder.Finish(model, IDENTIFIER)
    return bytes(builder.Output())


def _version(draft: Draft, operator: Operator) -> int:
    if operator.name == "FULLY_CONNECTED":
        grid = draft.tensors[operator.inputs[1]].grid
        if grid is None:
            return 1
        return _PER_CHANNEL if grid.scale.size > 1 else _VERSIONS[operator.name]
    return _VERSIONS.get(operator.name, 1)


def _code(builder: Any, name: str, version: int) -> int:
    code = getattr(tflite.BuiltinOperator, name)
    return _table(builder, "OperatorCode", DeprecatedBuiltinCode=min(code, 127), BuiltinCode=code, Version=version)


def _operator(builder: Any, code: int, operator: Operator) -> int:
    fields: dict[str, Any] = {
        "OpcodeIndex": code,
        "Inputs": _numbers(builder, operator.inputs),
        "Outputs": _numbers(builder, operator.outputs),
    }
    if operator.table:
        options = {k: _numbers(builder, v) if isinstance(v, tuple) else v for k, v in operator.options.items()}
        fields["BuiltinOptionsType"] = getattr(tflite.BuiltinOptions, operator.table)
        fields["BuiltinOptions"] = _table(builder, operator.table, **options)
    return _table(builder, "Operator", **fields)


def _tensor(builder: Any, tensor: Tensor, buffer: int) -> int:
    fields: dict[str, Any] = {
        "Shape": _numbers(builder, tensor.shape),
        "Type": _TYPES[tensor.dtype.name],
        "Buffer": buffer,
        "Name": builder.CreateString(tensor.name),
        "HasRank": True,
    }
    if tensor.grid is not None:
        scale = np.atleast_1d(tensor.grid.scale).astype(np.float32)
        fields["Quantization"] = _table(
            builder,
            "QuantizationParameters",
            Scale=builder.CreateNumpyVector(scale),
            ZeroPoint=builder.CreateNumpyVector(np.full(scale.shape, tensor.grid.zero_point, np.int64)),
            QuantizedDimension=tensor.grid.axis,
        )
    return _table(builder, "Tensor", **fields)


def _bytes(tensor: Tensor) -> bytes:
    assert tensor.data is not None
    return np.ascontiguousarray(tensor.data).astype(tensor.dtype.newbyteorder("<"), copy=False).tobytes()


def _buffer(builder: Any, data: bytes) -> int:
    builder.StartVector(1, len(data), ALIGNMENT)
    builder.head -= len(data)
    builder.Bytes[builder.head : builder.head + len(data)] = data
    return _table(builder, "Buffer", Data=builder.EndVector())


def _numbers(builder: Any, numbers: Sequence[int]) -> int:
    return int(builder.CreateNumpyVector(np.asarray(numbers, np.int32)))


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _table(builder: Any, table: str, **fields: Any) -> int:
    """Write a table of the schema; vectors, strings and tables in it have to be there already."""
    getattr(tflite, f"{table}Start")(builder)
    for name, entry in fields.items():
        getattr(tflite, f"{table}Add{name}")(builder, entry)
    return int(getattr(tflite, f"{table}End")(builder))
