"""The smaller passes of normalise: identities, inference mode, names, dead nodes, order, initializers among the inputs."""

from __future__ import annotations

import onnx_ir as ir
import pytest
from onnx_models import difference, image, ops, parse, run

from genie_onnx.graph import load, normalise

OUTPUTS = {
    "renamed_source": ("float[N,2] y", "a = Relu(x) y = Identity(a)", ["Relu"]),
    "two_names_of_one_value": ("float[N,2] y, float[N,2] z", "a = Relu(x) y = Identity(a) z = Identity(a)", ["Relu", "Identity"]),
    "source_is_an_output_too": ("float[N,2] a, float[N,2] y", "a = Relu(x) y = Identity(a)", ["Relu", "Identity"]),
    "input_passed_through": ("float[N,2] y, float[N,2] z", "y = Identity(x) z = Relu(x)", ["Identity", "Relu"]),
    "chain": ("float[N,2] y", "a = Identity(x) b = Relu(a) c = Dropout(b) d = Identity(c) y = Neg(d)", ["Relu", "Neg"]),
}


@pytest.mark.parametrize("case", OUTPUTS)
def test_identities_go_and_output_names_stay(case: str) -> None:
    """Whatever is bypassed, the model has the same outputs in the same order under the same names."""
    outputs, nodes, expected = OUTPUTS[case]
    proto = parse(f"g (float[N,2] x) => ({outputs}) {{ {nodes} }}")
    graph = normalise(load(proto))
    assert ops(graph) == expected
    x = image(4, 2)
    assert difference(run(proto, x), run(graph, x)) == 0


def test_training_leftovers_are_removed() -> None:
    """Dropout with ratio and flag, BatchNormalization with running statistics as outputs: inference form, one output each."""
    proto = parse(
        "g (float[N,3,2,2] x, float[3] gamma, float[3] beta, float[3] mean, float[3] var, float r, bool t) => (float[N,3,2,2] y)"
        "{ a, m, v = BatchNormalization<training_mode=1>(x, gamma, beta, mean, var) d, k = Dropout(a, r, t) y = Relu(d) }",
        r=image()[()],
        t=(image() > 100)[()],
    )
    graph = normalise(load(proto))
    assert ops(graph) == ["BatchNormalization", "Relu"]
    node = next(iter(graph.graph))
    assert len(node.outputs) == 1
    assert "training_mode" not in node.attributes
    reference = parse(
        "g (float[N,3,2,2] x, float[3] gamma, float[3] beta, float[3] mean, float[3] var) => (float[N,3,2,2] y)"
        "{ a = BatchNormalization(x, gamma, beta, mean, var) y = Relu(a) }"
    )
    x = image(4, 3, 2, 2)
    assert difference(run(reference, x), run(graph, x)) == 0


def test_names_order_and_dead_nodes() -> None:
    """Nameless and doubly named nodes get names, unsorted nodes an order; what nothing reads is gone."""
    proto = parse("g (float[N,2] x, float[2] w, float[2] unused) => (float[N,2] y) { a = Add(x, w) b = Relu(x) y = Relu(a) }")
    proto.graph.node[0].name = proto.graph.node[2].name = "same"
    proto.graph.node.insert(0, proto.graph.node.pop())
    graph = normalise(load(proto))
    assert ops(graph) == ["Add", "Relu"]
    names = [node.name for node in graph.graph]
    assert len(set(names)) == 2
    assert "same" in names
    assert set(graph.graph.initializers) == {"w"}
    nameless = normalise(load(parse("g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }")))
    assert [node.name for node in nameless.graph] == ["Relu_y"]


def test_initializers_among_the_inputs() -> None:
    """IR version 3 lists weights among the inputs; they are not inputs of the network."""
    proto = parse("g (float[1,2] x, float[2] w) => (float[1,2] y) { y = Add(x, w) }", opset=9, ir_version=3)
    proto.graph.input.append(ir.to_proto(load(proto).graph.initializers["w"]))
    graph = load(proto)
    assert [v.name for v in graph.graph.inputs] == ["x"]


def test_every_value_has_a_shape_and_stale_claims_go() -> None:
    """What the file claims about intermediate shapes (here for batch 1) does not survive."""
    proto = parse("g (float[1,2,4,4] x, float[3,2,3,3] w) => (float[1,3,1,1] y) { c = Conv(x, w) y = GlobalMaxPool(c) }")
    proto.graph.value_info.append(ir.to_proto(ir.val("c", ir.DataType.FLOAT, [1, 3, 2, 2])))
    graph = normalise(load(proto))
    shapes = {v.name: [str(d) for d in v.shape] for node in graph.graph for v in node.outputs}
    assert shapes == {"c": ["N", "3", "2", "2"], "y": ["N", "3", "1", "1"]}


def test_shapes_behind_group_normalization() -> None:
    """onnx infers none for GroupNormalization 21, and so none for what follows; two in a row, to be sure that it goes on."""
    proto = parse(
        "g (float[N,4,6,6] x, float[4] s, float[4] b, float[2,4,3,3] w) => (float[] y)"
        "{ a = GroupNormalization<num_groups=2>(x, s, b) r = Mish(a)"
        "  c = GroupNormalization<num_groups=4>(r, s, b) y = Conv(c, w) }",
        opset=22,
        ir_version=10,
    )
    graph = normalise(load(proto))
    assert [tuple(map(str, node.outputs[0].shape or ())) for node in graph.graph][-1] == ("N", "2", "4", "4")
