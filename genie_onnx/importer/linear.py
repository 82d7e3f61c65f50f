"""Gemm and MatMul: forward(a, b, c) and forward(a, b); weights are arguments."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie_onnx.importer.calls import Call
from genie_onnx.importer.operation import NodeReader, Operation


class Gemm(nn.Module):
    """alpha * A' B' + beta * C with A' [M, K] and B' [K, N] transposed where asked; C broadcasts to [M, N] or is None."""

    def __init__(self, alpha: float, beta: float, transpose_a: bool, transpose_b: bool) -> None:
        super().__init__()
        self.alpha = alpha
        self.beta = beta
        self.transpose_a = transpose_a
        self.transpose_b = transpose_b

    def forward(self, a: Tensor, b: Tensor, c: Tensor | None = None) -> Tensor:
        a = a.t() if self.transpose_a else a
        b = b.t() if self.transpose_b else b
        if c is not None:
            return torch.addmm(c, a, b, beta=self.beta, alpha=self.alpha)
        return a @ b if self.alpha == 1 else self.alpha * (a @ b)

    def extra_repr(self) -> str:
        return f"alpha={self.alpha}, beta={self.beta}, transpose_a={self.transpose_a}, transpose_b={self.transpose_b}"


def gemm(node: NodeReader) -> Operation:
    module = Gemm(
        node.number("alpha", 1), node.number("beta", 1), bool(node.integer("transA", 0)), bool(node.integer("transB", 0))
    )
    return Operation(module, tensors=(0, 1, 2))


class MatMul(Call):
    """numpy.matmul of forward(a, b): batches broadcast, one-dimensional operands are vectors."""

    def __init__(self) -> None:
        super().__init__(torch.matmul)


def matmul(node: NodeReader) -> Operation:
    return Operation(MatMul(), tensors=(0, 1))
