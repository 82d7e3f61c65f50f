"""Networks that tests of placement share, and bits of which no rule can borrow another's."""

from __future__ import annotations

import dataclasses

from graphs import graph

from genie_onnx.config import PlacementConfig
from genie_onnx.placement import Placement

BITS = PlacementConfig(wbits=3, abits=4, other_bits=7, first_last_bits=8)
LAYER_INPUTS = dataclasses.replace(BITS, points="layer-inputs")

RESIDUAL = graph("""
    agraph (float[N,4,8,8] x, float[4,4,3,3] w1, float[4,4,3,3] w2, float[4,4,3,3] w3, float[4,4,1,1] w4, float[5,4] w5)
        => (float[N,5] y)
    {
        c1 = Conv<pads=[1,1,1,1]>(x, w1)
        r1 = Relu(c1)
        c2 = Conv<pads=[1,1,1,1]>(r1, w2)
        r2 = Relu(c2)
        c3 = Conv<pads=[1,1,1,1]>(r2, w3)
        sum = Add(c3, r1)
        r3 = Relu(sum)
        c4 = Conv(r3, w4)
        pool = GlobalAveragePool(c4)
        flat = Flatten(pool)
        y = Gemm<transB=1>(flat, w5)
    }""")


def activation_bits(placement: Placement) -> dict[str, int]:
    """Return the bits of every rounded value."""
    return {v: group.bits for group in placement.activations for v in group.values}


SHORTCUT = """
    agraph (float[N,4,8,8] x, float[4,4,3,3] w1, float[8,4,3,3] w2, float[8,8,1,1] w3, float[2,8,1,1] w4) => (float[N,2,4,4] y)
    <int64[2] start = {0, 0}, int64[2] end = {99, 99}, int64[2] axes = {2, 3}, int64[2] steps = {2, 2},
     int64[8] pads = {0, 2, 0, 0, 0, 2, 0, 0}, float fill = {FILL}> {
        c1 = Conv<pads=[1,1,1,1]>(x, w1)
        r1 = Relu(c1)
        c2 = Conv<pads=[1,1,1,1], strides=[2,2]>(r1, w2)
        half = Slice(r1, start, end, axes, steps)
        wide = Pad(half, pads, fill)
        sum = Add(c2, wide)
        r2 = Relu(sum)
        c3 = Conv(r2, w3)
        y = Conv(c3, w4)
    }"""
