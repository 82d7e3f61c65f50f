"""Pools against onnxruntime, above all where torch's own pools count or place windows differently."""

from __future__ import annotations

import pytest
from importer.against_onnxruntime import LATEST, cases, check

_X = "(float[N,3,10,11] x) => (float y)"


@cases(
    {
        "plain": f"{_X} {{ y = MaxPool<kernel_shape=[2,3]>(x) }}",
        "pads": f"{_X} {{ y = MaxPool<kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]>(x) }}",
        "asymmetric": f"{_X} {{ y = MaxPool<kernel_shape=[3,3], pads=[0,1,2,0], strides=[2,2]>(x) }}",
        "large_pads": f"{_X} {{ y = MaxPool<kernel_shape=[3,3], pads=[2,2,2,2], strides=[2,2]>(x) }}",
        "dilation": f"{_X} {{ y = MaxPool<kernel_shape=[3,2], dilations=[2,3], pads=[1,1,1,1]>(x) }}",
        "ceil": f"{_X} {{ y = MaxPool<kernel_shape=[3,3], strides=[2,3], ceil_mode=1>(x) }}",
        "last_window_in_padding": f"{_X} {{ y = MaxPool<kernel_shape=[2,2], strides=[3,3], pads=[0,0,1,1], ceil_mode=1>(x) }}",
        "ceil_dilation": f"{_X} {{ y = MaxPool<kernel_shape=[3,3], strides=[2,2], dilations=[2,2], ceil_mode=1>(x) }}",
        "kernel_1d": "(float[N,3,10] x) => (float y) { y = MaxPool<kernel_shape=[3], pads=[1,0], strides=[2]>(x) }",
        "kernel_3d": "(float[N,2,5,6,7] x) => (float y) { y = MaxPool<kernel_shape=[2,3,2], strides=[1,2,2], ceil_mode=1>(x) }",
        "global": f"{_X} {{ y = GlobalMaxPool(x) }}",
    }
)
def test_max_pool(text: str, opset: int) -> None:
    check(text, opset)


@pytest.mark.parametrize("include", [0, 1], ids=["pads_excluded", "pads_included"])
@cases(
    {
        "plain": "kernel_shape=[2,3]",
        "pads": "kernel_shape=[3,3], pads=[1,1,1,1], strides=[2,2]",
        "asymmetric": "kernel_shape=[3,3], pads=[0,1,2,0], strides=[2,2]",
        "large_pads": "kernel_shape=[3,3], pads=[2,2,2,2]",
        "ceil": "kernel_shape=[3,3], strides=[2,3], ceil_mode=1",
        "ceil_pads": "kernel_shape=[3,3], strides=[2,3], pads=[1,1,1,1], ceil_mode=1",
        "ceil_asymmetric": "kernel_shape=[4,3], strides=[3,2], pads=[0,2,1,1], ceil_mode=1",
    },
    opsets=(13, 19, LATEST),
)
def test_average_pool(text: str, opset: int, include: int) -> None:
    check(f"{_X} {{ y = AveragePool<{text}, count_include_pad={include}>(x) }}", opset)


@cases(
    {
        "kernel_1d": "(float[N,3,10] x) => (float y) { y = AveragePool<kernel_shape=[3], pads=[1,0], strides=[2]>(x) }",
        "kernel_3d": "(float[N,2,5,6,7] x) => (float y) { y = AveragePool<kernel_shape=[2,3,2], pads=[0,1,0,1,0,1]>(x) }",
        "lp": f"{_X} {{ y = LpPool<kernel_shape=[3,2], pads=[1,0,0,1], strides=[2,2], p=2>(x) }}",
        "lp_3": f"{_X} {{ y = LpPool<kernel_shape=[3,2], p=3>(x) }}",
        "global": f"{_X} {{ y = GlobalAveragePool(x) }}",
        "global_3d": "(float[N,2,5,6,7] x) => (float y) { y = GlobalAveragePool(x) }",
    }
)
def test_other_pools(text: str, opset: int) -> None:
    check(text, opset)


@cases({"global_lp": f"{_X} {{ y = GlobalLpPool<p=3>(x) }}"}, opsets=(13,))
def test_global_lp_pool(text: str, opset: int) -> None:
    check(text, opset)


@cases(
    {
        "average_dilation": f"{_X} {{ y = AveragePool<kernel_shape=[3,2], dilations=[2,3], pads=[1,1,1,1]>(x) }}",
        "lp_ceil": f"{_X} {{ y = LpPool<kernel_shape=[3,2], strides=[2,2], dilations=[2,1]>(x) }}",
    },
    opsets=(19, LATEST),
)
def test_dilated_pools(text: str, opset: int) -> None:
    check(text, opset)
