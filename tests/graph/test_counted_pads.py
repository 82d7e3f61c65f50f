"""count_include_pad where there are no pads."""

from __future__ import annotations

import pytest
from onnx_models import difference, image, parse, run

from genie_onnx.graph import load, normalise
from genie_onnx.graph.query import attribute


@pytest.mark.parametrize(("pads", "kept"), [("", 0), (", pads=[0,0,0,0]", 0), (', auto_pad="VALID"', 0), (", pads=[0,0,1,0]", 1)])
def test_pads_are_counted_only_where_there_are_some(pads: str, kept: int) -> None:
    """6 x 5 pixels: with ceil_mode the last windows reach beyond the image, which counts neither way."""
    node = f"AveragePool<kernel_shape=[3,2], strides=[2,2], ceil_mode=1, count_include_pad=1{pads}>(x)"
    proto = parse(f"g (float[N,2,6,5] x) => (float[N,C,H,W] y) {{ y = {node} }}")
    graph = normalise(load(proto))
    assert attribute(next(iter(graph.graph)), "count_include_pad", 0) == kept
    x = image(2, 2, 6, 5)
    assert difference(run(proto, x), run(graph, x)) < 1e-6
