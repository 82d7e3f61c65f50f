"""Which row writes which ONNX operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import onnx

from genie_onnx.exporter.litert import convolutions, elementwise, pools, products, resize, shapes
from genie_onnx.exporter.litert.desk import Desk

Row = Callable[[Desk, onnx.NodeProto], Any]

ROWS: dict[str, Row] = {
    "Abs": elementwise.float_only("ABS", "AbsOptions"),
    "Add": elementwise.binary("ADD", "AddOptions"),
    "AveragePool": pools.average_pool,
    "Clip": elementwise.clamp,
    "Concat": shapes.concat,
    "Conv": convolutions.conv,
    "ConvTranspose": convolutions.conv_transpose,
    "DepthToSpace": shapes.depth_to_space,
    "Div": elementwise.binary("DIV", "DivOptions"),
    "Dropout": shapes.same,
    "Exp": elementwise.float_only("EXP", "ExpOptions"),
    "Flatten": shapes.reshape,
    "Gemm": products.gemm,
    "GlobalAveragePool": pools.global_pool("AVERAGE_POOL_2D"),
    "GlobalMaxPool": pools.global_pool("MAX_POOL_2D"),
    "HardSigmoid": elementwise.hard_sigmoid,
    "HardSwish": elementwise.unary("HARD_SWISH", "HardSwishOptions"),
    "Identity": shapes.same,
    "LeakyRelu": elementwise.leaky_relu,
    "MatMul": products.matmul,
    "MaxPool": pools.max_pool,
    "Mul": elementwise.binary("MUL", "MulOptions"),
    "Pad": shapes.pad,
    "ReduceMax": pools.reduction("REDUCE_MAX"),
    "ReduceMean": pools.reduction("MEAN"),
    "ReduceSum": pools.reduction("SUM"),
    "Relu": elementwise.clamp,
    "Reshape": shapes.reshape,
    "Resize": resize.resize,
    "Sigmoid": elementwise.unary("LOGISTIC", "", elementwise.PROBABILITY),
    "Slice": shapes.cut,
    "Softmax": elementwise.softmax,
    "Split": shapes.split,
    "Sqrt": elementwise.float_only("SQRT"),
    "Squeeze": shapes.reshape,
    "Sub": elementwise.binary("SUB", "SubOptions"),
    "Sum": elementwise.total,
    "Tanh": elementwise.unary("TANH", "", elementwise.SIGNED),
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.reshape,
    "Upsample": resize.resize,
}
