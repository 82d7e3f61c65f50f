"""fold_batchnorm computes the same with fewer nodes, and leaves alone what it cannot fold."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import FLOAT_ROUNDING, difference, image, ops, parse, run

from genie_onnx.graph import fold_batchnorm, load, normalise, query

BN = "float[{c}] gamma, float[{c}] beta, float[{c}] mean, float[{c}] var"


def linear_bn(node: str, weights: str, shape: str, channels: int) -> onnx.ModelProto:
    """`node` makes c from x; then y = BN(c)."""
    return parse(
        f"g (float[{shape}] x, {weights}, {BN.format(c=channels)}) => (float[] y)"
        f"{{ c = {node} y = BatchNormalization<epsilon=0.01>(c, gamma, beta, mean, var) }}"
    )


FOLDABLE = {
    "conv": ("Conv(x, w)", "float[6,4,3,3] w", "N,4,7,7", 6),
    "conv_bias_group2": ("Conv<group=2>(x, w, b)", "float[6,2,3,3] w, float[6] b", "N,4,7,7", 6),
    "conv_depthwise": ("Conv<group=4>(x, w)", "float[4,1,3,3] w", "N,4,7,7", 4),
    "conv_1d": ("Conv(x, w, b)", "float[5,4,3] w, float[5] b", "N,4,9", 5),
    "convtranspose": ("ConvTranspose<strides=[2,2]>(x, w, b)", "float[4,6,3,3] w, float[6] b", "N,4,5,5", 6),
    "convtranspose_group2": ("ConvTranspose<group=2>(x, w)", "float[4,3,3,3] w", "N,4,5,5", 6),
    "gemm": ("Gemm(x, w)", "float[8,5] w", "N,8", 5),
    "matmul": ("MatMul(x, w)", "float[8,5] w", "N,8", 5),
    "gemm_transb_alpha_beta": ("Gemm<transB=1, alpha=0.5, beta=3.0>(x, w, b)", "float[5,8] w, float[5] b", "N,8", 5),
    "gemm_scalar_bias": ("Gemm<beta=2.0>(x, w, b)", "float[8,5] w, float[1] b", "N,8", 5),
    "gemm_row_bias": ("Gemm(x, w, b)", "float[8,5] w, float[1,5] b", "N,8", 5),
}


SHAPES = (
    "s = Constant<value_ints=[-1,5]>() t = Constant<value_ints=[-1,6,6]>() flat = Constant<value_ints=[0,5,-1]>() "
    "two = Constant<value_ints=[2]>() three = Constant<value_ints=[3]>()"
)
# nodes from x to c, inputs and weights, operators after folding
BEHIND = {
    "levit": ("m = MatMul(x, w) c = Reshape(m, s)", "float[N,6,8] x, float[8,5] w", ["MatMul", "Add", "Reshape"]),
    "two_moves": (
        "m = MatMul(x, w) p = Transpose<perm=[0,2,1]>(m) c = Unsqueeze(p, three)",
        "float[N,6,8] x, float[8,5] w",
        ["MatMul", "Add", "Transpose", "Unsqueeze"],
    ),
    "bias": (
        "m = MatMul(x, w) a = Add(b, m) c = Reshape(a, s)",
        "float[N,6,8] x, float[8,5] w, float[5] b",
        ["MatMul", "Add", "Reshape"],
    ),
    "bias_of_one": (
        "m = MatMul(x, w) a = Add(m, b) c = Transpose<perm=[0,2,1]>(a)",
        "float[N,6,8] x, float[8,5] w, float[1,1] b",
        ["MatMul", "Add", "Transpose"],
    ),
    "matrix_with_bias": ("m = MatMul(x, w) c = Add(m, b)", "float[N,8] x, float[8,5] w, float[1,5] b", ["MatMul", "Add"]),
    "matrix": ("m = MatMul(x, w) c = Unsqueeze(m, two)", "float[N,8] x, float[8,5] w", ["Gemm", "Unsqueeze"]),
    "gemm": (
        "m = Gemm<transB=1>(x, w, b) c = Unsqueeze(m, two)", "float[N,8] x, float[5,8] w, float[5] b", ["Gemm", "Unsqueeze"]
    ),
    "conv_open_size": (
        "m = Conv(x, w) c = Reshape(m, flat)", "float[N,3,H,W] x, float[5,3,1,1] w", ["Conv", "Reshape"]
    ),
    "conv_flatten": ("m = Conv(x, w) c = Flatten(m)", "float[N,8,1,1] x, float[5,8,1,1] w", ["Conv", "Flatten"]),
    "transposed_conv": (
        "m = ConvTranspose<group=2>(x, w) c = Reshape(m, t)", "float[N,4,2,3] x, float[4,3,1,1] w", ["ConvTranspose", "Reshape"]
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BEHIND)
def test_folding_through_what_only_rearranges(case: str) -> None:
    """The channels that are normalised are those of the layer."""
    nodes, weights, expected = BEHIND[case]
    channels = 6 if case == "transposed_conv" else 5
    proto = parse(
        f"g ({weights}, {BN.format(c=channels)}) => (float[] y) {{ {SHAPES} {nodes} "
        "y = BatchNormalization<epsilon=0.01>(c, gamma, beta, mean, var) }"
    )
    graph = normalise(load(proto))
    folded = fold_batchnorm(graph)
    assert ops(folded) == expected
    size = [{"H": 2, "W": 3}.get(d) or int(d) for d in weights.split("]")[0].split("[")[1].split(",")[1:]]
    for batch in (1, 4):
        x = image(batch, *size)
        assert difference(run(proto, x), run(folded, x)) < FLOAT_ROUNDING
    onnx.checker.check_model(ir.to_proto(folded), full_check=True)
    there = {str(v.name) for n in graph.graph for v in n.outputs}
    kept = {str(v.name) for n in folded.graph for v in n.outputs} & there
    assert kept == {"y"}, "other values have other numbers, so other names"


NOT_THE_CHANNELS = {
    "rows": "m = MatMul(x, w) c = Reshape(m, wide)",  # [N, 6, 6] -> [N, 36]: each row has channels of its own
    "tokens": "m = MatMul(x, w) r = Relu(m) p = Transpose<perm=[0,2,1]>(r) c = Reshape(p, wide)",
    "axis": "c = MatMul(x, w)",  # axis 1 counts rows
    "read_elsewhere": "c = MatMul(x, w) t = Transpose<perm=[0,2,1]>(c) z = Relu(c)",
    "read_on_the_way": "m = MatMul(x, w) t = Transpose<perm=[0,2,1]>(m) c = Transpose<perm=[0,1,2]>(t) z = Relu(m)",
    "row_bias": "m = MatMul(x, w) a = Add(m, rows) c = Transpose<perm=[0,2,1]>(a)",
    "split": "m = MatMul(x, w) r = Reshape(m, split) c = Reshape(r, back)",
}


@pytest.mark.parametrize("case", NOT_THE_CHANNELS)
def test_channels_that_are_others_are_not_folded(case: str) -> None:
    nodes = NOT_THE_CHANNELS[case]
    channels = 36 if "wide" in nodes else 6
    proto = parse(
        f"g (float[N,6,8] x, float[8,6] w, float[6,1] rows, {BN.format(c=channels)}) => "
        f"(float[] y{', float[] z' * ('z =' in nodes)})"
        "{ wide = Constant<value_ints=[-1,36]>() split = Constant<value_ints=[-1,6,2,3]>() back = Constant<value_ints=[-1,6,6]>()"
        f"{nodes} y = BatchNormalization(c, gamma, beta, mean, var) }}"
    )
    graph = normalise(load(proto))
    folded = fold_batchnorm(graph)
    assert ops(folded) == ops(graph)
    x = image(2, 6, 8)
    assert difference(run(proto, x), run(folded, x)) == 0


@pytest.mark.parametrize("case", FOLDABLE)
def test_folding_computes_the_same(case: str) -> None:
    """Weight, bias, groups and Gemm's factors all enter; a forgotten or swapped one changes the result by order 1."""
    proto = linear_bn(*FOLDABLE[case])
    graph = normalise(load(proto))
    before = ir.to_proto(graph).SerializeToString()
    folded = fold_batchnorm(graph)
    assert ops(folded) == ["Gemm" if op == "MatMul" else op for op in ops(graph)[:1]]
    assert ir.to_proto(graph).SerializeToString() == before, "the input was changed"
    size = [int(d) for d in FOLDABLE[case][2].split(",")[1:]]
    for batch in (1, 4):
        x = image(batch, *size)
        assert difference(run(proto, x), run(folded, x)) < FLOAT_ROUNDING
    onnx.checker.check_model(ir.to_proto(folded), full_check=True)


