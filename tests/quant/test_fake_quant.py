"""LSQ and QDrop: values against the ONNX definition, gradients against METHOD's formulas written out."""

import numpy as np
import pytest
import torch

from genie_onnx.qparams import QParams, quantize
from genie_onnx.quant import MaskSource, fake_quantize


@pytest.mark.parametrize(("zero_point", "bits"), [(0, 4), (8, 4), (3, 3), (128, 8), (0, 2)])
def test_forward_is_quantize_dequantize(zero_point: int, bits: int) -> None:
    x = torch.randn(3, 4, 5, 5, generator=torch.Generator().manual_seed(0)) * 3
    x[0, 0, 0, :4] = torch.tensor([0.05, 0.15, 0.25, -0.05])  # halves of the step: round half to even
    qparams = QParams(bits=bits, scale=np.array(0.1, dtype=np.float32), zero_point=np.array(zero_point))
    expected = quantize(x.numpy(), qparams).dequantize()
    assert np.array_equal(fake_quantize(x, torch.tensor(0.1), zero_point, 2**bits - 1).numpy(), expected)


def test_gradients_are_those_of_lsq() -> None:
    x = torch.tensor([-0.5, 0.12, 0.49, 1.31, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    fake_quantize(x, scale, 0, 3).backward(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]))
    assert x.grad is not None
    assert scale.grad is not None
    assert x.grad.tolist() == [0, 2, 4, 8, 0]
    u = torch.tensor([0.12, 0.49, 1.31]) / 0.5
    slopes = torch.cat([torch.tensor([0.0]), u.round() - u, torch.tensor([3.0])])
    assert scale.grad.item() == pytest.approx(float((slopes * torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0])).sum()), rel=1e-5)


def test_dropped_elements_pass_unchanged_and_teach_the_step_nothing() -> None:
    x = torch.tensor([0.12, 0.49, 9.0], requires_grad=True)
    scale = torch.tensor(0.5, requires_grad=True)
    y = fake_quantize(x, scale, 0, 3, torch.tensor([0.0, 1.0, 0.0]))
    assert y.tolist() == pytest.approx([0.12, 0.5, 9.0])
    y.sum().backward()
    assert x.grad is not None
    assert scale.grad is not None
    assert x.grad.tolist() == [1, 1, 1]
    assert scale.grad.item() == pytest.approx(1 - 0.98, abs=1e-6)


@pytest.mark.parametrize("keep", [0.5, 0.25, 0.9])
def test_masks_keep_the_asked_share_and_differ(keep: float) -> None:
    masks = MaskSource(keep, torch.Generator().manual_seed(1))
    x = torch.empty(8, 16, 10, 10).to(memory_format=torch.channels_last)
    drawn = [masks.like(x) for _ in range(10)]
    for mask in drawn:
        assert mask is not None
        assert mask.stride() == x.stride()
        assert set(mask.unique().tolist()) == {0.0, 1.0}
        assert mask.mean().item() == pytest.approx(keep, abs=0.02)  # 4 sigma at 12,800 draws
    assert drawn[0] is not None
    assert drawn[1] is not None
    together = (drawn[0] * drawn[1]).mean().item()
    assert together == pytest.approx(keep * keep, abs=0.02)  # independent, though cut from the same bytes


def test_masks_at_the_ends() -> None:
    generator = torch.Generator().manual_seed(1)
    assert MaskSource(1.0, generator).like(torch.empty(5)) is None
    never = MaskSource(0.0, generator).like(torch.empty(5))
    assert never is not None
    assert never.sum() == 0
    with pytest.raises(ValueError, match="probability"):
        MaskSource(1.5, generator)


def test_masks_follow_the_seed() -> None:
    x = torch.empty(100)
    a, b, c = (MaskSource(0.5, torch.Generator().manual_seed(s)).like(x) for s in (1, 1, 2))
    assert a is not None
    assert b is not None
    assert c is not None
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
