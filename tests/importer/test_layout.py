"""Operators that rearrange, pick, reduce and make values, against onnxruntime; and shapes computed at run time."""

from __future__ import annotations

import pytest
import torch
from importer.against_onnxruntime import LATEST, cases, check, network, parse

from genie_onnx.errors import ModelError


@cases(
    {
        "reshape": "(float[N,3,4] x) => (float y) <int64[2] s = {0, -1}> { y = Reshape(x, s) }",
        "reshape_copy_later": "(float[N,3,4] x) => (float y) <int64[4] s = {-1, 3, 2, 2}> { y = Reshape(x, s) }",
        "reshape_computed": """(float[N,3,4] x) => (float y) <int64 zero = {0}, int64[1] a = {0}, int64[1] rest = {-1}>
            { s = Shape(x)  n = Gather(s, zero)  m = Unsqueeze(n, a)  t = Concat<axis=0>(m, rest)  y = Reshape(x, t) }""",
        "flatten": "(float[N,3,4] x) => (float y) { y = Flatten(x) }",
        "flatten_0": "(float[N,3,4] x) => (float y) { y = Flatten<axis=0>(x) }",
        "flatten_negative": "(float[N,3,4] x) => (float y) { y = Flatten<axis=-1>(x) }",
        "flatten_all": "(float[N,3,4] x) => (float y) { y = Flatten<axis=3>(x) }",
        "flatten_vector": "(float[N] x) => (float y) { y = Flatten(x) }",
        "transpose": "(float[N,3,4,5] x) => (float y) { y = Transpose<perm=[0,2,3,1]>(x) }",
        "transpose_reversed": "(float[N,3,4] x) => (float y) { y = Transpose(x) }",
        "squeeze": "(float[N,1,4,1] x) => (float y) <int64[2] a = {1, -1}> { y = Squeeze(x, a) }",
        "squeeze_all": "(float[2,1,4,1] x) => (float y) { y = Squeeze(x) }",
        "unsqueeze": "(float[N,4] x) => (float y) <int64[3] a = {-1, 0, 2}> { y = Unsqueeze(x, a) }",
        "expand": "(float[N,1,4] x) => (float y) <int64[2] s = {3, 1}> { y = Expand(x, s) }",
        "expand_computed": "(float[N,1,4] x, float[N,3,4] l) => (float y) { s = Shape(l)  e = Expand(x, s)  y = Add(e, l) }",
        "tile": "(float[N,2,3] x) => (float y) <int64[3] r = {1, 2, 3}> { y = Tile(x, r) }",
        "concat": "(float[N,2,3] a, float[N,4,3] b) => (float y) <float[1,1,3] c> { e = Add(a, c)  y = Concat<axis=1>(e, b, a) }",
        "concat_negative": "(float[N,2,3] a, float[N,2,1] b) => (float y) { y = Concat<axis=-1>(a, b) }",
        "split_sizes": "(float[N,6] x) => (float a, float b) <int64[2] s = {2, 4}> { a, b = Split<axis=1>(x, s) }",
        "split_one_output_unused": """(float[N,6] x) => (float y) <int64[3] s = {1, 2, 3}>
            { a, b, c = Split<axis=-1>(x, s)  y = Concat<axis=1>(c, a) }""",
        "depth_to_space": "(float[N,8,2,3] x) => (float y) { y = DepthToSpace<blocksize=2>(x) }",
        "depth_to_space_crd": '(float[N,8,2,3] x) => (float y) { y = DepthToSpace<blocksize=2, mode="CRD">(x) }',
        "space_to_depth": "(float[N,3,4,6] x) => (float y) { y = SpaceToDepth<blocksize=2>(x) }",
    }
)
def test_rearrangement(text: str, opset: int) -> None:
    check(text, opset, tolerance=0)


@cases({"equal": "(float[N,6] x) => (float a, float b, float c) { a, b, c = Split<axis=1>(x) }"}, opsets=(13,))
def test_split_of_opset_13(text: str, opset: int) -> None:
    check(text, opset, tolerance=0)


@cases(
    {
        "equal": "(float[N,6] x) => (float a, float b, float c) { a, b, c = Split<axis=1, num_outputs=3>(x) }",
        "last_smaller": "(float[N,7] x) => (float a, float b, float c) { a, b, c = Split<axis=1, num_outputs=3>(x) }",
        "only_one": "(float[N,7] x) => (float a) { a = Split<axis=1, num_outputs=1>(x) }",
    },
    opsets=(18, LATEST),
)
def test_split_by_number(text: str, opset: int) -> None:
    check(text, opset, tolerance=0)


@cases(
    {"zero_size": "(float[0,3] x, float[N,3] z) => (float y) <int64[3] s = {3,0,1}> { y = Reshape<allowzero=1>(x, s) }"},
    (14, LATEST),
)
def test_allowzero(text: str, opset: int) -> None:
    check(text, opset, gradient=False)


