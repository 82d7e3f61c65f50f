"""auto_pad and output_shape as numbers, against onnxruntime running the file as it was."""

from __future__ import annotations

import numpy as np
import pytest
from onnx_models import difference, image, parse, run

from genie_onnx.graph import load, normalise, problems
from genie_onnx.graph.explicit_pads import has_automatic_pads
from genie_onnx.graph.query import attribute

NODES = {
    "conv": "Conv<auto_pad={pad}, strides=[2,3]>(x, w)",
    "conv_kernel_attribute": "Conv<auto_pad={pad}, kernel_shape=[3,4], strides=[2,2]>(x, w)",
    "maxpool": "MaxPool<auto_pad={pad}, kernel_shape=[3,2], strides=[2,2]>(x)",
    "averagepool": "AveragePool<auto_pad={pad}, kernel_shape=[3,4], strides=[2,2]>(x)",
    "averagepool_counting": "AveragePool<auto_pad={pad}, kernel_shape=[3,4], strides=[2,1], count_include_pad=1>(x)",
    "convtranspose": "ConvTranspose<auto_pad={pad}, strides=[2,1]>(x, t)",
    "convtranspose_output_shape": "ConvTranspose<auto_pad={pad}, strides=[2,2], output_shape=[15,14]>(x, t)",
}


@pytest.mark.parametrize("pad", ["SAME_UPPER", "SAME_LOWER", "VALID"])
@pytest.mark.parametrize("case", NODES)
def test_same_result_with_explicit_pads(case: str, pad: str) -> None:
    """7 x 6 pixels, so that the two sides differ: upper and lower swapped moves the picture by one pixel."""
    node = NODES[case].format(pad=f'"{pad}"')
    proto = parse(f"g (float[N,2,7,6] x, float[3,2,3,4] w, float[2,3,3,4] t) => (float[N,C,H,W] y) {{ y = {node} }}")
    graph = normalise(load(proto))
    (rewritten,) = graph.graph
    assert not has_automatic_pads(rewritten)
    x = image(2, 2, 7, 6)
    # the same sums in the same order where onnxruntime takes the same kernel, else float rounding
    assert difference(run(proto, x), run(graph, x)) < 1e-6


def test_sizes_round_up_with_valid_pads_too() -> None:
    """A 7 x 6 image and windows of 3 x 2 every 3 pixels: 3 x 2 results with ceil_mode, 2 x 2 without."""
    node = 'MaxPool<auto_pad="VALID", kernel_shape=[3,2], strides=[3,3], ceil_mode=1>(x)'
    proto = parse(f"g (float[N,2,7,6] x) => (float[N,C,H,W] y) {{ y = {node} }}")
    x = image(2, 2, 7, 6)
    assert run(proto, x)["y"].shape == (2, 2, 3, 2)
    assert difference(run(proto, x), run(normalise(load(proto)), x)) == 0


@pytest.mark.parametrize(("pad", "expected"), [("SAME_UPPER", (2, 1, 2, 2)), ("SAME_LOWER", (2, 2, 2, 1))])
def test_dilated_kernel(pad: str, expected: tuple[int, ...]) -> None:
    """Kernel 3 x 4 dilated by 2 and 1 has extent 5 x 4: 4 and 3 pixels in all. (onnxruntime does not run such files.)"""
    proto = parse(
        f'g (float[N,2,7,6] x, float[3,2,3,4] w) => (float[N,C,H,W] y) {{ y = Conv<auto_pad="{pad}", dilations=[2,1]>(x, w) }}'
    )
    (node,) = normalise(load(proto)).graph
    assert attribute(node, "pads", ()) == expected


def test_output_shape_without_auto_pad() -> None:
    """The spec then puts the larger half in front."""
    proto = parse(
        "g (float[N,2,7,6] x, float[2,3,3,4] t) => (float[N,C,H,W] y)"
        "{ y = ConvTranspose<strides=[2,2], output_shape=[14,13]>(x, t) }"
    )
    graph = normalise(load(proto))
    x = image(2, 2, 7, 6)
    assert difference(run(proto, x), run(graph, x)) < 1e-6


def test_open_sizes() -> None:
    """Stride 1 pads the same whatever the size; stride 2 depends on it, and `check` says so with the node's name."""
    stride1 = parse('g (float[N,2,H,W] x, float[3,2,3,4] w) => (float[N,C,H,W] y) { y = Conv<auto_pad="SAME_UPPER">(x, w) }')
    x = image(1, 2, 5, 9)
    assert difference(run(stride1, x), run(normalise(load(stride1)), x)) < 1e-6
    stride2 = parse(
        'g (float[N,2,H,W] x, float[3,2,3,4] w) => (float[N,C,P,Q] y) { y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w) }'
    )
    (problem,) = problems(load(stride2))
    assert problem.startswith("Conv 'Conv_y': auto_pad=SAME_UPPER depends on an input size")
    assert np.array_equal(run(normalise(load(stride2)), x)["y"], run(stride2, x)["y"])
