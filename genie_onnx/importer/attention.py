"""Attention (opset 23): Y = softmax(scale Q K^T + mask) V for every head, with torch's function of the same definition.

    Q [N, Hq, L, D], K [N, Hk, S, D], V [N, Hk, S, E] -> [N, Hq, L, E]      Hq a multiple of Hk: each K and V serves Hq/Hk heads
    Q [N, L, Hq D] and so on -> [N, L, Hq E]                               the heads side by side, as attributes count them

The mask [.., L, S] is added to the scores; where it is boolean, False shuts a place out.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from genie_onnx.importer.operation import NodeReader, Operation


class Attention(nn.Module):
    """forward(q, k, v, mask); `heads` is (Hq, Hk) where the heads stand side by side, None where they have an axis."""

    def __init__(self, scale: float | None, heads: tuple[int, int] | None) -> None:
        super().__init__()
        self.scale = scale
        self.heads = heads

    def forward(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
        if self.heads is not None:
            q, k, v = (_split(x, heads) for x, heads in ((q, self.heads[0]), (k, self.heads[1]), (v, self.heads[1])))
        shared = q.shape[1] != k.shape[1]
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=self.scale, enable_gqa=shared)
        return y if self.heads is None else y.transpose(1, 2).flatten(2)

    def extra_repr(self) -> str:
        return f"scale={self.scale}, heads={self.heads}"


def _split(x: Tensor, heads: int) -> Tensor:
    """[N, L, H D] -> [N, H, L, D]."""
    return x.unflatten(2, (heads, -1)).transpose(1, 2)


def attention(node: NodeReader) -> Operation:
    if any(node.has(i) for i in range(4, 7)):
        raise node.refuse("past keys, past values or lengths without padding are given", "Q, K, V and a mask")
    if node.integer("is_causal", 0) or node.number("softcap", 0.0):
        raise node.refuse("is_causal or softcap is set", "attention to all places, or with a mask that is given")
    heads = None
    if node.rank(0) == 3:
        heads = (node.integer("q_num_heads", 1), node.integer("kv_num_heads", 1))
    scale = node.number("scale", 0.0) if node.has_attribute("scale") else None
    return Operation(Attention(scale, heads), tensors=(0, 1, 2, 3))
