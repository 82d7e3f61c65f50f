"""The four phases together are the convolution of the upsampled image."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genie_onnx.synthesis.upsampled_conv import upsampled_conv


@pytest.mark.parametrize("size", [(4, 5), (1, 3), (1, 1)], ids=str)
def test_equal_to_the_plain_form_with_gradients(size: tuple[int, int]) -> None:
    random = torch.Generator().manual_seed(0)
    inputs = [
        torch.randn(shape, dtype=torch.float64, generator=random).requires_grad_()
        for shape in [(2, 3, *size), (4, 3, 3, 3), (4,)]
    ]
    ours = upsampled_conv(*inputs)
    plain = F.conv2d(F.interpolate(inputs[0], scale_factor=2.0), inputs[1], inputs[2], padding=1)
    torch.testing.assert_close(ours, plain)
    factor = torch.randn(plain.shape, dtype=torch.float64, generator=random)
    gradients = [torch.autograd.grad((result * factor).sum(), inputs) for result in (ours, plain)]
    for ours_gradient, plain_gradient in zip(*gradients, strict=True):
        torch.testing.assert_close(ours_gradient, plain_gradient)
