"""Constants, identities and shape arithmetic end as initializers; what depends on the image stays."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from onnx_models import difference, image, ops, parse, run

from genie_onnx.errors import ModelError
from genie_onnx.graph import load, normalise, query
from genie_onnx.graph.fold_constants import fold_constants


def test_constant_weights_and_identities_become_initializers() -> None:
    """Weights as Constant nodes (Paddle) and as Identity of another initializer (PyTorch) are initializers afterwards."""
    proto = parse(
        "g (float[N,2,4,4] x, float[2] b) => (float[N,2,4,4] y)"
        "{ k = Constant<value = float[2,2,1,1] {1.0, 2.0, 3.0, 4.0}>() c = Identity(b) d = Identity(c) y = Conv(x, k, d) }"
    )
    graph = normalise(load(proto))
    (node,) = graph.graph
    assert [v.name for v in node.inputs] == ["x", "k", "b"]
    np.testing.assert_array_equal(query.constant(node.inputs[1]), np.arange(1, 5, dtype=np.float32).reshape(2, 2, 1, 1))
    x = image(4, 2, 4, 4)
    assert difference(run(proto, x), run(graph, x)) == 0


def test_constant_subgraph_is_computed() -> None:
    """Scalars keep rank 0 through Gather and Unsqueeze; the last value keeps its name."""
    proto = parse(
        "g (float[N,3,4,4] x, float[3] w) => (float[N,3,4,4] y)"
        "{ i = Constant<value_int=1>() s = Sqrt(v) v = Mul(w, w) q = Gather(s, i) a = Constant<value_ints=[0]>()"
        "  u = Unsqueeze(q, a) y = Mul(x, u) }"
    )
    proto.graph.node.sort(key=lambda n: "svqu".find(n.output[0]))  # still a valid order once sorted by `load`
    graph = normalise(load(proto))
    assert ops(graph) == ["Mul"]
    assert set(graph.graph.initializers) == {"u"}
    w = query.constant(load(proto).graph.initializers["w"])
    np.testing.assert_allclose(query.constant(graph.graph.initializers["u"]), np.abs(w[1:2]), rtol=1e-6)


def test_shape_arithmetic_on_fixed_sizes_is_folded() -> None:
    """x.view(x.size(0), -1) leaves one Reshape whose shape copies the batch."""
    proto = parse(
        "g (float[N,3,4,4] x) => (float[N,48] y)"
        "{ s = Shape(x) i = Constant<value_int=0>() b = Gather(s, i) a = Constant<value_ints=[0]>() u = Unsqueeze(b, a)"
        "  m = Constant<value_ints=[-1]>() t = Concat<axis=0>(u, m) y = Reshape(x, t) }"
    )
    graph = normalise(load(proto))
    assert ops(graph) == ["Reshape"]
    np.testing.assert_array_equal(query.constant(next(iter(graph.graph)).inputs[1]), [0, -1])
    assert [str(d) for d in graph.graph.outputs[0].shape] == ["N", "48"]
    x = image(4, 3, 4, 4)
    assert difference(run(proto, x), run(graph, x)) == 0


@pytest.mark.parametrize(("attributes", "expected"), [("", [1, 3, 5, 7]), ("<start=1>", [3, 5, 7]), ("<start=-2, end=-1>", [5])])
def test_shape_of_a_fixed_size(attributes: str, expected: list[int]) -> None:
    """Shape's start and end, negative too."""
    proto = parse(f"g (float[1,3,5,7] x) => (int64[K] y) {{ s = Shape{attributes}(x) k = Identity(s) y = Add(k, k) }}")
    graph = fold_constants(load(proto))
    (node,) = [n for n in graph.graph if n.op_type == "Add"]
    source = node.inputs[0] if node.inputs[0].is_initializer() else node.inputs[0].producer().inputs[0]
    np.testing.assert_array_equal(query.constant(source), expected)


def test_open_height_and_width_stay_computed() -> None:
    """Shape arithmetic on what the file leaves open is left in the graph, and right for every size."""
    proto = parse(
        "g (float[N,2,H,W] x) => (float[N,2,L] y)"
        "{ s = Shape(x) i = Constant<value_ints=[0, 1]>() b = Gather(s, i) m = Constant<value_ints=[-1]>()"
        "  t = Concat<axis=0>(b, m) y = Reshape(x, t) }"
    )
    graph = normalise(load(proto))
    assert "Shape" in ops(graph)
    for size in ((3, 5), (8, 2)):
        x = image(4, 2, *size)
        assert difference(run(proto, x), run(graph, x)) == 0


def test_random_operators_and_graph_outputs_stay() -> None:
    """A random tensor is drawn anew at every run; a constant that the user reads is handed out by a node."""
    proto = parse(
        "g (float[N,2] x) => (float[N,2] y, float[2] r)"
        "{ k = Constant<value = float[2] {1.0, 2.0}>() n = RandomNormalLike(k) t = Mul(k, n) y = Add(x, t) r = Neg(k) }"
    )
    assert ops(normalise(load(proto))) == ["RandomNormalLike", "Mul", "Add", "Identity"]


def test_huge_constants_are_not_computed() -> None:
    """40 bytes of file that ask for 4 TB stay 40 bytes."""
    proto = parse(
        "g (float[N,1] x) => (float[N,1] y)"
        "{ s = Constant<value_ints=[1000000, 1000000]>() z = ConstantOfShape(s) m = ReduceMax<keepdims=0>(z) y = Add(x, m) }"
    )
    assert ops(normalise(load(proto))) == ["ConstantOfShape", "ReduceMax", "Add"]


def test_constants_that_do_not_fit_are_refused() -> None:
    """The node is named."""
    proto = parse(
        "g (float[N,2] x, float[4] w) => (float[N,2] y)"
        "{ s = Constant<value_ints=[3, 5]>() [oops] z = Reshape(w, s) y = Add(x, z) }".replace("[oops] ", "")
    )
    proto.graph.node[1].name = "oops"
    with pytest.raises(ModelError, match="Reshape 'oops' contradicts itself"):
        normalise(load(proto))


def test_input_is_not_changed() -> None:
    """normalise works on a copy."""
    user = load(parse("g (float[1,2] x, float[2] w) => (float[1,2] y) { v = Neg(w) d = Identity(x) y = Add(d, v) }"))
    before = ir.to_proto(user).SerializeToString()
    normalise(user)
    assert ir.to_proto(user).SerializeToString() == before
