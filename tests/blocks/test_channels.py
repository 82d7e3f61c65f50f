"""Which axis counts channels."""

from __future__ import annotations

import pytest
from graphs import graph
from token_nets import ATTENTION, BATCH_SECOND, CHANNELS_LAST

from genie_onnx.blocks import partition
from genie_onnx.blocks.channels import channels_last

# Gemm on rows [N T, C] between tokens, a class token taken out, a map made of tokens
ROWS = """
    agraph (float[N,3,8,8] x, float[4,3,2,2] w1, float[4,4] w2, float[4,5] w3) => (float[N,5] y, float[N,4,4,4] z)
    <int64[3] tokens = {0, 4, 16}, int64[2] rows = {-1, 4}, int64[3] back = {-1, 16, 4}, int64[4] map = {0, 4, 4, 4},
     int64 first = {0}> {
        a = Conv<strides=[2,2]>(x, w1)
        flat = Reshape(a, tokens)
        t = Transpose<perm=[0,2,1]>(flat)
        r = Reshape(t, rows)
        g = Gemm(r, w2)
        b = Reshape(g, back)
        s = Add(b, t)
        c = Gather<axis=1>(s, first)
        y = Gemm(c, w3)
        last = Reshape(s, map)
        z = Transpose<perm=[0,3,1,2]>(last)
    }"""


@pytest.mark.parametrize(
    ("text", "expected", "others"),
    [
        (CHANNELS_LAST, {"last", "norm", "wide_b", "act", "narrow", "narrow_b"}, {"stem", "deep", "back", "sum", "y"}),
        (ATTENTION, {"t", "q", "v", "mixed", "o", "z", "y"}, {"a", "flat", "kt"}),
        (BATCH_SECOND, {"t", "q", "vn", "mixed", "o", "z", "zn", "y"}, {"a", "flat", "kn"}),
        (ROWS, {"t", "r", "b", "s", "last"}, {"a", "flat", "z"}),
    ],
    ids=["channels last", "attention", "batch second", "rows"],
)
def test_the_axis_is_followed_through_the_graph(text: str, expected: set[str], others: set[str]) -> None:
    found = channels_last(graph(text))
    assert expected <= found
    assert found.isdisjoint(others)


def test_blocks_know_it_of_what_they_yield() -> None:
    assert {v for block in partition(graph(ATTENTION)) for v in block.channels_last} >= {"z"}
    assert not any(block.channels_last for block in partition(graph(CHANNELS_LAST)))
