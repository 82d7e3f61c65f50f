"""Pad and Resize that name axes are written out in full, so that onnxruntime's layout transformation takes them rightly."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from genie_onnx.graph import load, without_axes
from genie_onnx.validate import run

LAST = "float[N,4,6,2] x"
CASES = {  # what stands between two Transposes
    "sizes": "<int64[2] k = {8, 12}> r = Resize<axes = [2, 3], mode = \"nearest\">(t, , , k)",
    "sizes, last axis first": "<int64[2] k = {12, 8}> r = Resize<axes = [3, 2], mode = \"nearest\">(t, , , k)",
    "sizes from the end": "<int64[1] k = {12}> r = Resize<axes = [-1], mode = \"nearest\">(t, , , k)",
    "scales": "<float[2] k = {2, 3}> r = Resize<axes = [2, 3], mode = \"nearest\">(t, , k)",
    "all scales, not in order": "<float[4] k = {1, 1, 2, 1}> r = Resize<axes = [0, 1, 3, 2], mode = \"nearest\">(t, , k)",
    "a Constant": "k = Constant<value = int64[2] {8, 12}>() r = Resize<axes = [2, 3], mode = \"nearest\">(t, , , k)",
    "pads": "<int64[4] k = {1, 0, 0, 2}, int64[2] a = {2, 3}, float v = {0.5}> r = Pad(t, k, v, a)",
    "pads, last axis first": "<int64[4] k = {1, 0, 0, 2}, int64[2] a = {-1, 2}, float v = {0.5}> r = Pad(t, k, v, a)",
}  # fmt: skip


def _model(case: str, image: str = LAST) -> onnx.ModelProto:
    head, _, body = CASES[case].rpartition("> r =") if CASES[case].startswith("<") else ("", "", CASES[case])
    inits, body = (f"{head}>", f"r ={body}") if head else ("", body)
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 18]> g ({image}) => (float[A,B,C,D] y) {inits} {{'
        f"t = Transpose<perm = [0, 3, 1, 2]>(x) {body} y = Transpose<perm = [0, 2, 3, 1]>(r) }}"
    )


@pytest.mark.parametrize("image", [LAST, "float[N,H,W,2] x"], ids=["fixed", "open"])
@pytest.mark.parametrize("case", CASES)
def test_a_loaded_model_runs_at_default_options(case: str, image: str) -> None:
    proto = _model(case, image)
    x = np.random.default_rng(0).standard_normal((3, 4, 6, 2)).astype(np.float32)
    expected = run(proto, {"x": x}, optimise=False)["y"]
    model = load(proto)
    full = without_axes(model)
    np.testing.assert_array_equal(run(full, {"x": x})["y"], expected)
    assert [n.op_type for n in model.graph] == [n.op_type for n in proto.graph.node]
    assert any("axes" in n.attributes or len(n.inputs) == 4 for n in model.graph), "the model itself is as it was"


def test_a_model_without_axes_is_itself() -> None:
    model = load(
        onnx.parser.parse_model('<ir_version: 8, opset_import: ["" : 18]> g (float[N,2] x) => (float[N,2] y) { y = Relu(x) }')
    )
    assert without_axes(model) is model
