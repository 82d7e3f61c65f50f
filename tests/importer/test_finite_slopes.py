"""Gradients of operators with a root, a logarithm or a norm in them, where their slope is infinite."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from graphs import graph

from genie_onnx.importer import import_graph

PIECES = {
    "Sqrt": "y = Sqrt(x)",
    "Pow": "y = Pow(x, half)",
    "Pow of several": "y = Pow(x, halves)",
    "ReduceL2": "y = ReduceL2<axes=[1]>(x)",
    "ReduceLogSum": "e = Add(x, small) y = ReduceLogSum<axes=[1]>(e)",
    "GlobalLpPool": "y = GlobalLpPool(x)",
    "LpPool": "y = LpPool<kernel_shape=[1,2]>(x)",
    "LpNormalization": "y = LpNormalization<axis=1>(x)",
    "InstanceNormalization": "y = InstanceNormalization<epsilon=0.0>(x, ones, noughts)",
    "Acos": "z = Sub(x, one) y = Acos(z)",
    "LRN": "y = LRN<size=1, alpha=1.0, beta=0.5, bias=0.0>(x)",
}


@pytest.mark.parametrize("operator", PIECES)
def test_gradients_are_finite_and_right_where_they_can_be(operator: str) -> None:
    """Two pixels of 0 beside ones that are not; where f is smooth the slope is that of a difference quotient."""
    net = graph(f"""
        agraph (float[N,2,1,4] x) => (float[N,c,h,w] y)
        <float half = {{0.5}}, float[1,2,1,1] halves = {{0.5, 0.25}}, float small = {{0.0}}, float one = {{1.0}},
         float[2] ones = {{1.0, 1.0}}, float[2] noughts = {{0.0, 0.0}}> {{ {PIECES[operator]} }}""")
    network = import_graph(net)
    numbers = [[0.0, 0.0, 0.5, 0.9], [0.0, 0.0, 0.7, 0.3]]
    if operator == "InstanceNormalization":  # a channel without variance
        numbers[1] = [0.0] * 4

    def total(x: torch.Tensor) -> torch.Tensor:
        y = network({"x": x})["y"]
        return torch.nan_to_num(y, neginf=0).square().sum()

    x = torch.tensor(numbers).reshape(1, 2, 1, 4).requires_grad_()
    total(x).backward()
    assert x.grad is not None
    assert torch.isfinite(x.grad).all()
    for place in ((0, 0, 0, 3), (0, 0, 0, 2)):
        step = torch.zeros_like(x)
        step[place] = 1e-3
        quotient = (total(x.detach() + step) - total(x.detach() - step)) / 2e-3
        np.testing.assert_allclose(float(x.grad[place]), float(quotient), rtol=0.05, atol=0.02)
