"""Whether a network ends as a classifier does, and in which value."""

from __future__ import annotations

import pytest
from graphs import graph

from genie_onnx.graph import class_scores

HEAD = "net (float[N, 4, 1, 1] x, float[4, 3] w) => ({outputs}) {{ f = Flatten (x) g = Gemm (f, w) {rest} }}"


@pytest.mark.parametrize(
    ("outputs", "rest", "expected"),
    [
        ("float[N, 3] g", "", "g"),
        ("float[N, 3] y", "y = Softmax <axis = -1> (g)", "g"),
        ("float[N, 3] y", "s = LogSoftmax <axis = 1> (g) y = Identity (s)", "g"),
        ("float[N, 3] y", "y = Softmax <axis = 0> (g)", "y"),
        ("float[N, 3] y", "y = Sigmoid (g)", "y"),
        ("float[N, 3, 1] y", "a = Constant <value = int64[1] {2}> () y = Unsqueeze (g, a)", None),
        ("float[N, 4, 1, 1] y, float[N, 3] g", "y = Relu (x)", "g"),
        ("float[N, 3] y", "z = Relu (f) v = Gemm (z, w) y = Softmax (v)", "v"),
    ],
)
def test_outputs(outputs: str, rest: str, expected: str | None) -> None:
    assert class_scores(graph(HEAD.format(outputs=outputs, rest=rest))) == expected


def test_one_number_an_image_is_no_choice() -> None:
    assert class_scores(graph("net (float[N, 4] x, float[4, 1] w) => (float[N, 1] y) { y = Gemm (x, w) }")) is None
