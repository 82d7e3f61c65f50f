"""Learned rounding: values against the formulas of Eq. 11, gradients against finite differences and the paper's."""

import pytest
import torch

from genie_onnx.quant import SoftRounding, harden, inverse_h, soft_weights, weight_grid
from genie_onnx.quant.ranges import Grid
from genie_onnx.quant.rounding import h


def example(bits: int = 3, seed: int = 0) -> tuple[list[torch.Tensor], SoftRounding]:
    generator = torch.Generator().manual_seed(seed)
    weights = [
        torch.randn(4, 9, generator=generator, dtype=torch.float64),
        torch.randn(2, 5, generator=generator, dtype=torch.float64),
    ]
    return weights, SoftRounding.build(weights, [weight_grid(w, bits) for w in weights], [bits, bits])


def test_h_and_its_inverse() -> None:
    bits = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(h(inverse_h(bits)), bits, atol=1e-12)
    assert h(torch.tensor(0.0)).item() == pytest.approx(0.5)
    assert h(torch.tensor([-20.0, 20.0])).tolist() == [0, 1]


def test_soft_weights_start_at_the_float_weights_inside_the_range() -> None:
    weights, rounding = example()
    _, soft = soft_weights(rounding.initial_v, rounding.initial_scale, 0, rounding)
    for w, w_q, alive in zip(weights, soft, rounding.split(rounding.alive), strict=True):
        assert torch.allclose(w_q[alive == 1], w[alive == 1], atol=1e-12)
        assert (alive == 0).sum() < w.numel()


def test_soft_weights_are_equation_11() -> None:
    weights, rounding = example()
    generator = torch.Generator().manual_seed(5)
    v = torch.randn(rounding.base.shape, generator=generator, dtype=torch.float64)
    scale = rounding.initial_scale * 1.1
    _, soft = soft_weights(v, scale, 0, rounding)
    for k, w in enumerate(weights):
        s0, z = rounding.initial_scale.split([4, 2])[k].unsqueeze(1), rounding.zero_points[k].unsqueeze(1)
        bits = torch.clamp(torch.floor(w / s0) + h(v.split([36, 10])[k].view_as(w)) + z, 0, 7)
        assert torch.allclose(soft[k], scale.split([4, 2])[k].unsqueeze(1) * (bits - z))


def test_gradients_of_weights_and_regulariser() -> None:
    _, rounding = example()
    v = (rounding.initial_v * 0.9).requires_grad_()
    scale = rounding.initial_scale.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: tuple(soft_weights(a, b, 0, rounding)[1]), (v, scale))
    assert torch.autograd.gradcheck(lambda a, b: soft_weights(a, b, 3.5, rounding)[0], (v, scale))


def test_base_is_a_constant_of_the_scale() -> None:
    """Eq. 11: B does not move with s, so d w_q / d s is exactly B + V."""
    _, rounding = example()
    scale = rounding.initial_scale.clone().requires_grad_()
    _, soft = soft_weights(rounding.initial_v, scale, 0, rounding)
    soft[0].sum().backward()
    codes = soft[0].detach() / rounding.initial_scale[:4].unsqueeze(1)
    assert scale.grad is not None
    assert torch.allclose(scale.grad[:4], codes.sum(1))
    assert scale.grad[4:].abs().max() == 0


def test_regulariser_is_the_sum_of_1_minus_2h_minus_1_to_the_beta() -> None:
    _, rounding = example()
    value, _ = soft_weights(rounding.initial_v, rounding.initial_scale, 4.0, rounding)
    assert value.item() == pytest.approx((1 - (2 * h(rounding.initial_v) - 1).abs() ** 4).sum().item())
    off, _ = soft_weights(rounding.initial_v, rounding.initial_scale, 0, rounding)
    assert off.item() == 0


def test_hardening_the_start_is_nearest_rounding() -> None:
    weights, rounding = example(bits=4)
    for k, (w, codes) in enumerate(zip(weights, harden(rounding.initial_v, rounding), strict=True)):
        s, z = rounding.initial_scale.split([4, 2])[k].unsqueeze(1), rounding.zero_points[k].unsqueeze(1)
        nearest = torch.clamp(torch.floor(w / s + 0.5) + z, 0, 15) - z
        assert torch.equal(codes, nearest)


def test_codes_never_leave_the_grid() -> None:
    _, rounding = example(bits=2)
    for v in (torch.full_like(rounding.initial_v, 50.0), torch.full_like(rounding.initial_v, -50.0)):
        for codes, z in zip(harden(v, rounding), rounding.zero_points, strict=True):
            raw = codes + z.unsqueeze(1)
            assert raw.min() >= 0
            assert raw.max() <= 3


def test_weights_of_different_bits_share_one_flat_tensor() -> None:
    weights = [torch.tensor([[10.0, -1.0]]), torch.tensor([[10.0, -1.0]])]
    grid = Grid(torch.ones(1), torch.tensor([2.0]))
    narrow, wide = harden(torch.zeros(4), SoftRounding.build(weights, [grid, grid], [2, 8]))
    assert narrow.tolist() == [[1, 0]]  # code 3 at most
    assert wide.tolist() == [[11, 0]]
