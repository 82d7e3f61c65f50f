"""Questions about nodes and values."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import numpy_helper
from onnx_models import parse

from genie_onnx.graph import load, normalise, query

NET = (
    "g (float[N,4,8,8] x, float[6,2,3,3] c, float[6] cb, float[6,5,2,2] t, float[5,3] g, float[3,5] h, float[3,7] m,"
    " float[2,3] k) => (float[] y, float[] z)"
    "{ a = Conv<group=2, strides=[2,1]>(x, c, cb) b = ConvTranspose(a, t) p = GlobalAveragePool(b) f = Flatten(p) d = Gemm(f, g)"
    "  e = Gemm<transB=1>(f, h) s = Add(d, e) y = MatMul(s, m) u = Transpose(s) z = MatMul(k, u) }"
)


def test_weighted_nodes_weights_and_channel_axes() -> None:
    """A MatMul with its constant on the left is not weighted; the axis of output channels differs by operator."""
    graph = normalise(load(parse(NET)))
    nodes = query.weighted_nodes(graph)
    assert [(n.op_type, query.weight(n).name, query.channel_axis(n)) for n in nodes] == [
        ("Conv", "c", 0),
        ("ConvTranspose", "t", 1),
        ("Gemm", "g", 1),
        ("Gemm", "h", 0),
        ("MatMul", "m", 1),
    ]
    assert [None if query.bias(n) is None else query.bias(n).name for n in nodes] == ["cb", None, None, None, None]
    with pytest.raises(ValueError, match="Add"):
        query.channel_axis(next(n for n in graph.graph if n.op_type == "Add"))


def test_constants_attributes_and_shapes() -> None:
    """Python values, arrays, and None for what is not there."""
    graph = normalise(load(parse(NET)))
    conv = next(iter(graph.graph))
    assert query.attribute(conv, "strides", (1, 1)) == (2, 1)
    assert query.attribute(conv, "group", 1) == 2
    assert query.attribute(conv, "dilations", (1, 1)) == (1, 1)
    assert query.constant(conv.inputs[0]) is None
    assert query.constant(None) is None
    assert not query.is_constant(conv.outputs[0])
    np.testing.assert_array_equal(query.constant(conv.inputs[2]), numpy_helper.to_array(parse(NET).graph.initializer[1]))
    assert query.input_shape(graph) == (None, 4, 8, 8)
    assert query.dims(conv.outputs[0]) == (None, 6, 3, 6)
    assert query.dims(None) is None
    assert set(query.value_map(graph)) >= {"x", "c", "a", "y"}
    assert query.opset(graph) == 17