@cases(
    {
        "slice": """(float[N,8,9] x) => (float y)
            <int64[2] b = {1, 2}, int64[2] e = {7, -1}, int64[2] a = {1, 2}, int64[2] s = {2, 3}> { y = Slice(x, b, e, a, s) }""",
        "slice_no_axes": "(float[N,8] x) => (float y) <int64[2] b = {0, -5}, int64[2] e = {9, 100}> { y = Slice(x, b, e) }",
        "slice_backwards": """(float[N,8] x) => (float y)
            <int64[1] b = {-1}, int64[1] e = {-9223372036854775807}, int64[1] a = {1}, int64[1] s = {-1}>
            { y = Slice(x, b, e, a, s) }""",
        "slice_backwards_by_two": """(float[N,8] x) => (float y)
            <int64[1] b = {6}, int64[1] e = {1}, int64[1] a = {-1}, int64[1] s = {-2}> { y = Slice(x, b, e, a, s) }""",
        "slice_computed": """(float[N,8] x, float[1,5] l) => (float y) <int64[2] b = {0, 2}>
            { e = Shape(l)  s = Slice(x, b, e)  y = Concat<axis=1>(l, s) }""",
        "gather_one": "(float[N,3,4] x) => (float y) <int64 i = {-2}> { y = Gather<axis=1>(x, i) }",
        "gather_some": "(float[N,5,4] x) => (float y) <int64[3] i = {0, -1, 2}> { y = Gather<axis=1>(x, i) }",
        "gather_matrix": "(float[N,5,4] x) => (float y) <int32[2,2] i = {0, 3, 2, 1}> { y = Gather<axis=-1>(x, i) }",
        "gather_computed": "(float[N,5] x, int64[3] i) => (float y) { y = Gather<axis=1>(x, i) }",
        "gather_elements": "(float[N,3] x) => (float y) <int64[1,2] i = {2, -1}> { y = GatherElements<axis=1>(x, i) }",
        "gather_nd": "(float[3,4,N] x) => (float y) <int64[2,2] i = {0, 1, 2, -1}> { y = GatherND(x, i) }",
        "gather_nd_batch": """(float[2,4,N] x) => (float y) <int64[2,3,1] i = {0, 1, 2, 3, 0, 3}>
            { y = GatherND<batch_dims=1>(x, i) }""",
        "scatter_elements": """(float[N,5] x, float[1,2] u) => (float y) <int64[1,2] i = {-1, 1}>
            { y = ScatterElements<axis=1>(x, i, u) }""",
        "scatter_nd": "(float[4,N] x, float[2,N] u) => (float y) <int64[2,1] i = {3, 1}> { y = ScatterND(x, i, u) }",
        "top_k": "(float[N,3,9] x) => (float v, int64 i) <int64[1] k = {4}> { v, i = TopK(x, k) }",
        "top_k_smallest": "(float[N,9,2] x) => (float v, int64 i) <int64[1] k = {4}> { v, i = TopK<axis=1, largest=0>(x, k) }",
        "reduce_sum_all": "(float[N,3,4] x) => (float y) { y = ReduceSum(x) }",
        "reduce_sum_axes": "(float[N,3,4] x) => (float y) <int64[2] a = {1, -1}> { y = ReduceSum<keepdims=0>(x, a) }",
        "cumsum": "(float[N,5] x) => (float y) <int64 a = {1}> { y = CumSum(x, a) }",
        "cumsum_reverse": "(float[N,5] x) => (float y) <int64 a = {-1}> { y = CumSum<reverse=1, exclusive=1>(x, a) }",
    }
)
def test_picking(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "scatter_elements_add": """(float[N,5] x, float[1,3] u) => (float y) <int64[1,3] i = {4, 1, 1}>
            { y = ScatterElements<axis=1, reduction="add">(x, i, u) }""",
        "scatter_nd_add": """(float[4,3,N] x, float[3,N] u) => (float y) <int64[3,2] i = {3, 1, 0, 0, 3, -2}>
            { y = ScatterND<reduction="add">(x, i, u) }""",
        "scatter_nd_mul": """(float[4,3,N] x, float[2,3,N] u) => (float y) <int64[2,1] i = {2, 2}>
            { y = ScatterND<reduction="mul">(x, i, u) }""",
    },
    opsets=(18, LATEST),
)
def test_reducing_scatter(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "upper": "(float[N,4,5] x) => (float y) <int64 k = {1}> { y = Trilu(x, k) }",
        "lower": "(float[N,4,5] x) => (float y) { y = Trilu<upper=0>(x) }",
    },
    opsets=(14, LATEST),
)
def test_triangle(text: str, opset: int) -> None:
    check(text, opset)


_REDUCTIONS = ("Mean", "Max", "Min", "Prod", "L1", "L2", "SumSquare", "LogSum", "LogSumExp")


@pytest.mark.parametrize("op", _REDUCTIONS)
@cases({"axes": "axes=[1,-1]", "keepless": "axes=[2], keepdims=0", "all": "keepdims=0"}, opsets=(13,))
def test_reduction_of_opset_13(text: str, opset: int, op: str) -> None:
    check(f"(float[N,3,4,5] positive) => (float y) {{ y = Reduce{op}<{text}>(positive) }}", opset)


