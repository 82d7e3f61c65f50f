"""Which outputs stand in an order that the image decides."""

from __future__ import annotations

import onnx_ir as ir
from onnx_models import parse

from genie_onnx import graph


def test_what_is_behind_a_choice_and_nothing_else() -> None:
    model = parse(
        """net (float[N, 8] x) => (float[N, 2] best, int64[N, 2] places, float[N, 2] found, float[N, 8] all) {
            k = Constant <value = int64[1] {2}> ()
            best, places = TopK(x, k)
            all = Relu(x)
            found = GatherElements <axis = 1> (all, places)
        }"""
    )
    assert graph.in_chosen_order(ir.from_proto(model)) == {"best", "places", "found"}
