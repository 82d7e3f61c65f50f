"""Networks whose values between layers do not begin with the batch: quantised end to end all the same."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
from graphs import raw_graph

import genie_onnx
from genie_onnx import DistillConfig, QuantizeConfig, ReconstructConfig

CONFIG = QuantizeConfig(
    samples=6, images="procedural", distill=DistillConfig(iterations=1, batch_size=2), reconstruct=ReconstructConfig(iterations=3)
)

# Dense layers on [64 N, C], as tf2onnx writes them; a block ends between the two.
ROWS = """
    agraph (float[N,3,8,8] x, float[4,3,3,3] w1, float[4,8] w2, float[8,4] w3, float[4,4,3,3] w4) => (float[N,4,8,8] y)
    <int64[2] rows = {-1, 4}, int64[4] image = {-1, 8, 8, 4}> {
        a = Conv<pads=[1,1,1,1]>(x, w1)
        moved = Transpose<perm=[0,2,3,1]>(a)
        flat = Reshape(moved, rows)
        wide = MatMul(flat, w2)
        act = Relu(wide)
        narrow = MatMul(act, w3)
        back = Reshape(narrow, image)
        again = Transpose<perm=[0,3,1,2]>(back)
        y = Conv<pads=[1,1,1,1]>(again, w4)
    }"""

# A head on [8 N, C] whose output is [T, N, C]: nothing in its block begins with the batch.
TIME_FIRST = """
    agraph (float[N,3,8,8] x, float[4,3,3,3] w1, float[4,5] w2) => (float[T,M,5] y)
    <int64[1] height = {2}, int64[2] rows = {-1, 4}, int64[3] steps = {8, -1, 5}> {
        a = Conv<pads=[1,1,1,1]>(x, w1)
        act = Relu(a)
        columns = ReduceMean<axes=[2], keepdims=0>(act)
        moved = Transpose<perm=[2,0,1]>(columns)
        flat = Reshape(moved, rows)
        scores = MatMul(flat, w2)
        y = Reshape(scores, steps)
    }"""

# The size of the input, computed once, is used by two blocks.
SIZES = """
    agraph (float[N,3,8,8] x, float[4,3,3,3] w1, float[4,4,3,3] w2, float[4,4,3,3] w3, float[4,4,3,3] w4) => (float[N,4,h,w] y)
    <int64[1] two = {2}, int64[1] four = {4}, int64[1] channels = {4}, int64[1] none = {0}, int64[1] one = {1}> {
        a = Conv<strides=[2,2], pads=[1,1,1,1]>(x, w1)
        all = Shape(x)
        n = Slice(all, none, one)
        size = Slice(all, two, four)
        sizes = Concat<axis=0>(n, channels, size)
        big = Resize<mode="nearest">(a, , , sizes)
        b = Conv<strides=[2,2], pads=[1,1,1,1]>(big, w2)
        c = Conv<strides=[2,2], pads=[1,1,1,1]>(b, w3)
        bigger = Resize<mode="nearest">(c, , , sizes)
        y = Conv<pads=[1,1,1,1]>(bigger, w4)
    }"""


@pytest.mark.parametrize(("text", "layers"), [(ROWS, 4), (TIME_FIRST, 2), (SIZES, 4)])
def test_what_does_not_begin_with_the_batch_stays_inside_blocks(text: str, layers: int, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(ir.to_proto(raw_graph(text)), path)
    report = genie_onnx.quantize(path, config=CONFIG).report
    assert report.parity["ok"]
    assert len(report.weights) == layers
    assert not report.kept_float