@pytest.mark.parametrize("op", _REDUCTIONS)
@cases(
    {"axes": "<int64[2] a = {1,-1}> { y = Reduce!(positive, a) }", "all": "{ y = Reduce!<keepdims=0>(positive) }"}, (18, LATEST)
)
def test_reduction_of_opset_18(text: str, opset: int, op: str) -> None:
    check(f"(float[N,3,4,5] positive) => (float y) {text.replace('!', op)}", opset)


@cases(
    {
        "arg_max": "(float[N,5] x) => (int64 y) { y = ArgMax<axis=1, keepdims=0>(x) }",
        "arg_max_first_of_equals": "(int64[N,9] i) => (int64 y) { x = Cast<to=1>(i)  y = ArgMax<axis=1>(x) }",
        "arg_min_last_of_equals": "(int64[N,9] i) => (int64 y) { x = Cast<to=1>(i)  y = ArgMin<axis=1, select_last_index=1>(x) }",
        "top_k_ties": "(int64[N,9] i) => (int64 y) <int64[1] k = {9}> { x = Cast<to=1>(i)  v, y = TopK(x, k) }",
        "one_hot": "(int64[N] i) => (float y) <int64 d = {3}, float[2] v = {-1, 2}> { y = OneHot(i, d, v) }",
        "one_hot_axis": "(int64[N,2] i) => (float y) <int64 d = {3}, float[2] v = {0, 1}> { y = OneHot<axis=1>(i, d, v) }",
        "shape": "(float[N,3,4] x) => (int64 y) { y = Shape(x) }",
        "size": "(float[N,3,4] x) => (int64 y) { y = Size(x) }",
        "range": """(float[N,3,4] x) => (int64 y) <int64 one = {1}, int64 two = {2}>
            { n = Size(x)  y = Range(one, n, two) }""",
        "constant_of_shape": """(float[N,3] x) => (float y)
            { s = Shape(x)  c = ConstantOfShape<value = float[1] {2.5}>(s)  y = Add(x, c) }""",
        "eye_like": "(float[3,4] x) => (float y) { y = EyeLike<k=1>(x) }",
    }
)
def test_integers_and_shapes(text: str, opset: int) -> None:
    check(text, opset, gradient=False)


@cases({"part": "(float[N,3,4] x) => (int64 y) { y = Shape<start=-2, end=3>(x) }"}, opsets=(15, LATEST))
def test_part_of_a_shape(text: str, opset: int) -> None:
    check(text, opset, gradient=False)


_COMPUTED = """(float[N,3,4] x) => (float y) <int64 zero = {0}, int64[1] a = {0}, int64[1] rest = {-1}, float half = {0.5}> {
    s = Shape(x)  n = Gather(s, zero)  m = Unsqueeze(n, a)  t = Concat<axis=0>(m, rest)  f = Cast<to=1>(t)
    r = Reshape(x, t)  h = Mul(f, half)  y = Add(r, half)  }"""


def test_shapes_are_computed_on_the_host() -> None:
    """On a device without data: every shape has to come from the host, or reading it would fail."""
    imported = network(parse(_COMPUTED)).to("meta")
    whole = imported.extract(["x"], ["s", "n", "t", "f", "y"])
    values = whole({"x": torch.empty(2, 3, 4, device="meta")})
    assert {name: value.device.type for name, value in values.items()} == {
        "s": "cpu",
        "n": "cpu",
        "t": "cpu",
        "f": "cpu",
        "y": "meta",
    }
    assert values["y"].shape == (2, 12)
    assert values["t"].tolist() == [2, -1]


def test_a_constant_used_on_both_sides_has_a_copy_on_each() -> None:
    text = """(float[N,2] x) => (int64 y, float z) <float[2] c = {1, 1}>
        { s = Shape(x)  f = Cast<to=1>(s)  g = Mul(f, c)  y = Cast<to=7>(g)  z = Add(x, c) }"""
    imported = network(parse(text)).to("meta")
    values = imported({"x": torch.empty(3, 2, device="meta")})
    assert values["y"].tolist() == [3, 2]
    assert values["z"].device.type == "meta"
    assert imported.nodes["c"].op == "get_attr"


def test_host_values_meet_tensors_on_their_device() -> None:
    text = "(float[N,3] x) => (float y) { s = Shape(x)  c = ConstantOfShape<value = float[1] {2.5}>(s)  y = Add(x, c) }"
    imported = network(parse(text)).to("meta")
    assert imported({"x": torch.empty(2, 3, device="meta")})["y"].device.type == "meta"


def test_computed_axes_are_refused() -> None:
    with pytest.raises(ModelError, match="axes are computed"):
        network(parse("(float[N,3,4] x, int64[1] a) => (float y) { y = ReduceSum(x, a) }"))


def test_hundreds_of_axes_are_refused() -> None:
    axes = ", ".join(str(axis) for axis in range(200))
    with pytest.raises(ModelError, match="it has 200 axes"):
        network(parse(f"(float[N] x) => (float[] y) <int64[200] a = {{{axes}}}> {{ y = Unsqueeze(x, a) }}"))
