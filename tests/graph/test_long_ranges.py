"""A Range of constants is written out by onnx's shape inference: one that would take terabytes is refused before that."""

from __future__ import annotations

import onnx.parser
import pytest

from genie_onnx.errors import ModelError
from genie_onnx.graph import load, normalise
from genie_onnx.graph.infer_shapes import LONGEST_RANGE


def _model(start: float, limit: float, delta: float, kind: str = "int64") -> onnx.ModelProto:
    return onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N,2] x) => (float[N,2] y, {kind}[M] z)
        <{kind} a = {{{start}}}, {kind} b = {{{limit}}}, {kind} c = {{{delta}}}> {{ y = Relu(x) ["count"] z = Range(a, b, c) }}"""
    )


@pytest.mark.parametrize(
    ("start", "limit", "delta", "kind"),
    [
        (0, 2**31, 1, "int64"),
        (0, LONGEST_RANGE + 1, 1, "int64"),
        (2**40, 0, -1000, "int64"),
        (0, 1e9, 0.5, "float"),
        (0, 1, 1e-9, "double"),
    ],
)
def test_a_range_beyond_any_use_is_refused(start: float, limit: float, delta: float, kind: str) -> None:
    with pytest.raises(ModelError, match=r"Range 'count': it counts from .* numbers; up to 16777216 are supported\. Export"):
        normalise(load(_model(start, limit, delta, kind)))


@pytest.mark.parametrize(("start", "limit", "delta"), [(0, 50, 1), (2**40, 0, 1), (2**40, 2**40 + 7, 3), (5, -5, -1)])
def test_one_of_use_is_not(start: int, limit: int, delta: int) -> None:
    normalise(load(_model(start, limit, delta)))
