"""The units of a run cut into blocks: the rules that stand for the named blocks of published architectures.

core                                   a block by itself
1x1 before or after a Concat core      joins it (Fire's squeeze, a CSP block's first and last convolution)
1x1 behind a depthwise conv or gate    ends a block (inverted residual, MBConv, separable convolution)
1x1 behind a spatial convolution       ends a block (bottleneck)
strided spatial convolution            ends a block, unless a depthwise one follows (the stem of a mobile network)
3 dense convolutions, or 6 weights     end a block (VGG)
linear                                 a block by itself, with the 1x1 before it if a global pooling lies between
"""

from __future__ import annotations

from collections.abc import Sequence

from genie_onnx.blocks.units import Unit

MAX_DENSE = 3
MAX_CHAIN = 6


def cut(units: Sequence[Unit]) -> list[list[Unit]]:
    """Return consecutive groups of `units`, one a block."""
    blocks: list[list[Unit]] = []
    current: list[Unit] = []
    for k, unit in enumerate(units):
        rest = units[k + 1 :]
        if current and _begins(current, unit, rest[:1]):
            blocks.append(current)
            current = []
        current.append(unit)
        if _ends(current, rest):
            blocks.append(current)
            current = []
    return [*blocks, current] if current else blocks


def _begins(current: Sequence[Unit], unit: Unit, rest: Sequence[Unit]) -> bool:
    """Whether `unit` starts a block although `current` is still open."""
    alone = len(current) == 1 and current[0].kind == "pointwise"
    match unit.kind:
        case "core":
            return not (alone and unit.joins_by_concat)
        case "linear":
            return not (alone and unit.pooled)
        case "pointwise":
            return _squeezes(unit, rest) and current[-1].kind not in ("depthwise", "gate")
        case _:
            return False


def _ends(current: Sequence[Unit], rest: Sequence[Unit]) -> bool:
    """Whether the block ends behind the last unit of `current`."""
    unit, before = current[-1], current[:-1]
    match unit.kind:
        case "core":
            return not (unit.joins_by_concat and rest and rest[0].kind == "pointwise")
        case "linear":
            return True
        case "pointwise" if any(u.kind == "core" for u in before):
            return True
        case "pointwise" if before and before[-1].kind in ("depthwise", "gate"):
            return True
        case "pointwise" if any(u.kind == "dense" for u in before):
            return True
        case "depthwise" if unit.activated and before and before[-1].kind == "pointwise" and not before[-1].activated:
            return True
        case "dense" if unit.strided and not (rest and rest[0].kind == "depthwise"):
            return True
    dense = sum(u.kind in ("dense", "pointwise") for u in current)
    return dense >= MAX_DENSE or sum(u.weights for u in current) >= MAX_CHAIN


def _squeezes(unit: Unit, rest: Sequence[Unit]) -> bool:
    """Whether a 1x1 belongs to the Concat core behind it."""
    return unit.kind == "pointwise" and bool(rest) and rest[0].joins_by_concat
