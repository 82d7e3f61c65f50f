"""fold_affine computes the same with fewer nodes, and leaves alone what it cannot fold."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import FLOAT_ROUNDING, difference, image, ops, parse, run

from genie_onnx.graph import batchnorms, fold_batchnorm, load, normalise, simplify

BN = "float[6] gamma, float[6] beta, float[6] mean, float[6] var"
# node that makes c from x, its weights, shape of x
LAYERS = {
    "conv": ("Conv(x, w)", "float[6,4,3,3] w", "N,4,7,7"),
    "conv bias groups": ("Conv<group=2>(x, w, b)", "float[6,2,3,3] w, float[6] b", "N,4,7,7"),
    "depthwise": ("Conv<group=6>(x, w)", "float[6,1,3,3] w", "N,6,7,7"),
    "convtranspose groups": ("ConvTranspose<group=2>(x, w, b)", "float[4,3,3,3] w, float[6] b", "N,4,5,5"),
    "gemm": ("Gemm<transB=1, alpha=0.5, beta=3.0>(x, w, b)", "float[6,8] w, float[6] b", "N,8"),
    "gemm one bias": ("Gemm<beta=2.0>(x, w, b)", "float[8,6] w, float[1] b", "N,8"),
}
# arithmetic that makes y from c, with constants k, m of one number a channel or one for all
CHAINS = {
    "mul add": "p = Mul(c, k) y = Add(p, m)",
    "other operand": "p = Mul(k, c) y = Add(m, p)",
    "add mul": "p = Add(c, m) y = Mul(p, k)",
    "sub div": "p = Sub(c, m) y = Div(p, k)",
    "subtracted from": "p = Sub(m, c) y = Sub(k, p)",
    "four": "p = Sub(c, m) q = Mul(k, p) r = Add(q, m) y = Div(r, k)",
}
SHAPES = {"conv": ("[6,1,1]", "[1,6,1,1]"), "gemm": ("[6]", "[1,6]")}


def simplified(model: ir.Model) -> ir.Model:
    return simplify(normalise(model))


def same(proto: onnx.ModelProto, folded: ir.Model, size: tuple[int, ...]) -> None:
    for batch in (1, 3):
        x = image(batch, *size)
        assert difference(run(proto, x), run(folded, x)) < FLOAT_ROUNDING * 10  # sums in another order, several factors
    onnx.checker.check_model(ir.to_proto(folded), full_check=True)


@pytest.mark.parametrize("chain", CHAINS)
@pytest.mark.parametrize("layer", LAYERS)
def test_arithmetic_goes_into_the_layer(layer: str, chain: str) -> None:
    node, weights, shape = LAYERS[layer]
    k, m = SHAPES["gemm" if "gemm" in layer else "conv"]
    proto = parse(f"g (float[{shape}] x, {weights}, float{k} k, float{m} m) => (float[] y) {{ c = {node} {CHAINS[chain]} }}")
    folded = simplified(load(proto))
    assert ops(folded) == [node.split("(")[0].split("<")[0]]
    assert [v.name for n in folded.graph for v in n.outputs] == ["y"]
    assert {v.name for v in folded.graph.initializers.values()} >= {"w"}
    same(proto, folded, tuple(int(d) for d in shape.split(",")[1:]))


@pytest.mark.parametrize("constant", ["float k", "float[1] k", "float[1,1,1,1] k"])
def test_one_number_for_all_channels(constant: str) -> None:
    nodes = "c = Conv(x, w) p = Add(k, c) y = Mul(p, k)"
    proto = parse(f"g (float[N,4,7,7] x, float[6,4,3,3] w, {constant}) => (float[] y) {{ {nodes} }}")
    folded = simplified(load(proto))
    assert ops(folded) == ["Conv"]
    same(proto, folded, (4, 7, 7))


def test_a_factor_alone_makes_no_bias_and_a_shift_alone_leaves_the_weight() -> None:
    text = "g (float[N,4,7,7] x, float[6,4,3,3] w, float[6,1,1] k) => (float[] y) {{ c = Conv(x, w) y = {}(c, k) }}"
    assert len(next(iter(simplified(load(parse(text.format("Mul")))).graph)).inputs) == 2
    shared = parse(
        "g (float[N,6,7,7] x, float[6,6,1,1] w, float[6,1,1] k) => (float[] y) { a = Conv(x, w) c = Conv(a, w) y = Add(c, k) }"
    )
    folded = simplified(load(shared))
    assert {str(n.inputs[1].name) for n in folded.graph if n.inputs[1] is not None} == {"w"}  # one weight for both still
    same(shared, folded, (6, 7, 7))


def test_behind_a_transpose_channels_are_where_it_puts_them() -> None:
    proto = parse(
        "g (float[N,4,7,7] x, float[6,4,3,3] w, float[6] k, float[1,6] m) => (float[] y)"
        "{ c = Conv(x, w) t = Transpose<perm=[0,2,3,1]>(c) p = Mul(t, k) q = Add(p, m) y = Relu(q) }"
    )
    folded = simplified(load(proto))
    assert ops(folded) == ["Conv", "Transpose", "Relu"]
    assert [str(v.name) for n in folded.graph for v in n.outputs] == ["c", "q", "y"]
    same(proto, folded, (4, 7, 7))


def test_behind_a_batchnorm_its_statistics_stay() -> None:
    proto = parse(
        f"g (float[N,4,7,7] x, float[6,4,3,3] w, {BN}, float[6,1,1] k) => (float[] y)"
        "{ c = Conv(x, w) n = BatchNormalization(c, gamma, beta, mean, var) p = Mul(n, k) y = Sub(p, k) }"
    )
    folded = simplified(load(proto))
    assert ops(folded) == ["Conv", "BatchNormalization"]
    mean = next(np.frombuffer(t.raw_data, np.float32) for t in proto.graph.initializer if t.name == "mean")
    (known,) = batchnorms(folded)
    np.testing.assert_array_equal(known.mean, mean)
    same(proto, folded, (4, 7, 7))
    same(proto, fold_batchnorm(folded), (4, 7, 7))


KEPT = {
    "a number a column": ("y = Mul(c, k)", "float[5] k"),
    "a number a pixel": ("y = Add(c, k)", "float[6,5,5] k"),
    "channels on another axis": ("y = Add(c, k)", "float[5,1] k"),
    "channels that the layer lacks": ("y = Mul(c, k)", "float[7,1,1,1,1] k"),
    "read elsewhere": ("y = Mul(c, k) z = Relu(c)", "float[6,1,1] k"),
    "a reciprocal": ("y = Div(k, c)", "float[6,1,1] k"),
    "computed": ("d = Conv(x, w) y = Mul(c, d)", "float[6,1,1] k"),
    "with itself": ("y = Add(c, c)", "float[6,1,1] k"),
}


@pytest.mark.parametrize("case", KEPT)
def test_what_does_not_fold_stays(case: str) -> None:
    nodes, constant = KEPT[case]
    outputs = "float[] y, float[] z" if "z =" in nodes else "float[] y"
    proto = parse(f"g (float[N,4,7,7] x, float[6,4,3,3] w, {constant}) => ({outputs}) {{ c = Conv(x, w) {nodes} }}")
    kept = simplified(load(proto))
    assert sorted(ops(kept)) == sorted(n.op_type for n in proto.graph.node)
    assert difference(run(proto, image(2, 4, 7, 7)), run(kept, image(2, 4, 7, 7))) == 0


def test_an_output_between_stays() -> None:
    interface = "(float[N,4,7,7] x, float[6,4,3,3] w, float[6,1,1] k) => (float[] c, float[] y)"
    proto = parse(f"g {interface} {{ c = Conv(x, w) y = Mul(c, k) }}")
    assert ops(simplified(load(proto))) == ["Conv", "Mul"]


@pytest.mark.parametrize(("op", "number"), [("Div", 0.0), ("Mul", 3e38), ("Add", np.inf), ("Div", 1e-39)])
def test_numbers_that_would_not_stay_finite(op: str, number: float) -> None:
    k = np.array([1, number, 1, 1, 1, 1], np.float32).reshape(6, 1, 1)
    text = f"g (float[N,4,7,7] x, float[6,4,3,3] w, float[6,1,1] k) => (float[] y) {{ c = Conv(x, w) y = {op}(c, k) }}"
    w = 100 * np.ones((6, 4, 3, 3), np.float32)
    assert ops(simplified(load(parse(text, w=w, k=k)))) == ["Conv", op]