def test_names_after_folding() -> None:
    """The operator takes the BN's output name; weights keep theirs; a new bias is named after the weight."""
    folded = fold_batchnorm(normalise(load(linear_bn("Conv(x, w)", "float[6,4,3,3] w", "N,4,7,7", 6))))
    (node,) = folded.graph
    assert [v.name for v in (*node.inputs, *node.outputs)] == ["x", "w", "w.bias", "y"]
    assert set(folded.graph.initializers) == {"w", "w.bias"}


UNFOLDABLE = {
    "conv_output_used_elsewhere": "c = Conv(x, w) b = BatchNormalization(c, gamma, beta, mean, var) y = Add(b, c)",
    "relu_between": "c = Conv(x, w) r = Relu(c) y = BatchNormalization(r, gamma, beta, mean, var)",
    "bn_first": "b = BatchNormalization(x, gamma, beta, mean, var) y = Conv(b, w)",
    "computed_weight": "s = ReduceMean(x) v = Mul(w, s) c = Conv(x, v) y = BatchNormalization(c, gamma, beta, mean, var)",
    "computed_mean": "m = ReduceMax<axes=[0,2,3], keepdims=0>(x) c = Conv(x, w) y = BatchNormalization(c, gamma, beta, m, var)",
}


@pytest.mark.parametrize("case", UNFOLDABLE)
def test_unfoldable_stays(case: str) -> None:
    """The BN is left as it is and the result is bit for bit the same."""
    proto = parse(f"g (float[N,4,6,6] x, float[4,4,3,3] w, {BN.format(c=4)}) => (float[N,4,4,4] y) {{ {UNFOLDABLE[case]} }}")
    graph = normalise(load(proto))
    folded = fold_batchnorm(graph)
    assert ops(folded) == ops(graph)
    x = image(2, 4, 6, 6)
    assert difference(run(proto, x), run(folded, x)) == 0


