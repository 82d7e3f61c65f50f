"""What is wrong with a quantised model, in words, and the command to try next: findings as plain data -> advice, worst first.

Rules, in this order, each at most once but for blocks:

    mismatch     weights that have nothing in common with the float model's              another float model
    input        images beyond the input's grid, or in a corner of it                    preprocessing
    fine         outputs near enough, and the file is judged good    nothing, and the rest is not asked
    constants    values in a corner of a grid that a constant of the model stretches          float for what reads them
    shared       values in a corner of a grid that others need as wide as it is          a grid of their own, or more bits
    blocks       one or two that make most of the noise                                  more bits for their layers, or float
    depthwise    weights of depthwise layers below 8 bits that use few codes             8 bits for them: they are small
    saturation   values that reach beyond their grids                                    calibration on such images
    headroom     grids much wider than what is seen                                      calibration on such images
    spread       no block stands out                                                     more bits everywhere, or more work
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from statistics import median

from genie_onnx.comparison.constant_fills import ConstantFill
from genie_onnx.comparison.lost_codes import COARSE, CORNER, lost_codes, used_share, value_range
from genie_onnx.comparison.requantize import Origin, command
from genie_onnx.comparison.shared_grids import SharedGrid
from genie_onnx.config import LayerBits
from genie_onnx.preprocessing import Preprocessing
from genie_onnx.validate import OutputComparison
from genie_onnx.validate.layerwise import Advice, BlockFinding, ImagesKind, ValueFinding, WeightFinding

MOST = 5  # pieces of advice
STRANGE = 0.0  # dB of the median weight: noise as large as the weights. Learned 2-bit weights have 4 dB and more
NEAR, NEAR_CLASSES = 30.0, 20.0  # dB at which outputs are near enough: of any kind, and where all classes agree besides
AGREEING = 0.99  # of samples, with the same class
# Of the noise, and twice what the block would have if all had the same. Where others have more bits the latter is enough, and
# such a block comes first: in a network that learned, its neighbours make up for it, and do damage alone that they do not do
# together with it
STANDS_OUT = 0.25
COMPARABLE = 6.0  # dB between weights and values that both are worth more bits
FEW_CODES = 0.5  # of the levels, by the median channel
SATURATED, SATURATED_INPUT = 0.05, 0.02  # of the elements. Learned grids of 4 bits cut off some percent on purpose
QUICK = 1000  # iterations a block, of `--preset balanced`


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """Everything that the rules look at. Lists are sorted by damage, as `compare` sorts them."""

    images: ImagesKind
    outputs: Sequence[OutputComparison]
    values: Sequence[ValueFinding]
    weights: Sequence[WeightFinding]
    blocks: Sequence[BlockFinding]
    shared: Sequence[SharedGrid] = ()
    fills: Sequence[ConstantFill] = ()


def diagnose(found: Evidence, origin: Origin) -> tuple[Advice, ...]:
    """Return at most MOST pieces of advice; never none."""
    if found.weights and median(weight.sqnr_db for weight in found.weights) < STRANGE:
        return (_strangers(found, origin),)
    on_input = _input(found, origin)
    fine = _fine(found)
    if fine and not origin.judged:
        return tuple(on_input) or (Advice(block="", cause="", text=f"{_state(found)}: nothing to do.", command=""),)
    lost = lost_codes(found.values, found.weights, found.shared, found.fills, origin, found.images == "data")
    on_blocks = _blocks(found, origin)
    # Behind a value that has lost its codes grids are made for what is left of it: no image is to blame, and no iteration helps.
    on_values = [] if lost else [*_saturation(found, origin), *_headroom(found, origin)]
    on_layers = _depthwise(found, origin)
    spread = [] if on_blocks or lost else _spread(found, origin)
    found_here = [_otherwise(found, origin)] if fine else []
    return tuple([*found_here, *on_input, *lost, *on_blocks, *on_layers, *on_values, *spread][:MOST])


def _state(found: Evidence) -> str:
    """Return how near the outputs are: "Outputs at 38.0 dB, agreement 100 %"."""
    worst = min(output.sqnr_db for output in found.outputs)
    agreements = [output.agreement for output in found.outputs if output.agreement is not None]
    agreement = f", agreement {100 * min(agreements):.0f} %" if agreements else ""
    return f"Output{'s' if len(found.outputs) > 1 else ''} at {worst:.1f} dB{agreement}"


def _fine(found: Evidence) -> bool:
    return all(
        output.sqnr_db >= NEAR or (output.sqnr_db >= NEAR_CLASSES and (output.agreement or 0) >= AGREEING)
        for output in found.outputs
    )


def _otherwise(found: Evidence, origin: Origin) -> Advice:
    text = f"{_state(found)}: near enough on these images. But its run judged the file {origin.judged}. What may help there:"
    return Advice(block="", cause="", text=text, command="")


def _strangers(found: Evidence, origin: Origin) -> Advice:
    typical = median(weight.sqnr_db for weight in found.weights)
    return Advice(
        block="",
        cause=f"half of the weights are at {typical:.1f} dB or less: they are hardly those of this float model",
        text=f"Half of the weights are at {typical:.1f} dB or less against {origin.model}: layers have the same names, but this "
        "is hardly the model that the file was made from (another training, another export?). Compare with that one, or "
        "quantize this one:",
        command=command(origin),
    )


def _input(found: Evidence, origin: Origin) -> list[Advice]:
    """Look at the input's own grid, which says what calibration saw of it."""
    rounded = [value for value in found.values if value.block == ""]
    if found.images != "data" or not rounded:
        return []
    value = rounded[0]
    grid, seen = value.grid_high - value.grid_low, value.high - value.low
    if value.saturated >= SATURATED_INPUT:
        what = f"{_percent(value.saturated)} of what these images feed into input '{value.value}' lies outside of its grid"
    elif seen < CORNER * grid:
        what = f"These images use {_percent(seen / grid)} of the grid of input '{value.value}'"
    else:
        return []
    ranges = f"({value_range(value.low, value.high)}, the grid {value_range(value.grid_low, value.grid_high)})"
    config = origin.config
    then, now = ("" if config is None else _numbers(config.preprocessing)), _numbers(origin.preprocessing)
    if then and now != then:
        how = f"The run had {then}, this comparison {now or 'no --mean'}: give both the same. To calibrate as here:"
    elif now:
        how = f"Either {now} is not the model's preprocessing, or calibration saw other images. To calibrate on these:"
    else:
        how = (
            "The preprocessing is probably missing: compare with the model's --mean and --std (or --preprocess "
            "imagenet). If it is right as it is, calibrate on these images:"
        )
    return [Advice(block="", cause=what, text=f"{what} {ranges}. {how}", command=command(origin, data=True, preprocess=True))]


