"""Values that have lost nearly all codes of their grid to a constant of the model, or to another value on it, in words.

    a constant at one end    what the image makes of the value is far from it, in a corner      float for the layers that read it
    another value            fills the grid, and this one spans a corner of it           a grid of its own, more bits, float

What calibration saw has no part in either: neither more images nor more iterations bring the codes back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from genie_onnx.comparison.constant_fills import ConstantFill
from genie_onnx.comparison.requantize import Origin, command
from genie_onnx.comparison.shared_grids import SharedGrid
from genie_onnx.config import LayerBits, QuantizeConfig
from genie_onnx.validate.layerwise import Advice, ValueFinding, WeightFinding

COARSE = 20.0  # dB of rounding alone below which a value's grid is worth a remark
CORNER = 0.3  # of a grid's width: the range seen wastes nearly two bits


def lost_codes(
    values: Sequence[ValueFinding],
    weights: Sequence[WeightFinding],
    shared: Sequence[SharedGrid],
    fills: Sequence[ConstantFill],
    origin: Origin,
    on_data: bool,
) -> list[Advice]:
    """Return what is to be said of the worst of each kind, at most one piece each. `on_data`: on the user's images."""
    known = {value.value: value for value in values}
    return [*_constants(known, fills, origin), *_shared(known, weights, shared, origin, on_data)]


def used_share(value: ValueFinding) -> float:
    """Return the share of its grid that a value spans, above 1 where it reaches beyond."""
    return (value.high - value.low) / max(value.grid_high - value.grid_low, 1e-30)


def value_range(low: float, high: float) -> str:
    """Return a range as text."""
    return f"{low:.3g} .. {high:.3g}"


def _constants(values: Mapping[str, ValueFinding], fills: Sequence[ConstantFill], origin: Origin) -> list[Advice]:
    """Look for values of which the image decides few codes, because a constant has one far away from them."""
    guilty = [fill for fill in fills if fill.value in values and _stretches(fill, values[fill.value])]
    if not guilty:
        return []
    worst = max(guilty, key=lambda fill: abs(fill.number))
    value = values[worst.value]
    left = max(1, value.used - 1)
    filled = f"{worst.operator} '{worst.node}' puts the constant {worst.number:g} into '{value.value}'"
    cause = f"{filled}, and leaves the image {left} of {value.levels} codes"
    text = f"{cause} (the grid goes from {value_range(value.grid_low, value.grid_high)}). "
    text += (
        "Keep what reads it in float:"
        if worst.layers
        else "No layer with weights reads it: fill with a number near the others, if the model allows that."
    )
    line = command(origin, keep_float=worst.layers) if worst.layers else ""
    return [Advice(block=value.block, cause=cause, text=text, command=line)]


def _stretches(fill: ConstantFill, value: ValueFinding) -> bool:
    """Whether `fill` is at one end of the grid of `value`, and all other codes that occur are together in a corner."""
    code = min(max(round((fill.number - value.grid_low) / value.scale), 0), value.levels - 1)
    others = [k for k, count in enumerate(value.histogram) if count and k != code]
    span = (others[-1] - others[0] + 1) / value.levels if others else 0.0
    return code in (0, value.levels - 1) and bool(value.histogram[code]) and span < CORNER and _beyond(code, others, value.levels)


def _beyond(code: int, others: Sequence[int], levels: int) -> bool:
    """Whether more of the grid lies between `code` and the nearest of `others` than these have."""
    return not others or min(abs(code - k) for k in (others[0], others[-1])) >= (1 - CORNER) * levels


def _cornered(values: Mapping[str, ValueFinding], grids: Sequence[SharedGrid]) -> list[tuple[SharedGrid, ValueFinding]]:
    """Return the values in a corner of a grid that another value on it fills, each with that one."""
    pairs = []
    for shared in grids:
        value, others = values[shared.value], [values[name] for name in shared.others]
        widest = max(others, key=used_share)
        if used_share(value) < CORNER <= used_share(widest) and value.rounding_db < COARSE:
            pairs.append((shared, widest))
    return sorted(pairs, key=lambda pair: values[pair[0].value].rounding_db)


def _shared(
    values: Mapping[str, ValueFinding],
    weights: Sequence[WeightFinding],
    grids: Sequence[SharedGrid],
    origin: Origin,
    on_data: bool,
) -> list[Advice]:
    cornered = _cornered(values, grids)
    if not cornered:
        return []
    (shared, widest), *_ = cornered
    value = values[shared.value]
    text = (
        f"'{value.value}' uses {value.used} of {value.levels} codes ({value.rounding_db:.1f} dB): it goes from {value.low:.3g} "
        f"to {value.high:.3g}, and is on one grid with '{widest.value}', which goes from {widest.low:.3g} to {widest.high:.3g}. "
    )
    cause = (
        f"'{value.value}' uses {value.used} of {value.levels} codes, on one grid with '{widest.value}' (up to {widest.high:.3g})"
    )
    target = (origin.config or QuantizeConfig()).target
    if shared.selected and target.constraints.selections == "own":
        text += "It is selected from others: a run that sees images like these gives it a grid of its own:"
        return [Advice(block=value.block, cause=cause, text=text, command=command(origin, data=on_data))]
    readers = [weight for weight in weights if not set(weight.nodes).isdisjoint(shared.layers)]
    if not readers:
        return [Advice(block=value.block, cause=cause, text=f"{text}No layer with weights reads it.", command="")]
    narrow = [w for w in readers if (w.abits or 8) < 8]
    wishes = [LayerBits(pattern=n, wbits=w.bits, abits=8) for w in narrow for n in w.nodes if n in shared.layers]
    floats = [] if wishes else list(shared.layers)
    text += "Give the layer that reads it 8 bits for it:" if wishes else "It has 8 bits: keep the layer that reads it in float:"
    return [Advice(block=value.block, cause=cause, text=text, command=command(origin, bits=wishes, keep_float=floats))]
