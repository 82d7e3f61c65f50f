"""A file made for one batch size computes, for four images, what it computes for each alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx_models import FLOAT_ROUNDING, difference, image, one_by_one, ops, parse, run

from genie_onnx.errors import ModelError
from genie_onnx.graph import batch_obstacle, load, normalise, problems, query

K = "Constant<value_ints="
SHUFFLE = (
    f"a = {K}[4,2,9]>() b = {K}[2,-1,4,3,3]>() i = Constant<value_int=0>() j = Constant<value_int=1>()"
    "  r = Reshape(x, a) t = Transpose<perm=[1,0,2]>(r)"
    "  s = Reshape(t, b) first = Gather(s, i) second = Gather(s, j) y = Concat<axis=1>(first, second)"
)
# name: (shape of one image, nodes); every one with the batch, 1, in some constant or axis order
FREEABLE = {
    "reshape_1_c": ("8,1,1", f"s = {K}[1,8]>() y = Reshape(x, s)"),
    "reshape_1_minus1": ("8,3,3", f"s = {K}[1,-1]>() y = Reshape(x, s)"),
    "reshape_minus1_c": ("8,1,1", f"s = {K}[-1,8]>() y = Reshape(x, s)"),
    "reshape_boxes": ("8,3,3", f"s = {K}[1,36,2]>() t = Transpose<perm=[0,2,3,1]>(x) y = Reshape(t, s)"),
    "reshape_merges_and_splits": ("8,3,3", f"a = {K}[2,36]>() b = {K}[1,8,9]>() r = Reshape(x, a) e = Relu(r) y = Reshape(e, b)"),
    "reshape_by_shape_of_x": ("8,3,3", "s = Shape(x) f = Flatten(x) y = Reshape(f, s)"),
    "channel_shuffle": ("8,3,3", SHUFFLE),
    "batch_behind_others": (
        "8,3,3",
        f"t = Transpose<perm=[1,0,2,3]>(x) s = {K}[8,1,9]>() r = Reshape(t, s) y = Transpose<perm=[1,2,0]>(r)",
    ),
    "flatten": ("8,3,3", "f = Flatten<axis=2>(x) y = Flatten(x)"),
    "flatten_axis_0_of_row": ("8,3,3", "f = Flatten(x) t = Transpose(f) y = Transpose(t)"),
    "expand": ("8,1,1", f"s = {K}[1,8,3,3]>() y = Expand(x, s)"),
    "tile": ("8,3,3", f"r = {K}[1,1,2,1]>() y = Tile(x, r)"),
    "slice_batch_0_1": ("8,3,3", f"s = {K}[0,1]>() e = {K}[1,-1]>() a = {K}[0,2]>() y = Slice(x, s, e, a)"),
    "slice_without_axes": ("8,3,3", f"s = {K}[0,2]>() e = {K}[9223372036854775807,5]>() y = Slice(x, s, e)"),
    "resize_sizes_nearest": (
        "8,3,3",
        f's = {K}[1,8,6,9]>() y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric">(x, , , s)',
    ),
    "resize_sizes_linear": ("8,3,3", f's = {K}[1,8,7,10]>() y = Resize<mode="linear">(x, , , s)'),
    "resize_sizes_smaller": ("8,7,11", f's = {K}[1,8,3,5]>() y = Resize<mode="linear">(x, , , s)'),
    "squeeze_all": (
        "8,1,3",
        f"u = {K}[0]>() t = Transpose<perm=[1,0,2,3]>(x) q = {K}[2]>() z = Squeeze(t, q) y = Transpose<perm=[1,0,2]>(z)",
    ),
    "unsqueeze_front": ("8,3,3", f"a = {K}[0,-1]>() u = Unsqueeze(x, a) q = {K}[0]>() y = Squeeze(u, q)"),
    "pad": ("8,3,3", f"p = {K}[0,0,1,2,0,0,0,1]>() y = Pad(x, p)"),
    "split_softmax": ("8,3,3", "a, b = Split<axis=1, num_outputs=2>(x) s = Softmax<axis=1>(b) y = Mul(a, s)"),
    "reduce": ("8,3,3", f"a = {K}[2,3]>() y = ReduceMean<keepdims=0>(x, a)"),
    "argmax": ("8,3,3", "y = ArgMax<axis=1, keepdims=0>(x)"),
    "matmul_attention": ("8,3,3", f"s = {K}[1,8,9]>() r = Reshape(x, s) t = Transpose<perm=[0,2,1]>(r) y = MatMul(r, t)"),
    "matmul_weight": ("8,3,3", "y = MatMul(x, w)"),
    "matmul_weight_left": ("8,3,3", "y = MatMul(w, x)"),
    "gemm": ("3,1,1", f"s = {K}[1,3]>() r = Reshape(x, s) y = Gemm(r, w)"),
    "gemm_transposed": ("3,1,1", f"s = {K}[1,3]>() r = Reshape(x, s) t = Transpose(r) y = Gemm<transA=1>(t, w)"),
    "tokens_of_attention": (
        "3,2,2",
        f"a = {K}[1,3,4]>() b = {K}[4,3]>() c = {K}[4,1,3]>() r = Reshape(x, a) t = Transpose<perm=[2,0,1]>(r) s = Reshape(t, b)"
        "  mm = Gemm(s, w) z = Relu(mm) u = Reshape(z, c) y = Transpose<perm=[1,0,2]>(u)",
    ),
    "attention": ("2,4,4", "y = Attention(x, x, x)"),
    "class_token": (
        "8,3,3",
        f"s = {K}[1,1,1,1]>() d = ConstantOfShape<value = float[1] {{2.0}}>(s) e = {K}[1,1,3,3]>() c = Expand(d, e)"
        "  y = Concat<axis=-3>(c, x, c, c)",
    ),
    "as_strided": (
        "3,2,2",
        f"m = GlobalAveragePool(x) s = {K}[-1]>() r = Reshape(m, s) b = Constant<value_int=0>() t = Constant<value_int=3>()"
        f" o = Constant<value_int=1>() i = Range(b, t, o) f = {K}[1,3,1,1]>() j = Reshape(i, f) y = Gather(r, j)",
    ),
    "gather_elements": ("8,3,3", "i = ArgMax<axis=2, keepdims=1>(x) y = GatherElements<axis=2>(x, i)"),
    "grid_sample": (
        "2,4,4",
        "t = Transpose<perm=[0,2,3,1]>(x) h = Tanh(t) y = GridSample(x, h)",
    ),
    "layernorm": ("8,3,3", "y = LayerNormalization(x, v)"),
    "baked_constant": (
        "8,3,3",
        f"c = {K}[1,1,1,1]>() d = ConstantOfShape<value = float[1] {{2.0}}>(c) e = Mul(x, d) y = Sqrt(d)",
    ),
}


def fixed(case: str) -> onnx.ModelProto:
    shape, nodes = FREEABLE[case]
    outputs = "(float[] e)" if case == "baked_constant" else "(int64[] y)" if case == "argmax" else "(float[] y)"
    return parse(
        f"g (float[1,{shape}] x, float[3,3] w, float[3] v) => {outputs} {{ {nodes} }}", opset=23 if "Attention" in nodes else 18
    )


@pytest.mark.parametrize("case", FREEABLE)
def test_four_images_are_four_times_one(case: str) -> None:
    """The rewritten constants change what is computed for no image; MatMul alone may sum in another order for more rows."""
    proto = fixed(case)
    graph = normalise(load(proto))
    assert batch_obstacle(graph) is None
    assert query.input_shape(graph)[0] is None
    x = image(4, *(int(d) for d in FREEABLE[case][0].split(",")))
    expected = one_by_one(proto, x)
    assert difference(expected, run(graph, x)) < (
        FLOAT_ROUNDING if "mm" in case or "attention" in case or "matmul" in case else 1e-30
    )
    for value in graph.graph.outputs:  # the inferred shape, N put in, is what comes out
        sizes = [
            len(x) if str(d) == "N" else int(str(d).removesuffix("*N")) * (len(x) if "*N" in str(d) else 1) for d in value.shape
        ]
        assert tuple(sizes) == expected[value.name].shape


def test_batch_of_four_is_freed_too() -> None:
    """Reshape (4, 36, 2) for a batch of 4 holds for 1 and for 8."""
    proto = parse(f"g (float[4,8,3,3] x) => (float[4,36,2] y) {{ s = {K}[4,36,2]>() y = Reshape(x, s) }}")
    graph = normalise(load(proto))
    x = image(8, 8, 3, 3)
    assert np.array_equal(run(graph, x)["y"], np.concatenate([run(proto, x[i : i + 4])["y"] for i in (0, 4)]))
    assert run(graph, x[:1])["y"].shape == (1, 36, 2)


STUCK = {
    "mean_over_batch": ("m = ReduceMean<axes=[0]>(x) y = Sub(x, m)", "ReduceMean 'm_' removes the batch axis"),
    "softmax_over_batch": ("y = Softmax<axis=0>(x)", "Softmax 'y_' works along the batch"),
    "concat_on_batch": ("y = Concat<axis=0>(x, x)", "Concat 'y_' works along the batch"),
    "first_image_only": ("i = Constant<value_int=0>() y = Gather(x, i)", "Gather 'y_' works along the batch"),
    "squeezed_away": (f"a = {K}[0]>() y = Squeeze(x, a)", "Squeeze 'y_' removes the batch axis"),
    "samples_multiplied": (
        f"s = {K}[1,72]>() r = Reshape(x, s) t = Transpose(r) y = MatMul(r, t)",
        "MatMul 'y_' multiplies samples",
    ),
    "batch_last": ("y = Transpose<perm=[1,2,3,0]>(x)", "output 'y' has the batch on axis 3"),
    "repeated": (f"s = {K}[5,8,3,3]>() y = Expand(x, s)", "Expand 'y_' repeats the batch"),
    "merged_behind": (
        f"t = Transpose<perm=[1,0,2,3]>(x) s = {K}[8,9]>() r = Reshape(t, s) u = Constant<value_ints=[1,72]>() y = Reshape(r, u)",
        "output 'y' has the batch on axis 1",
    ),
    "samples_between_each_other": (
        f"t = Transpose<perm=[2,3,0,1]>(x) s = {K}[9,8]>() r = Reshape(t, s) c = {K}[8,8]>() d = ConstantOfShape(c)"
        " y = Gemm(r, d)",
        "output 'y' has the samples of a batch between each other",
    ),
    "cut_across": (
        f"t = Transpose<perm=[1,0,2,3]>(x) s = {K}[6,12]>() y = Reshape(t, s)",
        "Reshape 'y_' from [8, 1, 3, 3] to [6, 12] mixes the batch",
    ),
    "elements_of_other_images": (
        "z = Sub(x, x) i = Cast<to=7>(z) y = GatherElements<axis=0>(x, i)",
        "GatherElements 'y_' works along the batch",
    ),
    "same_places_of_all_images": (
        f"s = {K}[1,8,1,3]>() i = ConstantOfShape<value = int64[1] {{1}}>(s) y = GatherElements<axis=2>(x, i)",
        "GatherElements 'y_' has operands that do not both have the batch on the same axis",
    ),
    "joined_on_the_batch": ("y = Concat<axis=0>(x, k)", "Concat 'y_' joins values"),
    "joined_with_constants_between": ("r = Relu(x) y = Concat<axis=1>(x, k, r)", "Concat 'y_' joins values"),
    "gathered_out_of_order": (
        f"s = {K}[-1]>() r = Reshape(x, s) i = Constant<value_ints=[1,0]>() y = Gather(r, i)",
        "Gather 'y_' works along the batch",
    ),
    "attention_to_other_samples": (
        "t = Transpose<perm=[1,0,2,3]>(x) y = Attention(t, t, t)",
        "Attention 'y_' gets Q, K and V that do not all have the batch on axis 0",
    ),
    "unknown_operator": ('y = Einsum<equation="bchw->bc">(x)', "Einsum 'y_' is not known"),
}


@pytest.mark.parametrize("case", STUCK)
def test_what_cannot_be_freed_stays_fixed_and_says_why(case: str) -> None:
    """The graph is as it was; the reason names the node; `check` has it as a problem."""
    nodes, reason = STUCK[case]
    opset = 23 if "Attention" in nodes else 17
    proto = parse(f"g (float[1,8,3,3] x, float[1,8,3,3] k) => (float[] y) {{ {nodes} }}", opset)
    for node in proto.graph.node:
        node.name = f"{node.output[0]}_"
    graph = normalise(load(proto))
    assert (batch_obstacle(graph) or "").startswith(reason)
    assert any(f"fixed batch, and {reason}" in problem for problem in problems(load(proto)))
    assert query.input_shape(graph)[0] == 1
    x = image(1, 8, 3, 3)
    assert difference(run(proto, x), run(graph, x)) == 0


def test_constants_that_do_not_fit_are_refused() -> None:
    """A permutation of the wrong length is the file's fault, not the batch's."""
    proto = parse("g (float[1,8,3,3] x) => (float[] y) { y = Transpose<perm=[3,1,2]>(x) }")
    with pytest.raises(ModelError, match="Transpose 'Transpose_y' contradicts itself"):
        normalise(load(proto))


def test_open_batch_that_cannot_be_followed_stays_open() -> None:
    """An operator without a rule does not make a model with a dynamic batch fixed."""
    proto = parse('g (float[N,8,3,3] x) => (float[N,8] y) { y = Einsum<equation="bchw->bc">(x) }')
    graph = normalise(load(proto))
    assert batch_obstacle(graph) is None
    x = image(4, 8, 3, 3)
    assert difference(run(proto, x), run(graph, x)) == 0


def test_open_batch_with_shape_arithmetic_gives_constants() -> None:
    """The same graph whether the exporter wrote the batch as a number or computed it."""
    dynamic = parse(
        f"g (float[B,8,3,3] x) => (float[B,9,8] y)"
        f"{{ s = Shape(x) i = {K}[0]>() b = Gather(s, i) k = {K}[8,9]>() t = Concat<axis=0>(b, k) r = Reshape(x, t)"
        "  y = Transpose<perm=[0,2,1]>(r) }"
    )
    graph = normalise(load(dynamic))
    assert ops(graph) == ["Reshape", "Transpose"]
    x = image(4, 8, 3, 3)
    assert difference(run(dynamic, x), run(graph, x)) == 0


def test_open_height_keeps_its_names() -> None:
    """Dimensions that the user left open stay open under the user's names."""
    proto = parse("g (float[1,2,height,width] x, float[3,2,1,1] w) => (float[] y) { y = Conv(x, w) }")
    graph = normalise(load(proto))
    assert [str(d) for d in query.image_input(graph).shape] == ["N", "2", "height", "width"]
    assert query.input_shape(graph) == (None, 2, None, None)
    x = image(4, 2, 5, 6)
    assert difference(one_by_one(proto, x), run(graph, x)) == 0