def _blocks(found: Evidence, origin: Origin) -> list[Advice]:
    shares = _shares(found)
    active = [block for block in found.blocks if block.weights or block.values]
    equal = 1 / max(len(active), 1)
    usual = median([block.wbits for block in active if block.wbits] or [8])
    weights = {weight.weight: weight for weight in found.weights}
    values = {value.value: value for value in found.values}
    short = {b.block for b in active if (b.wbits or 8) < usual}
    guilty = [b for b in active if shares[b.block] >= max(2 * equal, 0.0 if b.block in short else STANDS_OUT)]
    guilty.sort(key=lambda b: (b.block not in short, -shares[b.block]))
    advice = []
    for block in guilty:
        own = [weights[name] for name in block.weights]
        read = [values[name] for name in block.values]
        wishes, floats = _more_bits(own, read)
        if not wishes and not floats:
            continue
        measured = block.share is not None
        part = f"{'' if measured else 'about '}{_percent(shares[block.block])} of the noise"
        reason = _why(block, found)
        cause = f"block '{block.block}' makes {part}{reason}"
        text = f"Block '{block.block}' makes {part}"
        text += " at the outputs" if measured else " (estimated from the values between blocks)"
        text += reason
        if block.all_but is not None and block.all_but.sqnr_db > min(output.sqnr_db for output in found.outputs):
            text += f". With this block in float: {block.all_but.sqnr_db:.1f} dB"
            text += "" if block.all_but.agreement is None else f", agreement {100 * block.all_but.agreement:.0f} %"
            text += f" (now {_state(found).partition(' at ')[2]})"
        bits = ", ".join(sorted({f"{wish.wbits}/{wish.abits}" for wish in wishes}))
        text += (
            f". Give {'these layers' if len(wishes) > 1 else 'this layer'} {bits} bits:"
            if wishes
            else ". It has 8 bits: keep it in float:"
        )
        advice.append(Advice(block=block.block, cause=cause, text=text, command=command(origin, bits=wishes, keep_float=floats)))
    return advice


