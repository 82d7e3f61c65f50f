"""Every layer has a bias of its own, and the function is what it was."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from graphs import graph
from onnx_models import difference, image, run

from genie_onnx.graph import query, with_constants, with_own_biases

LAYERS = """
    g (float[N,4,8,8] x, float[4,4,3,3] w1, float[4,4,1,1] w2, float[4,4,2,2] w3, float[4,6] w4, float[6,5] w5, float[6,5] w6,
       float[4] b, float[6] b4, float[1] b6) => (float[] y, float[] z) {
        a = Conv(x, w1)
        c = Conv(a, w2, b)
        t = ConvTranspose(c, w3, b)
        m = GlobalAveragePool(t)
        f = Flatten(m)
        p = MatMul(f, w4)
        q = Add(p, b4)
        y = Gemm(q, w5)
        z = Gemm<beta=0.5>(q, w6, b6)
    }"""


def names(model: ir.Model) -> list[str]:
    return [str(node.name) for node in query.weighted_nodes(model)]


def biases(model: ir.Model) -> dict[str, ir.Value | None]:
    return {str(node.name): query.bias(node) for node in query.weighted_nodes(model)}


def test_each_layer_has_one_with_a_number_for_each_channel_that_nobody_else_reads() -> None:
    model = graph(LAYERS)
    before = ir.to_proto(model).SerializeToString()
    made = with_own_biases(model, names(model))
    found = {name: value for name, value in biases(made).items() if value is not None}
    assert found.keys() == {"a", "c", "t", "y", "z"}
    assert {name: query.dims(value) for name, value in found.items()} == {"a": (4,), "c": (4,), "t": (4,), "y": (5,), "z": (5,)}
    assert all(query.is_constant(value) and len(value.uses()) == 1 for value in found.values())
    assert len({value.name for value in found.values()}) == 5
    assert ir.to_proto(model).SerializeToString() == before
    onnx.checker.check_model(ir.to_proto(made), full_check=True)


def test_the_function_is_what_it_was() -> None:
    model = graph(LAYERS)
    x = image(2, 4, 8, 8)
    assert difference(run(model, x), run(with_own_biases(model, names(model)), x)) == 0


def test_only_the_layers_asked_for_are_changed() -> None:
    model = graph(LAYERS)
    found = biases(with_own_biases(model, ["c"]))
    assert found["a"] is found["y"] is None
    assert found["t"] is not None
    assert found["t"].name == "b"
    assert found["c"] is not None
    assert found["c"].name == "c.bias"


def test_a_bias_that_is_already_alone_keeps_its_name() -> None:
    model = graph("g (float[N,4,8,8] x, float[4,4,3,3] w, float[4] b) => (float[] y) { y = Conv(x, w, b) }")
    value = biases(with_own_biases(model, ["y"]))["y"]
    assert value is not None
    assert value.name == "b"


def test_groups_of_a_transposed_convolution_count() -> None:
    model = graph("g (float[N,4,8,8] x, float[4,3,2,2] w) => (float[] y) { y = ConvTranspose<group=2>(x, w) }")
    assert query.dims(biases(with_own_biases(model, ["y"]))["y"]) == (6,)


@pytest.mark.parametrize("add", ["Add(p, b)", "Add(b, p)"])
def test_what_is_added_behind_a_matmul_is_its_own(add: str) -> None:
    model = graph(
        f"g (float[N,4,8] x, float[8,8] w1, float[8,8] w2, float[8] b) => (float[] y)"
        f" {{ p = MatMul(x, w1) r = {add} q = MatMul(r, w2) y = Add(q, b) }}"
    )
    made = with_own_biases(model, ["p", "q"])
    added = [value for node in made.graph if node.op_type == "Add" for value in node.inputs if query.is_constant(value)]
    assert len({value.name for value in added if value is not None}) == 2
    x = image(2, 4, 8)
    assert difference(run(model, x), run(made, x)) == 0


@pytest.mark.parametrize("behind", ["y = Relu(p)", "y = Add(p, p)", "s = Relu(p) y = Add(s, b)"])
def test_a_matmul_without_such_an_addition_stays(behind: str) -> None:
    model = graph(f"g (float[N,4,8] x, float[8,8] w, float[8] b, float[8] b2) => (float[] y) {{ p = MatMul(x, w) {behind} }}")
    assert [v.name for n in with_own_biases(model, ["p"]).graph for v in n.inputs if v] == [
        v.name for n in model.graph for v in n.inputs if v
    ]


def test_a_computed_bias_stays() -> None:
    model = graph(
        "g (float[1,4,8,8] x, float[4,4,3,3] w) => (float[] y) { m = ReduceMax<axes=[0,2,3], keepdims=0>(x) y = Conv(x, w, m) }"
    )
    value = biases(with_own_biases(model, ["y"]))["y"]
    assert value is not None
    assert value.name == "m"


def test_constants_get_other_numbers() -> None:
    model = graph("g (float[N,4,8,8] x, float[4,4,1,1] w, float b) => (float[] y) { c = Conv(x, w) y = Add(c, b) }")
    before = ir.to_proto(model).SerializeToString()
    weight = np.arange(16, dtype=np.float32).reshape(4, 4).T.reshape(4, 4, 1, 1)  # not contiguous
    made = with_constants(model, {"w": weight, "b": np.array(3, np.float32)})
    x = image(1, 4, 8, 8)
    np.testing.assert_allclose(run(made, x)["y"], np.einsum("oc,nchw->nohw", weight[..., 0, 0], x) + 3, rtol=1e-5, atol=1e-4)
    assert ir.to_proto(model).SerializeToString() == before
    scalar = query.constant(made.graph.initializers["b"])
    assert scalar is not None
    assert scalar.shape == ()
    onnx.checker.check_model(ir.to_proto(made), full_check=True)
    assert with_constants(model, {}) is model
