"""LSQ and QDrop: values against the ONNX definition, gradients against the formulas written out."""

import numpy as np
import pytest
import torch
from torch import Tensor

from genie_onnx.qparams import QParams, quantize
from genie_onnx.quant import MaskSource, fake_quantize, mix, scaled_difference
from genie_onnx.quant.masks import unpacked


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
    y = fake_quantize(x, scale, 0, 3, torch.tensor([0b010], dtype=torch.int32))
    assert y.tolist() == pytest.approx([0.12, 0.5, 9.0])
    y.sum().backward()
    assert x.grad is not None
    assert scale.grad is not None
    assert x.grad.tolist() == [1, 1, 1]
    assert scale.grad.item() == pytest.approx(1 - 0.98, abs=1e-6)


def written_out(x: Tensor, scale: Tensor, mask: Tensor, low: float, high: float) -> Tensor:
    """LSQ and QDrop in the operators of the formulas, for autograd."""
    u = x / scale
    clipped = u.clamp(low, high)
    rounded = (clipped.round() - clipped).detach() + clipped
    return torch.where(mask, rounded * scale, x)


@pytest.mark.parametrize("shape", [(5,), (2, 3, 5, 7), (2, 16, 64, 64), (4, 8, 70, 70)])
@pytest.mark.parametrize("layout", ["contiguous", "channels last", "a view with gaps"])
@pytest.mark.parametrize("threads", [1, 3])
def test_compiled_loops_compute_what_the_formulas_say(shape: tuple[int, ...], layout: str, threads: int) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=random) * 2
    if len(shape) == 4:
        if layout == "channels last":
            x = x.to(memory_format=torch.channels_last)
        elif layout == "a view with gaps":
            x = torch.cat([x, x], 1)[:, : shape[1]]
    x.requires_grad_()
    scale = torch.tensor(0.25, requires_grad=True)
    bits = MaskSource(0.5, random).draw(x.numel())
    assert bits is not None
    dense = x if layout != "a view with gaps" else x.detach().contiguous()
    mask = unpacked(bits, x.numel()).as_strided(dense.shape, dense.stride())
    grad = torch.randn(shape, generator=random)
    expected = written_out(x, scale, mask, -3, 12)
    slopes = torch.autograd.grad(expected, (x, scale), grad)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        y = fake_quantize(x, scale, 3, 15, bits)
        found = torch.autograd.grad(y, (x, scale), grad)
    finally:
        torch.set_num_threads(before)
    assert torch.equal(y, expected)
    assert torch.equal(found[0], slopes[0])
    assert found[1].item() == pytest.approx(slopes[1].item(), rel=1e-4)


def test_bfloat16_is_rounded_on_the_grid_of_float32() -> None:
    x = torch.randn(3000, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    scale = torch.tensor(0.1, requires_grad=True)
    bits, grad = torch.tensor([0x5A5A5A5A] * 96, dtype=torch.int32), torch.randn(3000).bfloat16()
    y = fake_quantize(x, scale, 8, 15, bits)
    assert y.dtype == torch.bfloat16
    wide = x.detach().float().requires_grad_()
    expected = fake_quantize(wide, scale, 8, 15, bits)
    assert torch.equal(y, expected.bfloat16())
    found, slopes = (torch.autograd.grad(y, (x, scale), grad), torch.autograd.grad(expected, (wide, scale), grad.float()))
    assert torch.equal(found[0], slopes[0].bfloat16())
    assert found[1].item() == pytest.approx(slopes[1].item(), rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mix_takes_each_element_from_either_tensor(dtype: torch.dtype) -> None:
    random = torch.Generator().manual_seed(0)
    x, x_q = torch.zeros(4, 3, 50, 50), torch.ones(4, 3, 50, 50).to(memory_format=torch.channels_last)
    mixed = mix(x, x_q, MaskSource(0.75, random), dtype)
    assert mixed.dtype == dtype
    assert set(mixed.unique().tolist()) == {0.0, 1.0}
    assert mixed.float().mean().item() == pytest.approx(0.25, abs=0.01)
    assert torch.equal(mix(x, x_q, MaskSource(1.0, random), dtype), x.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_scaled_difference(dtype: torch.dtype) -> None:
    x = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(0)).to(dtype).to(memory_format=torch.channels_last)
    y = torch.randn(3, 4, 5, 6, generator=torch.Generator().manual_seed(1))
    found = scaled_difference(x, y, 2.5)
    assert found.dtype == dtype
    assert torch.allclose(found, (2.5 * (x.float() - y)).to(dtype), rtol=1e-6)


@pytest.mark.parametrize("keep", [0.5, 0.25, 0.9, 1 / 256])
def test_masks_keep_the_asked_share_and_differ(keep: float) -> None:
    masks = MaskSource(keep, torch.Generator().manual_seed(1))
    drawn = [masks.draw(12_800) for _ in range(10)]
    shares = []
    for bits in drawn:
        assert bits is not None
        assert bits.shape == (400,)
        shares.append(unpacked(bits, 12_800).float())
        assert shares[-1].mean().item() == pytest.approx(keep, abs=0.02)  # 4 sigma at 12,800 draws
    together = (shares[0] * shares[1]).mean().item()
    assert together == pytest.approx(keep * keep, abs=0.02)


def test_masks_at_the_ends() -> None:
    generator = torch.Generator().manual_seed(1)
    assert MaskSource(1.0, generator).draw(5) is None
    never = MaskSource(0.0, generator).draw(5)
    assert never is not None
    assert never.tolist() == [0]
    with pytest.raises(ValueError, match="probability"):
        MaskSource(1.5, generator)


def test_masks_follow_the_seed() -> None:
    a, b, c = (MaskSource(0.5, torch.Generator().manual_seed(s)).draw(100) for s in (1, 1, 2))
    assert a is not None
    assert b is not None
    assert c is not None
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_bit_i_of_word_j_is_element_32_j_plus_i() -> None:
    bits = torch.tensor([1 << 5, -(2**31)], dtype=torch.int32)
    assert unpacked(bits, 64).nonzero().flatten().tolist() == [5, 63]
    assert len(unpacked(bits, 33)) == 33
