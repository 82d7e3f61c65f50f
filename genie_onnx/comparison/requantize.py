"""The command that quantizes a model once more, with something changed: what a diagnosis tells the user to try.

    how the file was made (its metadata) + changes -> genie-onnx quantize MODEL -o OTHER.onnx ... --bits 'conv7=8/8'

Settings that are the defaults are left out. Where the calibration images lay is not in a file: PATH stands for it.
"""

from __future__ import annotations

import dataclasses
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_onnx.config import BitGoal, LayerBits, PlacementConfig, QuantizeConfig
from genie_onnx.effort import PRESETS, Preset
from genie_onnx.framing import Framing, LayoutChoice
from genie_onnx.preprocessing import UNKNOWN, Preprocessing
from genie_onnx.targets import TARGETS

UNKNOWN_DATA = "PATH"
_PLACEMENT = ("wbits", "abits", "first_last_bits", "setting", "other_bits", "points")


@dataclass(frozen=True, kw_only=True)
class Origin:
    """How a quantised file was made, as far as is known, and how the user looks at it now."""

    model: str  # the float model
    quantized: str
    config: QuantizeConfig | None = None  # None: the file does not say, or another tool made it
    judged: str = ""  # the verdict of the run that made it, where that is not "good"
    calibrated: str = ""  # data, distilled, refined, procedural, or several joined by +; "": not known
    data: tuple[str, ...] = ()  # images that it is compared on
    preprocessing: Preprocessing = UNKNOWN  # ... and what is done to them
    input_size: tuple[int, int] | None = None
    layout: LayoutChoice = "auto"
    set_inputs: Mapping[str, Sequence[float]] = dataclasses.field(default_factory=dict)


def command(
    origin: Origin,
    *,
    bits: Sequence[LayerBits] = (),
    keep_float: Sequence[str] = (),
    abits: int | None = None,
    average: float | None = None,
    preset: Preset | None = None,
    samples: int | None = None,
    data: bool = False,
    preprocess: bool = False,
) -> str:
    """Return the command line that does as the run did, but for this.

    `bits`, `keep_float`: beside those that the run had. `abits`, `average` (bits of weights), `preset`, `samples`: in
    place of what it had. `data`: calibrate on images. `preprocess`: with the mean and deviation of the comparison.
    """
    config = origin.config or QuantizeConfig()
    placement = dataclasses.replace(config.placement, abits=abits or config.placement.abits)
    if average is not None:
        placement = dataclasses.replace(placement, wbits=_default("wbits"), first_last_bits=_default("first_last_bits"))
    words = ["genie-onnx", "quantize", origin.model, "-o", another(origin.quantized)]
    for name in _PLACEMENT:
        if getattr(placement, name) != _default(name):
            words += [f"--{name.replace('_', '-')}", str(getattr(placement, name))]
    words += _goal(config) if average is None else ["--avg-bits", f"{average:g}"]
    words += ["--preset", preset] if preset else _effort(config, samples) if origin.config else []
    words += _target(config) + (["--reduce-range"] if placement.reduce_range else [])
    named = {wish.pattern for wish in bits} | set(keep_float)
    for wish in (*(old for old in config.placement.layer_bits if old.pattern not in named), *bits):
        words += ["--bits", f"{wish.pattern}={wish.wbits}/{wish.abits}"]
    for node in dict.fromkeys((*config.placement.keep_float, *keep_float)):
        words += ["--keep-float", node]
    if data or origin.calibrated.startswith("data"):
        for path in origin.data or (UNKNOWN_DATA,):
            words += ["--data", path]
    elif config.images != "auto":
        words += ["--images", config.images]
    words += ["--seed", str(config.seed)] if config.seed else []
    pictures = config.preprocessing
    if preprocess:
        pictures = dataclasses.replace(pictures, mean=origin.preprocessing.mean, std=origin.preprocessing.std)
    words += _pictures(pictures)
    if origin.input_size is not None:
        words += ["--input-size", "{}x{}".format(*origin.input_size)]
    words += ["--layout", origin.layout] if origin.layout != "auto" else []
    for name, numbers in origin.set_inputs.items():
        words += ["--set-input", f"{name}={','.join(f'{number:g}' for number in numbers)}"]
    return shlex.join(words)


def another(path: str) -> str:
    """Return a name for the next file beside `path`: model.quant.onnx -> model.quant.2.onnx -> model.quant.3.onnx."""
    stem = Path(path).name.removesuffix(".onnx").removesuffix(".useless")
    found = re.fullmatch(r"(.*)\.(\d+)", stem)
    name, count = (found[1], int(found[2]) + 1) if found else (stem, 2)
    return str(Path(path).with_name(f"{name}.{count}.onnx"))


def _default(name: str) -> Any:
    return getattr(PlacementConfig(), name)


def _effort(config: QuantizeConfig, samples: int | None) -> list[str]:
    """Return the preset of a run, or the numbers of images and iterations that it had instead."""
    spent = (samples or config.samples, config.reconstruct.iterations)
    for name, effort in PRESETS.items():
        if spent == (effort.samples, effort.reconstruct_iterations):
            return ["--preset", name]
    return ["--samples", str(spent[0]), "--recon-iters", str(spent[1])]


def _goal(config: QuantizeConfig) -> list[str]:
    """Return the option by which the run chose the bits of blocks."""
    match config.bit_goal:
        case None:
            return []
        case BitGoal(average=float(average)):
            return ["--avg-bits", f"{average:g}"]
        case BitGoal(share=float(share)):
            return ["--target-size", f"{100 * share:g}%"]
        case BitGoal(bytes=int(count)):
            return ["--target-size", f"{count / 1000:.10g}kB"]
        case BitGoal(drop=drop):
            return ["--max-drop", f"{drop:g}"]


def _target(config: QuantizeConfig) -> list[str]:
    row = TARGETS.get(config.target.name)
    if row is None:  # one of the user's own
        return []
    rounded = config.target.constraints.outputs != row.constraints.outputs
    return [*(["--target", row.name] if row.name != "portable" else []), *(["--round-outputs"] if rounded else [])]


def _pictures(given: Preprocessing) -> list[str]:
    words = []
    for option, numbers in (("--mean", given.mean), ("--std", given.std)):
        words += [] if numbers is None else [option, ",".join(f"{number:.6g}" for number in numbers)]
    words += ["--channel-order", given.channel_order] if given.channel_order != "rgb" else []
    framing = given.framing or Framing()
    for option, size in (("--resize", framing.resize), ("--crop", framing.crop)):
        words += [] if size is None else [option, "x".join(map(str, size))]
    words += ["--interpolation", framing.interpolation] if framing.interpolation != "bilinear" else []
    return words
