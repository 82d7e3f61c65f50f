"""Resize, Pad and GridSample against onnxruntime."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from importer.against_onnxruntime import BOTH, LATEST, cases, check, network, parse

from genie_onnx.errors import ModelError
from genie_onnx.importer import padding, resize
from genie_onnx.importer.padding import Pad
from genie_onnx.importer.resize import Resize, Rule

_COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric")
# by scales or by sizes, growing, shrinking, by factors that leave a fraction of a pixel
_TARGETS = {
    "grow": '"", s) }|float[4] s = {1, 1, 2, 3}',
    "shrink": '"", s) }|float[4] s = {1, 1, 0.5, 0.4}',
    "fraction": '"", s) }|float[4] s = {1, 1, 1.7, 2.6}',
    "sizes": '"", "", z) }|int64[4] z = {BATCH, 3, 9, 4}',
    "one_pixel": '"", "", z) }|int64[4] z = {BATCH, 3, 1, 4}',
}


def _resize(attributes: str, target: str, batch: str = "N") -> str:
    call, constant = _TARGETS[target].split("|")
    shape = f"{'1' if 'BATCH' in constant else batch},3,5,7"
    return f"(float[{shape}] x) => (float y) <{constant.replace('BATCH', '1')}> {{ y = Resize<{attributes}>(x, {call}"


@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize("nearest", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize(
    ("coordinates", "opset"), [("asymmetric", 13), ("tf_half_pixel_for_nn", 13), *[(name, LATEST) for name in _COORDINATES]]
)
def test_nearest(coordinates: str, nearest: str, target: str, opset: int) -> None:
    attributes = f'mode="nearest", coordinate_transformation_mode="{coordinates}", nearest_mode="{nearest}"'
    check(_resize(attributes, target), opset, tolerance=0)


@pytest.mark.parametrize("opset", BOTH)
@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize("coordinates", _COORDINATES)
def test_linear(coordinates: str, target: str, opset: int) -> None:
    check(_resize(f'mode="linear", coordinate_transformation_mode="{coordinates}"', target), opset)


@pytest.mark.parametrize("exclude", [0, 1], ids=["", "exclude_outside"])
@pytest.mark.parametrize("target", _TARGETS)
@pytest.mark.parametrize("coordinates", _COORDINATES)
def test_cubic(coordinates: str, target: str, exclude: int) -> None:
    attributes = f'mode="cubic", coordinate_transformation_mode="{coordinates}", exclude_outside={exclude}, cubic_coeff_a=-0.6'
    check(_resize(attributes, target), LATEST, tolerance=5e-6)


@cases(
    {
        "axes": """(float[N,3,5,7] x) => (float y) <float[2] s = {1.5, 2}>
            { y = Resize<axes=[2,3], mode="linear">(x, "", s) }""",
        "not_larger": """(float[N,3,5,7] x) => (float y) <int64[2] z = {8, 9}>
            { y = Resize<axes=[2,3], keep_aspect_ratio_policy="not_larger">(x, "", "", z) }""",
        "not_smaller": """(float[N,3,5,7] x) => (float y) <int64[2] z = {8, 9}>
            { y = Resize<axes=[2,3], keep_aspect_ratio_policy="not_smaller", mode="linear">(x, "", "", z) }""",
    },
    opsets=(18, LATEST),
)
def test_resize_of_opset_18(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "symmetric": """(float[N,3,5,7] x) => (float y) <float[4] s = {1, 1, 1.7, 0.6}>
            { y = Resize<mode="linear", coordinate_transformation_mode="half_pixel_symmetric">(x, "", s) }"""
    },
    opsets=(19, LATEST),
)
def test_resize_of_opset_19(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "line": '(float[N,3,7] x) => (float y) <float[3] s = {1, 1, 2}> { y = Resize<mode="linear">(x, "", s) }',
        "volume": '(float[N,2,3,4,5] x) => (float y) <float[5] s = {1, 1, 2, 2, 2}> { y = Resize<mode="linear">(x, "", s) }',
        "computed_sizes": """(float[N,3,5,7] x, float[N,3,9,4] like) => (float y)
            { z = Shape(like)  y = Resize<mode="linear">(x, "", "", z) }""",
    }
)
def test_other_ranks_and_computed_sizes(text: str, opset: int) -> None:
    if "like" in text:
        check(text, opset, gradient=False)
    else:
        check(text, opset)


def test_what_torch_interpolates_itself() -> None:
    """The usual upsamplings go to torch's kernels, anything that only looks similar does not."""

    def native(mode: str, coordinates: str, scale: float, nearest: str = "round_prefer_floor") -> tuple[str, bool | None] | None:
        rule = resize.Rule(mode, coordinates, nearest, -0.75, False)
        return resize.torch_mode(rule, (6, 6), (int(6 * scale),) * 2, (scale, scale))

    assert native("nearest", "asymmetric", 2, "floor") == ("nearest", None)
    assert native("nearest", "half_pixel", 2) == ("nearest", None)
    assert native("linear", "half_pixel", 2) == ("bilinear", False)
    assert native("linear", "align_corners", 2) == ("bilinear", True)
    assert native("linear", "asymmetric", 2) is None
    assert native("nearest", "asymmetric", 2, "ceil") is None
    assert native("cubic", "half_pixel", 2) is None