def _shares(found: Evidence) -> dict[str, float]:
    """Return the share of each block: as measured, else by what the noise to signal grows from what it reads to what it makes."""
    if any(block.share is not None for block in found.blocks):
        return {block.block: block.share or 0.0 for block in found.blocks}
    added = {}
    for block in found.blocks:
        read = (value.sqnr_db for value in found.values if value.value in block.values and value.block != block.block)
        added[block.block] = max(0.0, 10 ** (-block.sqnr_db / 10) - 10 ** (-min(read, default=float("inf")) / 10))
    total = sum(added.values())
    return {block: amount / total if total else 0.0 for block, amount in added.items()}


def _more_bits(own: Sequence[WeightFinding], read: Sequence[ValueFinding]) -> tuple[list[LayerBits], list[str]]:
    """Return more bits for the layers of a block, of what costs it most; or the layers to keep in float, where all have 8."""
    nearest = min((weight.sqnr_db for weight in own if weight.bits < 8), default=float("inf"))
    rounding = min((value.rounding_db for value in read if value.bits < 8), default=float("inf"))
    wishes = []
    for weight in own:
        abits = weight.abits or 8
        to_weight = weight.bits < 8 and weight.sqnr_db <= min(nearest, rounding) + COMPARABLE
        to_values = abits < 8 and rounding <= nearest + COMPARABLE
        if to_weight or to_values:
            asked = _next(weight.bits) if to_weight else weight.bits, _next(abits) if to_values else abits
            wishes += [LayerBits(pattern=node, wbits=asked[0], abits=asked[1]) for node in weight.nodes]
    if not wishes:  # what is coarse is read by no layer
        wishes = [LayerBits(pattern=n, wbits=_next(w.bits), abits=w.abits or 8) for w in own if w.bits < 8 for n in w.nodes]
    return wishes, [] if wishes else [node for weight in own for node in weight.nodes]


def _next(bits: int) -> int:
    return 4 if bits < 4 else 8


def _reason(own: Sequence[WeightFinding], read: Sequence[ValueFinding]) -> str:
    """Return what is worst in a block: a weight, or a value that it reads."""
    weight = min(own, key=lambda w: w.sqnr_db, default=None)
    value = min(read, key=lambda v: v.rounding_db, default=None)
    if weight is not None and (value is None or weight.sqnr_db <= value.rounding_db):
        kind = "depthwise " if weight.operator.startswith("depthwise") else ""
        few = weight.used_median <= FEW_CODES * weight.levels
        codes = f" and use {weight.used_median:g} of {weight.levels} codes" if few else ""
        return f"its {kind}weights '{weight.weight}' have {weight.bits} bits{codes} ({weight.sqnr_db:.1f} dB)"
    if value is not None:
        return f"it reads '{value.value}' with {value.bits} bits ({value.rounding_db:.1f} dB)"
    return ""


def _why(block: BlockFinding, found: Evidence) -> str:
    """Return what is worst in `block`, behind a colon."""
    own = [weight for weight in found.weights if weight.weight in block.weights]
    reason = _reason(own, [value for value in found.values if value.value in block.values])
    return f": {reason}" if reason else ""


def _depthwise(found: Evidence, origin: Origin) -> list[Advice]:
    layers = [weight for weight in found.weights if weight.operator.startswith("depthwise") and weight.bits < 8]
    others = [weight.sqnr_db for weight in found.weights if weight not in layers and weight.bits < 8]
    near = median(weight.sqnr_db for weight in layers) if layers else 0.0
    if not layers or near > median(others or [near]) or median(w.used_median / w.levels for w in layers) > FEW_CODES:
        return []
    codes, levels = median(weight.used_median for weight in layers), max(weight.levels for weight in layers)
    bits = [LayerBits(pattern=node, wbits=8, abits=w.abits or 8) for w in layers for node in w.nodes]
    what = (
        f"of {len(layers)} depthwise layer{'s' if len(layers) > 1 else ''} a channel's weights use "
        f"{codes:g} of {levels} codes, and are at {near:.1f} dB"
    )
    text = f"{_state(found)}. O{what[1:]}. They are few numbers: give them 8 bits:"
    return [Advice(block="", cause=what, text=text, command=command(origin, bits=bits))]


