"""Inputs beside the image, and the `--set-input` options that would fix them (fix_inputs).

    x [N, 3, 224, 224], mean [1, 3, 1, 1]   ->   --set-input mean=0,0,0

An input of fixed, small shape is named with as many numbers as it has entries, ready to be pasted: those that leave out what it
does, where that is seen. Exporters lose constants into inputs like that (Keras: those of a Normalization layer), and the person
who trained the network knows them. Of another shape only the name is known.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence

import onnx_ir as ir

from genie_onnx.graph.query import dims

SMALL = 64  # entries that are written out; an image is larger

# What the operand at this place of an operator leaves as it is: x - 0, x / 1 ...
_NEUTRAL = {("Add", 0): 0, ("Add", 1): 0, ("Sub", 1): 0, ("Mul", 0): 1, ("Mul", 1): 1, ("Div", 1): 1}
# Operators that keep 0 and 1 as they are: an input is looked at behind them
_PASSING = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Sqrt", "Squeeze", "Tile", "Transpose", "Unsqueeze"})


def way_out(inputs: Sequence[ir.Value]) -> str:
    """Return the sentence that says how to quantize a loaded model with several `inputs`."""
    others = _beside(inputs)
    if not others:
        return "Export the part that takes the image alone."
    known = {v: n for v in others if (n := _entries(v)) is not None}
    options = " ".join(_option(v, known.get(v)) for v in others)
    return f"Give the others a constant: {options}{_meaning(list(known))}; or export the part that takes the image alone."


def _beside(inputs: Sequence[ir.Value]) -> list[ir.Value]:
    """Return the inputs beside the only one that may be an image; none where there are several such, or no such."""
    images = [v for v in inputs if v.shape is not None and len(v.shape) == 4 and _entries(v) is None]
    return [v for v in inputs if v not in images] if len(images) == 1 else []


def _entries(value: ir.Value) -> int | None:
    """Return how many numbers an input of fixed and small shape takes; None of another."""
    sizes = dims(value)
    if sizes is None or value.dtype is None or not (value.dtype.is_floating_point() or value.dtype.is_integer()):
        return None
    known = [d for d in sizes if d is not None]
    count = math.prod(known)
    return count if len(known) == len(sizes) and 0 < count <= SMALL else None


def _option(value: ir.Value, entries: int | None) -> str:
    numbers = "VALUE" if entries is None else ",".join([str(_neutral(value) or 0)] * entries)
    return f"--set-input {shlex.quote(f'{value.name}={numbers}')}"


def _neutral(value: ir.Value) -> int | None:
    """Return the number with which `value` does nothing where it is read; None where there is none, or it is not seen."""
    found: set[int | None] = {None} if value.is_graph_output() else set()
    for use in value.uses():
        if use.node.domain == "" and use.node.op_type in _PASSING and use.idx == 0:
            found.add(_neutral(use.node.outputs[0]))
        else:
            found.add(_NEUTRAL.get((use.node.op_type, use.idx)) if use.node.domain == "" else None)
    return found.pop() if len(found) == 1 else None


def _meaning(known: Sequence[ir.Value]) -> str:
    """Say what the numbers do that stand in the options."""
    numbers = {_neutral(v) for v in known}
    parts = [
        "0 where an input is added or subtracted" if 0 in numbers else "",
        "1 where it multiplies or divides" if 1 in numbers else "",
    ]
    text = " and ".join(part for part in parts if part)
    text = f"{text} leave it out" if text else ""
    if None in numbers:
        text += f"{', ' if text else ''}0 is only a placeholder {'elsewhere' if text else 'there'}"
    return f" ({text}: put the numbers in their place that the network was trained with)" if text else ""