@pytest.mark.parametrize(
    "attributes", ['coordinate_transformation_mode="tf_crop_and_resize"', 'mode="linear", antialias=1'], ids=["crop", "antialias"]
)
def test_unsupported_resize_is_refused(attributes: str) -> None:
    text = f'(float[N,3,5,7] x) => (float y) <float[4] s = {{1, 1, 2, 2}}> {{ y = Resize<{attributes}>(x, "", s) }}'
    with pytest.raises(ModelError, match=r"Resize node .* Supported"):
        network(parse(text))


_PADS = {
    "last_two": "0, 0, 1, 2, 0, 0, 2, 1",
    "one_side": "0, 0, 0, 1, 0, 0, 0, 2",
    "channel": "0, 1, 0, 0, 0, 2, 1, 0",
    "batch": "1, 0, 0, 0, 0, 0, 0, 0",
    "nothing": "0, 0, 0, 0, 0, 0, 0, 0",
}


@pytest.mark.parametrize("opset", BOTH)
@pytest.mark.parametrize(
    ("mode", "pads"),
    [
        pair for pair in product(["constant", "reflect", "edge"], _PADS) if pair != ("reflect", "batch")
    ],  # one image reflects nothing
)
def test_pad(mode: str, pads: str, opset: int) -> None:
    check(
        f'(float[N,3,4,5] x) => (float y) <int64[8] p = {{{_PADS[pads]}}}> {{ y = Pad<mode="{mode}">(x, p) }}', opset, tolerance=0
    )


@cases(
    {
        "value": "(float[N,3,4] x) => (float y) <int64[6] p = {0,1,2,0,0,1}, float v = {-1.5}> { y = Pad(x, p, v) }",
        "negative": "(float[N,3,4] x) => (float y) <int64[6] p = {0,-1,2,0,0,-1}, float v = {-1.5}> { y = Pad(x, p, v) }",
        "vector": "(float[4] x) => (float y) <int64[2] p = {1,2}> { y = Pad(x, p) }",
        "computed": """(float[N,3,4] x, float[1,2,1] like) => (float y)
            { s = Shape(like)  p = Concat<axis=0>(s, s)  y = Pad(x, p) }""",
    }
)
def test_constant_pad(text: str, opset: int) -> None:
    if "like" in text:
        check(text, opset, tolerance=0, gradient=False)
    else:
        check(text, opset, tolerance=0)


@cases({"integers": "(int64[N,4] x) => (int64 y) <int64[4] p = {0,1,0,2}, int64 v = {7}> { y = Pad(x, p, v) }"})
def test_integer_pad(text: str, opset: int) -> None:
    check(text, opset, gradient=False)


@cases(
    {
        "axes": '(float[N,3,4] x) => (float y) <int64[2] p = {1,2}, int64[1] a = {-1}> { y = Pad(x, p, "", a) }',
    },
    opsets=(18, LATEST),
)
def test_pad_of_given_axes(text: str, opset: int) -> None:
    check(text, opset)


@cases({"wrap": '(float[N,3,4] x) => (float y) <int64[6] p = {0,0,1,0,0,2}> { y = Pad<mode="wrap">(x, p) }'}, opsets=(19, LATEST))
def test_wrapped_pad(text: str, opset: int) -> None:
    check(text, opset)


def test_negative_reflection_is_refused() -> None:
    text = '(float[N,3,4] x) => (float y) <int64[6] p = {0,0,-1,0,0,2}> { y = Pad<mode="reflect">(x, p) }'
    with pytest.raises(ModelError, match="negative pads"):
        network(parse(text))


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@cases({"bilinear": "bilinear", "nearest": "nearest", "bicubic": "bicubic"}, opsets=(16,))
def test_grid_sample(text: str, opset: int, padding: str) -> None:
    graph = (
        f'(float[N,3,5,6] x, float[N,4,4,2] g) => (float y) {{ y = GridSample<mode="{text}", padding_mode="{padding}">(x, g) }}'
    )
    check(graph, opset, tolerance=2e-5, gradient=False)


@cases({"linear": "linear", "nearest": "nearest", "cubic": "cubic"}, opsets=(20, LATEST))
def test_grid_sample_of_opset_20(text: str, opset: int) -> None:
    graph = f'(float[N,3,5,6] x, float[N,4,4,2] g) => (float y) {{ y = GridSample<mode="{text}", align_corners=1>(x, g) }}'
    check(graph, opset, tolerance=2e-5, gradient=False)


def test_resize_keeps_the_gradient_on_the_input_type() -> None:
    text = '(float[N,3,5,7] x) => (float y) <float[4] s = {1, 1, 1.7, 2.6}> { y = Resize<mode="cubic">(x, "", s) }'
    x = torch.randn(2, 3, 5, 7, dtype=torch.float64)
    assert network(parse(text))({"x": x})["y"].dtype == torch.float64


def test_tables_are_made_once() -> None:
    """The second pass takes nothing from the host to the device: a step that is captured in a CUDA graph may not."""
    x = torch.rand(1, 2, 7, 7)
    cubic = Resize(Rule("cubic", "half_pixel", "", -0.75, False), (1.0, 1.0, 3.0, 3.0), None, None, "stretch", by_size=False)
    for module, table in ((cubic, resize._taps_on), (Pad((1, 0, 0, 0, 1, 0, 0, 0), None, "wrap", 0.0), padding._picked)):
        table.cache_clear()
        assert torch.equal(module(x), module(x))
        assert table.cache_info().misses == 1
        assert table.cache_info().hits >= 1