def _saturation(found: Evidence, origin: Origin) -> list[Advice]:
    cut = [value for value in found.values if value.block and value.saturated >= SATURATED and value.rounding_db < COARSE]
    if found.images != "data" or not cut:
        return []
    worst = max(cut, key=lambda value: value.saturated)
    grid = value_range(worst.grid_low, worst.grid_high)
    text = (
        f"{len(cut)} value{'s reach' if len(cut) > 1 else ' reaches'} beyond {'their grids' if len(cut) > 1 else 'its grid'} on "
        f"these images: of '{worst.value}' {_percent(worst.saturated)} lies outside of {grid} "
        f"(it goes from {worst.low:.3g} to {worst.high:.3g}). {_calibration(origin)}"
    )
    cause = f"{_percent(worst.saturated)} of '{worst.value}' lies outside of its grid"
    return [Advice(block=worst.block, cause=cause, text=text, command=_calibrated(origin))]


def _headroom(found: Evidence, origin: Origin) -> list[Advice]:
    wide = [v for v in found.values if v.block and used_share(v) < CORNER and v.rounding_db < COARSE]
    if found.images != "data" or not wide:
        return []
    worst = min(wide, key=used_share)
    text = (
        f"{len(wide)} grid{'s are' if len(wide) > 1 else ' is'} much wider than these images need: '{worst.value}' goes from "
        f"{worst.low:.3g} to {worst.high:.3g} on a grid {value_range(worst.grid_low, worst.grid_high)}. {_calibration(origin)}"
    )
    cause = f"'{worst.value}' uses {_percent(used_share(worst))} of its grid"
    return [Advice(block=worst.block, cause=cause, text=text, command=_calibrated(origin))]


def _calibration(origin: Origin) -> str:
    if origin.calibrated.startswith("data"):
        return "Calibration saw other images than these: give it more of them:"
    return "Calibration did not see such images: give it some (32 are enough):"


def _calibrated(origin: Origin) -> str:
    more = 2 * origin.config.samples if origin.config is not None and origin.calibrated.startswith("data") else None
    return command(origin, data=True, samples=more)


def _spread(found: Evidence, origin: Origin) -> list[Advice]:
    shares = _shares(found)
    most = max(shares.values(), default=0.0)
    config = origin.config
    narrow = [value.bits for value in found.values if value.bits < 8]
    coarse = median(value.rounding_db for value in found.values if value.bits < 8) if narrow else float("inf")
    small = [weight for weight in found.weights if weight.bits < 8]
    tries = []
    if config is not None and config.reconstruct.iterations == 0 and config.closed_form is None:
        text = "Weights were rounded to the nearest codes, and nothing was learned: let them be rounded in closed form:"
        tries.append((text, command(origin, preset="fast")))
    elif config is not None and config.reconstruct.iterations == 0:
        tries.append(("Nothing was learned behind the closed form: let it learn:", command(origin, preset="balanced")))
    elif config is not None and config.reconstruct.iterations < QUICK:
        text = f"The run was a short one ({config.reconstruct.iterations} iterations a block): give it more:"
        tries.append((text, command(origin, preset="balanced")))
    if narrow and coarse < (median(weight.sqnr_db for weight in small) if small else float("inf")):
        text = f"Values cost more than weights ({coarse:.1f} dB at the median, below 8 bits): give them more bits:"
        tries.append((text, command(origin, abits=_next(min(narrow)))))
    elif small:
        average = _average_bits(found.weights)
        text = f"Weights have {average:.1f} bits on average. Choose those of each block by what it does to the outputs:"
        tries.append((text, command(origin, average=min(8.0, round(average + 1, 1)))))
    if not tries:
        tries.append(("Everything has 8 bits already; calibration on images like these may help:", command(origin, data=True)))
    spread = f"the noise is spread: no block makes more than {_percent(most)} of it"
    where = f"{_state(found)}, and {spread}. "
    worst = max(found.blocks, key=lambda block: shares[block.block], default=None)
    cause = spread if worst is None else f"block '{worst.block}' makes most of the noise, {_percent(most)}{_why(worst, found)}"
    return [
        Advice(block="", cause=cause, text=f"{'' if k else where}{text}", command=line) for k, (text, line) in enumerate(tries)
    ]


def _average_bits(weights: Sequence[WeightFinding]) -> float:
    sizes = [prod(weight.shape) for weight in weights]
    return sum(weight.bits * size for weight, size in zip(weights, sizes, strict=True)) / sum(sizes)


def _numbers(preprocessing: Preprocessing) -> str:
    given = (("--mean", preprocessing.mean), ("--std", preprocessing.std))
    return " ".join(f"{option} {','.join(f'{n:g}' for n in numbers)}" for option, numbers in given if numbers is not None)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"
