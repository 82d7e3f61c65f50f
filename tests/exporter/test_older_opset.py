"""A graph goes down to an older opset where its operators meant the same there, and is refused where one did not."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import parser

from genie_onnx.exporter.older_opset import newer_meanings, relabelled

X = np.random.default_rng(0).standard_normal((1, 2, 4, 4)).astype(np.float32)


def model(node: str, opset: int) -> ir.Model:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> g (float[1, 2, 4, 4] x) => (float[a, b, c, d] y) {{ {node} }}'
    return ir.from_proto(onnx.shape_inference.infer_shapes(parser.parse_model(text)))


def run(proto: onnx.ModelProto) -> np.ndarray:
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"x": X})[0])


@pytest.mark.parametrize(
    ("node", "own", "opset"),
    [
        ("y = Relu(x)", 17, 13),
        ("y = Add(x, x)", 22, 13),
        ("y = LeakyRelu<alpha = 0.3>(x)", 17, 13),
        ("y = MaxPool<kernel_shape = [2, 2]>(x)", 22, 13),
        ("s = Constant<value = int64[4] {1, 2, 2, 8}>() y = Reshape<allowzero = 0>(x, s)", 21, 13),
        ("y = Concat<axis = 1>(x, x)", 21, 11),
        ("y = HardSigmoid(x)", 22, 13),
    ],
)
def test_the_same_node_computes_the_same(node: str, own: int, opset: int) -> None:
    given = model(node, own)
    assert newer_meanings(given, opset) == []
    older = ir.to_proto(relabelled(given, opset))
    onnx.checker.check_model(older, full_check=True)
    np.testing.assert_array_equal(run(older), run(ir.to_proto(given)))
    assert given.graph.opset_imports[""] == own


@pytest.mark.parametrize(
    ("node", "own", "opset", "said"),
    [
        ("y = Softmax(x)", 13, 12, "Softmax has other defaults at opset 12"),
        ("y = HardSwish(x)", 17, 13, "there is no HardSwish before opset 14"),
        ("y = AveragePool<kernel_shape = [2, 2], dilations = [2, 2]>(x)", 19, 17, "AveragePool has no dilations at opset 17"),
        (
            "a = Constant<value = int64[1] {1}>() y = ReduceMean(x, a)",
            18,
            13,
            "ReduceMean has other inputs or outputs at opset 13",
        ),
        ("a = Cast<to = 6>(x) b = Relu(a) y = Cast<to = 1>(b)", 17, 13, "Relu takes no tensor(int32) at opset 13"),
    ],
)
def test_what_is_new_is_said(node: str, own: int, opset: int, said: str) -> None:
    (found,) = newer_meanings(model(node, own), opset)
    assert found.startswith(said)
