"""What hls4ml needs: averages as convolutions, biases behind scales of channels; and what it does not have is refused."""

from __future__ import annotations

import dataclasses

import numpy as np
import onnx
import pytest
from simulation import Codes, everywhere, minmax_codes, model

from genie_onnx import graph
from genie_onnx.errors import ModelError
from genie_onnx.exporter import export, require_form
from genie_onnx.qparams import QParams, QTensor, quantize
from genie_onnx.targets import TARGETS
from genie_onnx.validate import run

RNG = np.random.default_rng(5)
HLS4ML = TARGETS["hls4ml"]
IN_QDQ = dataclasses.replace(HLS4ML, form=HLS4ML.form.in_onnx)


def powers(grid: QParams) -> QParams:
    """`grid` with the next larger powers of two, centred or from 0 on."""
    scale = np.exp2(np.ceil(np.log2(grid.scale))).astype(np.float32)
    zero_point = np.where(grid.zero_point == 0, 0, 2 ** (grid.bits - 1)).astype(np.int64)
    return dataclasses.replace(grid, scale=scale, zero_point=zero_point)


def files(text: str, *rounded: str, one_scale: bool = False, **arrays: np.ndarray) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The same 4-bit codes for hls4ml, and in QDQ form."""
    proto = model(text, **arrays)
    x = RNG.standard_normal([d.dim_value for d in proto.graph.input[0].type.tensor_type.shape.dim]).astype(np.float32)
    user = graph.load(proto)
    deploy = graph.normalise(user)
    placement = everywhere(4, 4, *rounded)(deploy)
    found = minmax_codes(deploy, placement, {"x": x})
    weights = {name: _weight(deploy, name, powers(q.qparams), one_scale) for name, q in found.weights.items()}
    codes = Codes(weights=weights, activations={name: powers(grid) for name, grid in found.activations.items()})
    made = [export(deploy, user, placement, codes, target, {}) for target in (HLS4ML, IN_QDQ)]
    outputs = [run(file, {"x": x}, optimise=False) for file in made]
    for name, expected in outputs[1].items():
        np.testing.assert_allclose(outputs[0][name], expected, rtol=1e-6, atol=1e-6)
    return made[0], made[1]


def _weight(deploy, name: str, grid: QParams, one_scale: bool) -> QTensor:  # type: ignore[no-untyped-def]
    array = np.asarray(graph.query.constant(deploy.graph.initializers[name]), np.float32)
    if one_scale:
        grid = dataclasses.replace(grid, scale=np.full_like(grid.scale, grid.scale.max()))
    return quantize(array, grid)


@pytest.mark.parametrize(
    ("pool", "shape", "group", "window"),
    [
        ("GlobalAveragePool(r)", (1, 3, 4, 8), 3, (4, 8)),
        ("GlobalAveragePool(r)", (1, 5, 16), 5, (16,)),
        ("AveragePool<kernel_shape=[2,2], strides=[2,2]>(r)", (1, 3, 6, 4), 3, (2, 2)),
        ("AveragePool<kernel_shape=[4,1], pads=[1,0,0,0], count_include_pad=1>(r)", (1, 2, 6, 3), 2, (4, 1)),
    ],
)
def test_an_average_is_a_convolution(pool: str, shape: tuple[int, ...], group: int, window: tuple[int, ...]) -> None:
    sizes = ",".join(map(str, shape))
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[{sizes}] x) => (float[{",".join("ABCD"[: len(shape)])}] y) {{
        r = Relu(x)  y = {pool} }}"""
    file, twin = files(text, "r")
    (layer,) = (node for node in file.graph.node if node.op_type == "Conv")
    given = {a.name: onnx.helper.get_attribute_value(a) for a in layer.attribute}
    assert given["group"] == group
    assert tuple(given["kernel_shape"]) == window
    assert not any("AveragePool" in node.op_type for node in file.graph.node)
    assert any("AveragePool" in node.op_type for node in twin.graph.node)
    (quant,) = (node for node in file.graph.node if node.op_type == "Quant" and node.output[0] == layer.input[1])
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in file.graph.initializer}
    assert tensors[quant.input[1]] == tensors[quant.input[0]].max() == 1 / np.prod(window)
    assert file.graph.output[0].name == "y"


