"""Opsets 7 to 12 arrive at 13 with the same names and the same results as onnxruntime gives the old file."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx_models import FLOAT_ROUNDING, difference, image, one_by_one, parse, run

from genie_onnx.errors import ModelError
from genie_onnx.graph import load, normalise, query

SCALES = np.array([1, 1, 2, 2], np.float32)
# (oldest opset, newest opset) that the node exists in this form, node
NODES = {
    "batchnorm": (7, 12, "BatchNormalization(x, s, s, s, var)"),
    "batchnorm_spatial": (7, 8, "BatchNormalization<spatial: int = 1>(x, s, s, s, var)"),
    "dropout": (7, 11, "Dropout<ratio: float = 0.5>(x)"),
    "slice": (7, 9, "Slice<axes=[2,3], starts=[1,0], ends=[7,9999]>(x)"),
    "slice_all_axes": (7, 9, "Slice<starts=[0,0,1,0], ends=[1,2,-1,9999]>(x)"),
    "upsample_7_nearest": (7, 8, 'Upsample<mode="nearest", scales=[1.0,1.0,2.0,2.0]>(x)'),
    "upsample_7_linear": (7, 8, 'Upsample<mode="linear", scales=[1.0,1.0,2.0,2.0]>(x)'),
    "upsample_9_nearest": (9, 9, 'Upsample<mode="nearest">(x, scales)'),
    "upsample_9_linear": (9, 9, 'Upsample<mode="linear">(x, scales)'),
    "resize_10_nearest": (10, 10, 'Resize<mode="nearest">(x, scales)'),
    "resize_10_linear": (10, 10, 'Resize<mode="linear">(x, scales)'),
    "resize_10_odd": (10, 10, 'Resize<mode="nearest">(x, odd)'),
    "resize_10_smaller": (10, 10, 'Resize<mode="nearest">(x, half)'),
    "resize_10_smaller_odd": (10, 10, 'Resize<mode="nearest">(x, less)'),
    "clip": (7, 10, "Clip<min=-0.5, max=0.25>(x)"),
    "clip_one_sided": (7, 10, "Clip<max=0.25>(x)"),
    "pad": (7, 10, "Pad<pads=[0,0,1,1,0,0,2,2], value=1.5>(x)"),
    "pad_reflect": (7, 10, 'Pad<mode="reflect", pads=[0,0,1,1,0,0,2,2]>(x)'),
    "softmax_flattening": (7, 12, "Softmax<axis=1>(x)"),
    "softmax_default": (7, 12, "Softmax(x)"),
    "softmax_last": (7, 12, "LogSoftmax<axis=3>(x)"),
    "squeeze": (7, 12, "Squeeze<axes=[1]>(one)"),
    "unsqueeze": (7, 12, "Unsqueeze<axes=[2]>(x)"),
    "reduce_sum": (7, 12, "ReduceSum<axes=[2,3], keepdims=0>(x)"),
    "split": (7, 12, "Identity(right)"),
    "gemm": (7, 10, "Gemm<transB=1>(flat, w, bias)"),
    "topk": (7, 9, "TopK<axis=3, k=3>(x)"),
    "sum": (7, 12, "Sum(x, x, x)"),
}
CASES = [(name, opset) for name, (low, high, _) in NODES.items() for opset in range(low, high + 1)]


@pytest.mark.parametrize(("name", "opset"), CASES)
def test_raised_model_computes_the_same(name: str, opset: int) -> None:
    """Each operator that changed its form between opset 7 and 13."""
    node = NODES[name][2]
    output = "y, indices" if name == "topk" else "y"
    proto = parse(
        "g (float[1,2,6,8] x, float[2] s, float[2] var, float[4] scales, float[4] odd, float[4] half, float[4] less,"
        f" float[3,96] w, float[3] bias) => (float[] y) {{ left, right = Split<axis=3, split=[3,5]>(x)"
        f" one = ReduceMean<axes=[1]>(x) flat = Flatten(x) {output} = {node} }}",
        opset=opset,
        ir_version=4,
        scales=SCALES,
        odd=np.array([1, 1, 1.5, 2.75], np.float32),
        half=np.array([1, 1, 0.5, 0.25], np.float32),
        less=np.array([1, 1, 0.7, 0.3], np.float32),
    )
    user = load(proto)
    assert query.opset(user) == 13
    x = image(1, 2, 6, 8)
    assert difference(run(proto, x), run(user, x)) < FLOAT_ROUNDING
    graph = normalise(user)
    assert difference(run(proto, x), run(graph, x)) < FLOAT_ROUNDING
    if query.input_shape(graph)[0] is None:
        x = image(4, 2, 6, 8)
        assert difference(one_by_one(proto, x), run(graph, x)) < FLOAT_ROUNDING


def test_names_and_metadata_survive() -> None:
    """Node, value and dimension names, producer and metadata are the file's; the caller's message is not changed."""
    proto = parse(
        "g (float[batch,2,4,4] x, float[3,2,1,1] w) => (float[batch,3,4,4] y) { c = Conv(x, w) y = Clip<min=0.0>(c) }", opset=9
    )
    proto.ir_version = 3  # initializers not listed among the inputs: against the letter, but runtimes take it
    proto.graph.node[0].name = "first"
    proto.producer_name = "someone"
    proto.metadata_props.add(key="task", value="faces")
    before = proto.SerializeToString()
    user = load(proto)
    assert proto.SerializeToString() == before
    assert (user.producer_name, user.metadata_props["task"]) == ("someone", "faces")
    assert "first" in [node.name for node in user.graph]
    assert [str(d) for d in user.graph.inputs[0].shape] == ["batch", "2", "4", "4"]
    assert {"c", "y"} <= {v.name for node in user.graph for v in node.outputs}
    onnx.checker.check_model(ir.to_proto(user))


def test_newer_opsets_are_left_alone() -> None:
    """Opset 13 and later stay what they are."""
    for opset in (13, 17, 21, 25):
        assert query.opset(load(parse("g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }", opset=opset))) == opset


REFUSED = {
    "not spatial": ("BatchNormalization<spatial: int = 0>(x, s, s, s, var)", 7, "spatial must have value 1"),
    "mixed resize": ('Resize<mode="nearest">(x, mixed)', 10, "enlarges one axis and reduces another"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_has_no_equal_is_refused(case: str) -> None:
    """With the reason and the way out."""
    node, opset, reason = REFUSED[case]
    proto = parse(
        f"g (float[1,2,6,8] x, float[2] s, float[2] var, float[4] mixed) => (float[] y) {{ y = {node} }}",
        opset=opset,
        ir_version=4,
        mixed=np.array([1, 1, 2, 0.5], np.float32),
    )
    with pytest.raises(ModelError, match=reason) as error:
        load(proto)
    assert "opset_version=13" in str(error.value)
