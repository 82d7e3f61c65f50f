"""The operators this package handles, as plain sets: what `check` accepts and what carries weights.

SUPPORTED_OPS is what may be left in a graph after `normalise`, with float activations running through it; an
operator that only computes shapes or constants is folded away before and need not be here.
"""

from __future__ import annotations

WEIGHTED_OPS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
"""Operators whose constant second input is a weight that can be quantized."""

QUANTIZED_OPS = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "QLinearConv",
        "QLinearMatMul",
        "ConvInteger",
        "MatMulInteger",
    }
)
"""Operators of a file that has been quantized already."""

_UNARY = frozenset(
    "Abs Acos Acosh Asin Asinh Atan Atanh BitwiseNot Cast CastLike Ceil Celu Clip Cos Cosh Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity IsInf IsNaN LeakyRelu Log Mish Neg Not PRelu Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Swish Tan Tanh ThresholdedRelu".split()
)
_BINARY = frozenset(
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum Where Xor".split()
)
_POOLING = frozenset("AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool".split())
_NORMALISATION = frozenset(
    "BatchNormalization GroupNormalization InstanceNormalization LayerNormalization LogSoftmax LpNormalization LRN "
    "MeanVarianceNormalization RMSNormalization Softmax".split()
)
_REDUCTION = frozenset(
    "ArgMax ArgMin CumSum ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum "
    "ReduceSumSquare TopK".split()
)
_LAYOUT = frozenset(
    "Concat ConstantOfShape DepthToSpace Expand Flatten Gather GatherElements GatherND OneHot Pad Range Reshape Resize "
    "ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile Transpose Trilu Unsqueeze".split()
)

SUPPORTED_OPS: frozenset[str] = (
    frozenset(WEIGHTED_OPS) | _UNARY | _BINARY | _POOLING | _NORMALISATION | _REDUCTION | _LAYOUT | {"Einsum", "GridSample"}
)
