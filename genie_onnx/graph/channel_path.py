"""Where an axis of a value comes from, through operators that only rearrange: the same entries, in the same order along it.

Transpose        y[axis] is x[perm[axis]]
Reshape, Flatten, Squeeze, Unsqueeze        y[axis] is x[k] where both have the same size, and as many entries in front or behind

MatMul [N, 196, C] -> Reshape [196 N, C]                       axis 1 is axis 2: nothing stands behind it
Conv [N, C, H, W]  -> Reshape [N, C, H W] -> Transpose [N, H W, C]        axis 2 is axis 1
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from genie_onnx.graph.query import attribute

RESHAPING_OPS = frozenset({"Flatten", "Reshape", "Squeeze", "Unsqueeze"})


def source_axis(node: ir.Node, axis: int) -> int | None:
    """Return the axis of input 0 that is `axis` of output 0; None where there is none, or `node` does more than rearrange."""
    x, y = node.inputs[0] if node.inputs else None, node.outputs[0]
    if node.domain != "" or x is None or x.shape is None or y.shape is None:
        return None
    if node.op_type == "Transpose":
        return int(attribute(node, "perm", tuple(reversed(range(len(x.shape)))))[axis])
    if node.op_type not in RESHAPING_OPS or not isinstance(y.shape[axis], int):
        return None
    before, behind = _entries(y.shape[:axis]), _entries(y.shape[axis + 1 :])
    for k, size in enumerate(x.shape):
        if size == y.shape[axis] and (
            (before is not None and _entries(x.shape[:k]) == before)
            or (behind is not None and _entries(x.shape[k + 1 :]) == behind)
        ):
            return k
    return None


def _entries(sizes: Sequence[int | ir.SymbolicDim]) -> tuple[int, tuple[str, ...]] | None:
    """Return the product of `sizes` as a number and the symbols that it is multiplied by; None where one is unknown."""
    number, symbols = 1, []
    for size in sizes:
        if isinstance(size, int):
            number *= size
        elif size.value is None:
            return None
        else:
            symbols.append(size.value)
    return number, tuple(sorted(symbols))
