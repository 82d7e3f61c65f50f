"""Operators that read or write at computed positions: GatherND, ScatterElements, ScatterND, OneHot."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from genie_onnx.importer.indexing import non_negative
from genie_onnx.importer.operation import NodeReader, Operation

_REDUCTIONS = {"add": "sum", "mul": "prod", "max": "amax", "min": "amin"}  # ONNX -> torch


def _reduction(node: NodeReader) -> str | None:
    """The torch name of the attribute `reduction`, None for plain writing."""
    name = node.text("reduction", "none")
    if name != "none" and name not in _REDUCTIONS:
        raise node.refuse(f"reduction={name}", "none, add, mul, max, min")
    return _REDUCTIONS.get(name)


class GatherND(nn.Module):
    """x[indices[..., 0], indices[..., 1], ...]; with `batch` the first axes of x and indices run together."""

    def __init__(self, batch: int) -> None:
        super().__init__()
        self.batch = batch

    def forward(self, x: Tensor, indices: Tensor) -> Tensor:
        lead = x.shape[: self.batch]
        x, indices = x.reshape(-1, *x.shape[self.batch :]), indices.reshape(-1, *indices.shape[self.batch :])
        rows = torch.arange(x.shape[0], device=x.device).reshape(-1, *[1] * (indices.dim() - 2))  # [B, 1, ...]
        picked = x[(rows, *indices.long().unbind(-1))]  # [B, *indices.shape[1:-1], *rest]
        return picked.reshape(*lead, *picked.shape[1:])


def gather_nd(node: NodeReader) -> Operation:
    return Operation(GatherND(node.integer("batch_dims", 0)), tensors=(0, 1))


class ScatterElements(nn.Module):
    """A copy of x with updates written, or combined by `reduction`, at indices along `axis`."""

    def __init__(self, axis: int, reduction: str | None) -> None:
        super().__init__()
        self.axis = axis
        self.reduction = reduction

    def forward(self, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        indices = non_negative(indices, x.shape[self.axis])
        if self.reduction is None:
            return x.scatter(self.axis, indices, updates)
        return x.scatter_reduce(self.axis, indices, updates, self.reduction)


def scatter_elements(node: NodeReader) -> Operation:
    return Operation(ScatterElements(node.integer("axis", 0), _reduction(node)), tensors=(0, 1, 2))


class ScatterND(nn.Module):
    """A copy of x with updates written, or combined by `reduction`, at x[indices[..., 0], indices[..., 1], ...]."""

    def __init__(self, reduction: str | None) -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, x: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
        if self.reduction is None:
            return x.index_put(indices.long().unbind(-1), updates)
        # Combining needs one index an entry: the addressed axes are flattened to one, the rest of the entry to another.
        depth = indices.shape[-1]
        flat = torch.zeros_like(indices[..., 0], dtype=torch.int64)
        for i in range(depth):
            flat = flat * x.shape[i] + non_negative(indices[..., i], x.shape[i])
        rows = x.reshape(x.shape[:depth].numel(), -1)  # [addressed, rest]
        entries = updates.reshape(flat.numel(), -1)  # [written, rest]
        index = flat.reshape(-1, 1).expand_as(entries)
        return rows.scatter_reduce(0, index, entries, self.reduction).reshape(x.shape)


def scatter_nd(node: NodeReader) -> Operation:
    return Operation(ScatterND(_reduction(node)), tensors=(0, 1, 2))


class OneHot(nn.Module):
    """off everywhere but on at the index along a new axis of size `depth`; an index outside -depth..depth-1 gives off alone."""

    def __init__(self, axis: int, depth: int) -> None:
        super().__init__()
        self.axis = axis
        self.depth = depth

    def forward(self, indices: Tensor, values: Tensor) -> Tensor:
        axis = self.axis % (indices.dim() + 1)
        places = torch.arange(self.depth, device=indices.device).reshape([-1] + [1] * (indices.dim() - axis))
        hot = non_negative(indices, self.depth).unsqueeze(axis) == places
        return torch.where(hot, values[1], values[0])


def one_hot(node: NodeReader) -> Operation:
    depth = node.constant_integers(1)
    if depth is None:
        raise node.refuse("the depth is computed", "a constant depth")
    return Operation(OneHot(node.integer("axis", -1), depth[0]), tensors=(0, 2))
