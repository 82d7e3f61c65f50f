"""Which convolutions have known statistics."""

from __future__ import annotations

from graphs import graph

from genie_onnx.graph import batchnorms, coverage

NET = graph(
    """net (float[N, 2, 4, 4] x, float[2, 2, 1, 1] w, float[2, 2, 1, 1] wt) => (float[N, 2, 8, 4] y) {
    k = Constant <value = float[2] {0.5, 2.0}> ()
    k4 = Constant <value = float[4] {0.5, 2.0, 1.0, 3.0}> ()
    shift = Constant <value = float[2, 1, 1] {0.5, 2.0}> ()
    direct = Conv (x, w)
    n1 = BatchNormalization (direct, k, k, k, k)
    left = Conv (n1, w)
    right = ConvTranspose (n1, wt)
    both = Concat <axis = 1> (left, right)
    n2 = BatchNormalization (both, k4, k4, k4, k4)
    h1, h2 = Split <axis = 1> (n2)
    shifted = Conv (h1, w)
    plus = Add (shifted, shift)
    n3 = BatchNormalization (plus, k, k, k, k)
    clipped = Conv (n3, w)
    relu = Relu (clipped)
    n4 = BatchNormalization (relu, k, k, k, k)
    summed = Conv (n4, w)
    sum = Add (summed, n3)
    n5 = BatchNormalization (sum, k, k, k, k)
    stacked = Conv (n5, w)
    tall = Concat <axis = 2> (stacked, h2)
    y = BatchNormalization (tall, k, k, k, k)
}"""
)


def test_what_moves_channels_about_keeps_their_statistics_and_what_mixes_them_does_not() -> None:
    found = coverage(NET, [b.value for b in batchnorms(NET)])
    assert found.covered == {name: name for name in ("direct", "left", "right", "shifted")}
    assert found.missing == {name: name for name in ("clipped", "summed", "stacked")}
    assert str(found) == "4 of 7 convolutions"


def test_statistics_of_the_output_itself() -> None:
    found = coverage(NET, ["summed"])
    assert list(found.covered) == ["summed"]
    assert (len(found.missing), found.total) == (6, 7)


def test_products_count_where_their_statistics_are_known() -> None:
    """Through what only rearranges their channels; a product without statistics is not missed, nor is one of other channels."""
    net = graph(
        """net (float[N, 2, 4, 4] x, float[3, 2, 1, 1] w, float[3, 5] wm, float[5, 5] wn, float[5, 4] wg) => (float[N, 4] y) {
        k3 = Constant <value = float[3] {0.5, 2.0, 1.0}> ()  k5 = Constant <value = float[5] {0.5, 2.0, 1.0, 3.0, 1.0}> ()
        k16 = ConstantOfShape <value = float[1] {2.0}> (sixteen)  sixteen = Constant <value_ints = [16]> ()
        rows = Constant <value_ints = [-1, 5]> ()  flat = Constant <value_ints = [0, 3, -1]> ()
        back = Constant <value_ints = [-1, 16, 5]> ()
        conv = Conv (x, w)  r = Reshape (conv, flat)
        n1 = BatchNormalization (r, k3, k3, k3, k3)  t = Transpose <perm = [0, 2, 1]> (n1)
        one = MatMul (t, wm)  m = Reshape (one, rows)  n2 = BatchNormalization (m, k5, k5, k5, k5)  b = Reshape (n2, back)
        two = MatMul (b, wn)  n3 = BatchNormalization (two, k16, k16, k16, k16)
        mean = ReduceMean <axes = [1], keepdims = 0> (n3)  y = MatMul (mean, wg) }"""
    )
    found = coverage(net, [b.value for b in batchnorms(net)])
    assert list(found.covered) == ["conv", "one"]
    assert found.missing == {}
    assert (found.products, found.convolutions) == ({"one"}, 1)
    assert str(found) == "2 of 2 convolutions and matrix products"