def test_conv_output_that_is_a_graph_output_stays() -> None:
    """The user reads the value before the BN."""
    proto = parse(
        f"g (float[N,4,6,6] x, float[4,4,3,3] w, {BN.format(c=4)}) => (float[N,4,4,4] c, float[N,4,4,4] y)"
        "{ c = Conv(x, w) y = BatchNormalization(c, gamma, beta, mean, var) }"
    )
    folded = fold_batchnorm(normalise(load(proto)))
    assert ops(folded) == ["Conv", "BatchNormalization"]


def test_matmul_on_stacks_of_matrices_stays() -> None:
    """There the BN is of positions (axis 1), not of the columns of w, though both are four."""
    graph = normalise(load(linear_bn("MatMul(x, w)", "float[8,4] w", "N,4,8", 4)))
    assert ops(fold_batchnorm(graph)) == ["MatMul", "BatchNormalization"]


def test_gemm_with_a_bias_per_sample_stays() -> None:
    """Gemm's C of several rows is not a bias per channel."""
    proto = parse(
        f"g (float[3,8] x, float[8,5] w, float[3,5] b, {BN.format(c=5)}) => (float[3,5] y)"
        "{ c = Gemm(x, w, b) y = BatchNormalization(c, gamma, beta, mean, var) }"
    )
    folded = fold_batchnorm(normalise(load(proto)))
    assert ops(folded) == ["Gemm", "BatchNormalization"]


def test_shared_weight_and_bias_are_copied() -> None:
    """One weight and bias under two different BNs and once without: three different weights afterwards, same results."""
    proto = parse(
        "g (float[N,4,8,8] x, float[4,4,3,3] w, float[4] b, float[4] g1, float[4] b1, float[4] m1, float[4] var1,"
        " float[4] g2, float[4] b2, float[4] m2, float[4] var2) => (float[N,4,4,4] y, float[N,4,4,4] z)"
        "{ c = Conv(x, w, b) d = BatchNormalization(c, g1, b1, m1, var1)"
        "  e = Conv(d, w, b) y = BatchNormalization(e, g2, b2, m2, var2) z = Conv(d, w, b) }"
    )
    folded = fold_batchnorm(normalise(load(proto)))
    assert ops(folded) == ["Conv"] * 3
    weights = {str(query.weight(node).name) for node in folded.graph}
    assert weights == {"w", "w_1", "w_2"}
    x = image(4, 4, 8, 8)
    assert difference(run(proto, x), run(folded, x)) < FLOAT_ROUNDING


def test_arithmetic_is_float64() -> None:
    """beta - s * mean cancels: in float32 the folded bias would be wrong in its third digit."""
    proto = parse(
        f"g (float[N,1,1,1] x, float[1,1,1,1] w, {BN.format(c=1)}) => (float[N,1,1,1] y)"
        "{ c = Conv(x, w) y = BatchNormalization<epsilon=0.0>(c, gamma, beta, mean, var) }",
        gamma=np.array([3.0], np.float32),
        mean=np.array([1e6], np.float32),
        beta=np.array([3e6 / np.sqrt(0.3)], np.float32),
        var=np.array([0.2], np.float32),
    )
    folded = fold_batchnorm(normalise(load(proto)))
    arrays = {v.name: v.const_value.numpy().astype(np.float64) for v in load(proto).graph.initializers.values()}
    exact = arrays["beta"] - arrays["gamma"] / np.sqrt(arrays["var"]) * arrays["mean"]
    assert query.constant(folded.graph.initializers["w.bias"]) == exact.astype(np.float32)