@pytest.mark.parametrize(("one_scale", "parted"), [(False, True), (True, False)])
def test_a_bias_is_parted_from_weights_with_several_scales_alone(one_scale: bool, parted: bool) -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,2,5,5] x) => (float[A,B,C,D] y) {
        r = Relu(x)  c = Conv<pads=[1,1,1,1]>(r, w, b)  y = Relu(c) }"""
    w = RNG.standard_normal((3, 2, 3, 3)).astype(np.float32) * np.float32([1, 3, 9]).reshape(3, 1, 1, 1)
    file, _ = files(text, "r", one_scale=one_scale, w=w, b=np.float32([0.3, -1, 2]))
    (layer,) = (node for node in file.graph.node if node.op_type == "Conv")
    assert [len(layer.input) == 2, any(node.op_type == "Add" for node in file.graph.node)] == [parted, parted]


def test_biases_are_on_the_grid_of_their_sums() -> None:
    text = """<ir_version: 8, opset_import: ["" : 17]> g (float[1,4] x) => (float[A,B] y) { r = Relu(x)  y = Gemm(r, w, b) }"""
    w = RNG.standard_normal((4, 3)).astype(np.float32)
    file, _ = files(text, "r", one_scale=True, w=w, b=np.float32([0.123456, 1.3, -7.7]))
    tensors = {t.name: onnx.numpy_helper.to_array(t) for t in file.graph.initializer}
    (layer,) = (node for node in file.graph.node if node.op_type == "Gemm")
    step = tensors["r_scale"] * tensors["w_scale"].max()
    codes = tensors[layer.input[2]] / step
    np.testing.assert_array_equal(codes, np.rint(codes))
    assert np.abs(tensors[layer.input[2]] - np.float32([0.123456, 1.3, -7.7])).max() <= step / 2


@pytest.mark.parametrize(
    ("body", "weight", "said"),
    [
        (
            "y = GlobalAveragePool(c)",
            (3, 3, 1, 1),
            r"GlobalAveragePool '.*' averages over 6 x 6 = 36 positions, and only a power",
        ),
        ("y = AveragePool<kernel_shape=[2,2], pads=[1,1,0,0]>(c)", (3, 3, 1, 1), "averages over fewer positions at its pads"),
        ("y = AveragePool<kernel_shape=[4,4], ceil_mode=1, strides=[4,4]>(c)", (3, 3, 1, 1), "ceil_mode"),
        ("y = HardSwish(c)", (3, 3, 1, 1), r"HardSwish '.*' is none of what hls4ml is known to compute exactly: Add, Conv"),
        ("y = Conv(c, v)", (3, 3, 1, 1), "has 3 spatial dimensions"),
        ("y = Conv<group=3>(c, v)", (6, 3, 1, 1), "has 3 groups of several channels"),
    ],
)
def test_what_hls4ml_does_not_have_is_refused_before_a_run(body: str, weight: tuple[int, ...], said: str) -> None:
    rank = 3 if "3 spatial" in said else 2
    sizes, opened = ",".join("6" * rank), ",".join("ABCDE"[: rank + 2])
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1,3,{sizes}] x) => (float[{opened}] y) {{
        c = Conv(x, w)  {body} }}"""
    arrays = {"w": np.ones((*weight[:2], *[1] * rank), np.float32)}
    if "v)" in body:
        arrays["v"] = np.ones((6, 2 if "group" in body else 3, *[1] * rank), np.float32)
    deploy = graph.normalise(graph.load(model(text, **arrays)))
    placement = everywhere(4, 4, "x")(deploy)
    with pytest.raises(ModelError, match=f"target hls4ml: {said}" if said[0].isupper() else said):
        require_form(deploy, placement, HLS4ML)
    require_form(deploy, placement, TARGETS["qonnx"])
