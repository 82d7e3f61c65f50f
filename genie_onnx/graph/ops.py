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

UNARY = frozenset(
    "Abs Acos Acosh Asin Asinh Atan Atanh Cast CastLike Ceil Celu Clip Cos Cosh Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish "
    "Identity IsInf IsNaN LeakyRelu Log Mish Neg Not PRelu Reciprocal Relu Round Selu Shrink Sigmoid Sign Sin Sinh Softplus "
    "Softsign Sqrt Swish Tan Tanh ThresholdedRelu".split()
)
BINARY = frozenset(
    "Add And Div Equal Greater GreaterOrEqual Less LessOrEqual Max Mean Min Mod Mul Or Pow Sub Sum Where Xor".split()
)
ELEMENTWISE = UNARY | BINARY
"""Operators that work entry by entry, with broadcasting."""
POOLING = frozenset("AveragePool GlobalAveragePool GlobalLpPool GlobalMaxPool LpPool MaxPool".split())
_NORMALISATION = frozenset(
    "BatchNormalization GroupNormalization InstanceNormalization LayerNormalization LogSoftmax LpNormalization LRN "
    "MeanVarianceNormalization RMSNormalization Softmax".split()
)
REDUCTION = frozenset(
    "ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare".split()
)
"""Operators that take one value out of many along the axes `axes`."""
_LAYOUT = frozenset(
    "ArgMax ArgMin Concat ConstantOfShape CumSum DepthToSpace Expand Flatten Gather GatherElements GatherND OneHot Pad Range Reshape Resize "
    "ScatterElements ScatterND Shape Size Slice SpaceToDepth Split Squeeze Tile TopK Transpose Trilu Unsqueeze".split()
)

SUPPORTED_OPS: frozenset[str] = (
    frozenset(WEIGHTED_OPS) | ELEMENTWISE | POOLING | _NORMALISATION | REDUCTION | _LAYOUT | {"Einsum", "GridSample"}
)
