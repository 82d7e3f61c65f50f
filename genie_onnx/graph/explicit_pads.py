"""auto_pad becomes pads.

With input size i, stride s, kernel k, dilation d on one spatial axis and e = (k - 1) d + 1 (the kernel's extent):

    Conv, pooling   SAME:  total = max((ceil(i / s) - 1) s + e - i, 0)         (d (k - 1) for s = 1, whatever i is)
    ConvTranspose   SAME:  total = (i - 1) s + output_padding + e - i s       output_shape given: ... - output_shape
    VALID                  total = 0

SAME_UPPER puts floor(total / 2) before and the rest behind, SAME_LOWER the other way round (ONNX operator texts).
A node whose sizes are not known, or whose ConvTranspose pads would be negative, keeps auto_pad; `check` names it.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from genie_onnx.graph.faults import ARITHMETIC_FAULTS, inconsistent
from genie_onnx.graph.query import attribute, dims

_WINDOWED = ("Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool")


def explicit_pads(model: ir.Model) -> ir.Model:
    """Rewrite in place, from inferred shapes, and return `model`."""
    for node in model.graph:
        if node.domain == "" and node.op_type in _WINDOWED and has_automatic_pads(node):
            try:
                totals = _totals(node)
            except ARITHMETIC_FAULTS as error:
                raise inconsistent(node, error) from error
            if totals is not None:
                _write(node, totals)
    return model


def has_automatic_pads(node: ir.Node) -> bool:
    """Whether the pads of a windowed operator follow from its input's size: auto_pad, or a ConvTranspose's output_shape."""
    return attribute(node, "auto_pad", "NOTSET") != "NOTSET" or "output_shape" in node.attributes


def _totals(node: ir.Node) -> list[int] | None:
    """Return the padding of each spatial axis, both sides together; None where it cannot be told."""
    kernel = _kernel(node)
    if kernel is None:
        return None
    rank = len(kernel)
    sizes = (dims(node.inputs[0]) or (None,) * (rank + 2))[2:]
    strides = attribute(node, "strides", (1,) * rank)
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, attribute(node, "dilations", (1,) * rank), strict=True)]
    if "output_shape" not in node.attributes and attribute(node, "auto_pad", "NOTSET") == "VALID":
        return [0] * rank
    if node.op_type == "ConvTranspose":
        return _transposed(node, sizes, strides, extents)
    if any(i is None and s != 1 for i, s in zip(sizes, strides, strict=True)):
        return None
    return [e - 1 if i is None else max((-(-i // s) - 1) * s + e - i, 0) for i, s, e in zip(sizes, strides, extents, strict=True)]


def _transposed(node: ir.Node, sizes: Sequence[int | None], strides: Sequence[int], extents: Sequence[int]) -> list[int] | None:
    extra = attribute(node, "output_padding", (0,) * len(strides))
    wanted: tuple[int, ...] = attribute(node, "output_shape", ())
    wanted = wanted[-len(strides) :]  # opset 1 let it have batch and channels too
    if not wanted:
        totals = [e + p - s for e, p, s in zip(extents, extra, strides, strict=True)]
    elif any(i is None for i in sizes):
        return None
    else:
        known = [i for i in sizes if i is not None]
        totals = [(i - 1) * s + p + e - o for i, s, p, e, o in zip(known, strides, extra, extents, wanted, strict=True)]
    return totals if min(totals) >= 0 else None


def _kernel(node: ir.Node) -> tuple[int, ...] | None:
    given = attribute(node, "kernel_shape", ())
    if given or node.op_type not in ("Conv", "ConvTranspose"):
        return given or None
    shape = dims(node.inputs[1])
    known = tuple(k for k in (shape or ())[2:] if k is not None)
    return known if shape is not None and len(known) == len(shape) - 2 else None


def _write(node: ir.Node, totals: Sequence[int]) -> None:
    small = [t // 2 for t in totals]
    large = [t - t // 2 for t in totals]
    begins, ends = (small, large) if attribute(node, "auto_pad", "NOTSET") == "SAME_UPPER" else (large, small)
    if attribute(node, "auto_pad", "NOTSET") != "VALID":  # with SAME the output size does not round up
        node.attributes.pop("ceil_mode", None)
    for name in ("auto_pad", "output_shape"):
        node.attributes.pop(name, None)
    node.attributes["pads"] = ir.AttrInt64s("pads", [*begins, *ends])
