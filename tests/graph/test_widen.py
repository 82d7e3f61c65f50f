"""Models of half precision become float32: the same weights, and a network without leftovers of the other type."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import numpy_helper
from onnx_models import difference, image, ops, parse, run

from genie_onnx.graph import check, load, normalise, widen

HALF = {"float16": np.float16, "bfloat16": ml_dtypes.bfloat16}
NODES = """{
    k = Constant <value = float[1] {0.5}> ()
    z = ConstantOfShape <value = float[1] {0.25}> (shape)
    c = Conv (x, w)
    p = Add (c, k)
    q = Add (p, z)
    wide = Cast <to = 1> (q)
    r = Relu (wide)
    y = Cast <to = TO> (r)
}"""


def model(kind: str) -> onnx.ModelProto:
    """The network with everything in `kind`."""
    number = {"float16": onnx.TensorProto.FLOAT16, "bfloat16": onnx.TensorProto.BFLOAT16, "float": onnx.TensorProto.FLOAT}[kind]
    body = f"g (HALF[N,3,6,6] x, HALF[4,3,3,3] w, int64[1] shape) => (HALF[] y) {NODES}"
    w = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float16).astype(HALF.get(kind, np.float32))
    text = body.replace("HALF", kind).replace("TO", str(number))
    proto = parse(text, opset=22, ir_version=10, w=w, shape=np.array([1]))
    for attribute in (a for node in proto.graph.node for a in node.attribute if a.name == "value"):  # the parser reads no halves
        attribute.t.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(attribute.t).astype(w.dtype)))
    return proto


@pytest.mark.parametrize("kind", HALF)
def test_the_result_is_the_same_network_in_float32(kind: str) -> None:
    wide = load(model(kind))
    assert widen(wide) == (kind.upper(),)
    check(wide)
    reference = model("float")
    weight = next(t for t in reference.graph.initializer if t.name == "w")
    stored = numpy_helper.to_array(next(t for t in model(kind).graph.initializer if t.name == "w")).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(stored, "w"))
    x = image(2, 3, 6, 6)
    assert difference(run(reference, x), run(wide, x)) == 0


def test_no_cast_is_left() -> None:
    """Nor anything else: Casts between two types that are now one would stand between a layer and its activation."""
    wide = load(model("float16"))
    widen(wide)
    graph = normalise(wide)
    assert ops(graph) == ["Conv", "Add", "Add", "Relu"]
    assert {v.dtype for node in graph.graph for v in node.outputs} == {ir.DataType.FLOAT}
    assert [str(v.name) for v in graph.graph.outputs] == ["y"]


def test_float32_and_integers_are_left_alone() -> None:
    proto = parse(
        "g (float[N,3,6,6] x, int64[4] shape) => (float[] y) { r = Relu(x) y = Reshape(r, shape) }", shape=np.array([0, 1, -1, 2])
    )
    loaded = load(proto)
    before = ir.to_proto(loaded).SerializeToString()
    assert widen(loaded) == ()
    assert ir.to_proto(loaded).SerializeToString() == before
