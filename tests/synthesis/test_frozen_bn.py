"""BatchNormalization as a x + b."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from genie_onnx.synthesis.frozen_bn import FrozenBatchNorm


@pytest.mark.parametrize("shape", [(4, 3), (4, 3, 5), (4, 3, 5, 2)], ids=str)
def test_equal_to_torch(shape: tuple[int, ...]) -> None:
    random = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=random)
    scale, bias, mean = (torch.randn(3, generator=random) for _ in range(3))
    var = torch.rand(3, generator=random)
    ours = FrozenBatchNorm(1e-3)(x, scale, bias, mean, var)
    torch.testing.assert_close(ours, F.batch_norm(x, mean, var, scale, bias, eps=1e-3))
