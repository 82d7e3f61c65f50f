"""The operators this package handles, as plain sets: what `check` accepts and what carries weights.

SUPPORTED_OPS is what may be left in a graph after `normalise`, with activations running through it; an operator that
only computes shapes or constants is folded away before and need not be here.
"""

from __future__ import annotations

WEIGHTED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose constant second input is a weight that can be quantized."""

# fmt: off
ELEMENTWISE = frozenset({
    # of one operand; parameters such as Clip's limits broadcast
    "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos", "Cosh",
    "Dropout", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Log",
    "Mish", "Neg", "Not", "PRelu", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus",
    "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu",
    # of several
    "Add", "And", "Div", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or",
    "Pow", "Sub", "Sum", "Where", "Xor",
})
"""Operators that work entry by entry, with broadcasting."""

POOLING = frozenset({"AveragePool", "GlobalAveragePool", "GlobalLpPool", "GlobalMaxPool", "LpPool", "MaxPool"})

REDUCTION = frozenset({
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
    "ReduceSumSquare",
})
"""Operators that make one value out of many along the axes `axes`."""

_NORMALISATION = frozenset({
    "BatchNormalization", "GroupNormalization", "InstanceNormalization", "LayerNormalization", "LogSoftmax", "LpNormalization",
    "LRN", "MeanVarianceNormalization", "RMSNormalization", "Softmax",
})
_REARRANGEMENT = frozenset({
    "Concat", "ConstantOfShape", "DepthToSpace", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "OneHot",
    "Pad", "Range", "Reshape", "Resize", "ScatterElements", "ScatterND", "Shape", "Size", "Slice", "SpaceToDepth", "Split",
    "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze",
})
_OTHER = frozenset({"ArgMax", "ArgMin", "Attention", "CumSum", "Einsum", "GridSample", "TopK"})

CONTROL_FLOW_OPS = frozenset({"If", "Loop", "Scan", "SequenceMap"})

QUANTIZED_OPS = frozenset({
    "QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger",
    # onnxruntime's own, beside QLinear...
    "DynamicQuantizeLSTM", "DynamicQuantizeMatMul", "MatMulIntegerToFloat", "MatMulNBits", "QAttention", "QGemm", "QMoE",
})
"""Operators of a file that has been quantized already."""
# fmt: on

SUPPORTED_OPS: frozenset[str] = frozenset(WEIGHTED_OPS).union(
    ELEMENTWISE, POOLING, REDUCTION, _NORMALISATION, _REARRANGEMENT, _OTHER
)
