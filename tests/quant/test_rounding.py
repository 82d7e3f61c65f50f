"""Learned rounding: values against the formulas of Eq. 11, gradients against finite differences and the paper's."""

import pytest
import torch

from genie_onnx.quant import Penalty, SoftRounding, harden, inverse_h, rounding, soft_weights, weight_grid
from genie_onnx.quant.ranges import Grid
from genie_onnx.quant.rounding import h

SHAPES = [(4, 9), (2, 5)]


class Example:
    """Two weights on one flat v; `moves`: where V changes the code."""

    def __init__(self, bits: int = 3) -> None:
        random = torch.Generator().manual_seed(0)
        self.weights = [torch.randn(shape, generator=random, dtype=torch.float64) for shape in SHAPES]
        self.grids = [weight_grid(w, bits) for w in self.weights]
        self.rounding, self.v = SoftRounding.build(self.weights, self.grids, [bits, bits])
        self.scale = self.rounding.initial_scale
        self.moves = []
        for w, (s, z) in zip(self.weights, self.grids, strict=True):
            code = torch.floor(w / s.unsqueeze(1)) + z.unsqueeze(1)
            self.moves.append((code >= 0) & (code < 2**bits - 1))

    def soft(self, v: torch.Tensor, scale: torch.Tensor) -> list[torch.Tensor]:
        return soft_weights(v, scale, self.rounding, None)


@pytest.fixture(params=[rounding.PIECE, 20, 10, 1], ids="pieces of {}".format)
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Example:
    """In one piece; the first weight cut, with the rest of it beside the second; weights cut into rows."""
    monkeypatch.setattr(rounding, "PIECE", request.param)
    return Example()


def test_h_and_its_inverse() -> None:
    bits = torch.linspace(0, 1, 11, dtype=torch.float64)
    assert torch.allclose(h(inverse_h(bits)), bits, atol=1e-12)
    assert h(torch.tensor(0.0)).item() == pytest.approx(0.5)
    assert h(torch.tensor([-20.0, 20.0])).tolist() == [0, 1]


def test_soft_weights_start_at_the_float_weights_inside_the_range(example: Example) -> None:
    for w, w_q, moves in zip(example.weights, example.soft(example.v, example.scale), example.moves, strict=True):
        assert torch.allclose(w_q[moves], w[moves], atol=1e-12)
        assert 0 < (~moves).sum() < w.numel()


def test_soft_weights_are_equation_11(example: Example) -> None:
    v = torch.randn(46, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    moves = torch.cat([m.flatten() for m in example.moves])
    v = torch.where(moves, v, example.v)  # elsewhere v has no slope: it stays as it starts
    scale = example.scale * 1.1
    soft = example.soft(v, scale)
    for k, w in enumerate(example.weights):
        s0, z = (part.unsqueeze(1) for part in example.grids[k])
        bits = torch.clamp(torch.floor(w / s0) + h(v.split([36, 10])[k].view_as(w)) + z, 0, 7)
        assert torch.allclose(soft[k], scale.split([4, 2])[k].unsqueeze(1) * (bits - z))


def test_gradients_of_weights(example: Example) -> None:
    v, scale = (example.v * 0.9).requires_grad_(), example.scale.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda a, b: tuple(example.soft(a, b)), (v, scale))


def test_a_weight_that_the_clip_swallows_has_no_gradient(example: Example) -> None:
    v = example.v.clone().requires_grad_()
    strong = Penalty(torch.tensor(2.0), torch.tensor(5.0, dtype=torch.float64))
    sum(w.sum() for w in soft_weights(v, example.scale, example.rounding, strong)).backward()  # type: ignore[union-attr]
    moves = torch.cat([m.flatten() for m in example.moves])
    assert v.grad is not None
    assert v.grad[moves].all()
    assert not v.grad[~moves].any()


def test_base_is_a_constant_of_the_scale(example: Example) -> None:
    """Eq. 11: B does not move with s, so d w_q / d s is exactly B + V."""
    scale = example.scale.clone().requires_grad_()
    soft = example.soft(example.v, scale)
    soft[0].sum().backward()
    codes = soft[0].detach() / example.scale[:4].unsqueeze(1)
    assert scale.grad is not None
    assert torch.allclose(scale.grad[:4], codes.sum(1))
    assert scale.grad[4:].abs().max() == 0


def test_the_penalty_adds_its_gradient(example: Example) -> None:
    """lambda sum(1 - |2 h(v) - 1|^beta), beside whatever comes from the weights."""
    moves = torch.cat([m.flatten() for m in example.moves])
    v = example.v.clone().requires_grad_()
    distance = 2 * (torch.sigmoid(v) * 1.2 - 0.1).clamp(0, 1) - 1
    (0.3 * (1 - distance.abs() ** 3.5)[moves].sum() + 2 * example.soft(v, example.scale)[0].sum()).backward()
    expected, v.grad = v.grad, None
    penalty = Penalty(torch.tensor(3.5), torch.tensor(0.3, dtype=torch.float64))
    (2 * soft_weights(v, example.scale, example.rounding, penalty)[0].sum()).backward()
    assert v.grad is not None
    assert torch.allclose(v.grad, expected)


def test_hardening_the_start_is_nearest_rounding() -> None:
    example = Example(bits=4)
    for k, (w, codes) in enumerate(zip(example.weights, harden(example.v, example.rounding), strict=True)):
        s, z = (part.unsqueeze(1) for part in example.grids[k])
        nearest = torch.clamp(torch.floor(w / s + 0.5) + z, 0, 15) - z
        assert torch.equal(codes.double(), nearest)


def test_codes_never_leave_the_grid() -> None:
    example = Example(bits=2)
    moves = torch.cat([m.flatten() for m in example.moves])
    for logit in (50.0, -50.0):
        v = example.v.masked_fill(moves, logit)
        for codes, z in zip(harden(v, example.rounding), example.rounding.zero_points, strict=True):
            raw = codes + z.unsqueeze(1)
            assert raw.min() >= 0
            assert raw.max() <= 3


def test_weights_of_different_bits_share_one_flat_tensor() -> None:
    weights = [torch.tensor([[10.0, -1.0]]), torch.tensor([[10.0, -1.0]])]
    grid = Grid(torch.ones(1), torch.tensor([2.0]))
    constants, v = SoftRounding.build(weights, [grid, grid], [2, 8])
    narrow, wide = harden(torch.where(v > -10, 0.0, v), constants)
    assert narrow.tolist() == [[1, 0]]  # code 3 at most
    assert wide.tolist() == [[11, 0]]


def test_nothing_as_large_as_the_weights_is_kept_for_the_backward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """v is kept in any case; a Gemm of 10^8 weights is learned within a few copies of it."""
    monkeypatch.setattr(rounding, "PIECE", 256)
    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    constants, v = SoftRounding.build([weight], [weight_grid(weight, 4)], [4])
    v.requires_grad_()
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x) or x, lambda x: x):  # type: ignore[func-returns-value]
        soft_weights(
            v, constants.initial_scale.clone().requires_grad_(), constants, Penalty(torch.tensor(2.0), torch.tensor(1.0))
        )
    assert sum(x.nbytes for x in kept if x.data_ptr() != v.data_ptr()) <= 4 * len(weight)
    assert constants.base.nbytes * 4 == weight.nbytes
