"""Options that several commands share, and the parsing of their values."""

from __future__ import annotations

import dataclasses
import functools
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar, cast, get_args

import click
from genie_onnx_cli import completing

from genie_onnx import TARGETS, TOOLS, Requirements, Target, advice
from genie_onnx.framing import RECIPES, Framing, Interpolation

F = TypeVar("F", bound=Callable[..., Any])


class Numbers(click.ParamType):
    """Numbers separated by commas: ``0.485,0.456,0.406`` -> (0.485, 0.456, 0.406)."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.485,0.456,0.406", param, ctx)


class Size(click.ParamType):
    """Height and width: ``240x320`` -> (240, 320)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).lower().partition("x")
        if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
            self.fail(f"{value!r} is not a size such as 240x320 (height x width)", param, ctx)
        return int(height), int(width)


class Lengths(click.ParamType):
    """One length of pixels, or height and width: ``256`` -> (256,), ``240x320`` -> (240, 320)."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is neither a length such as 256 nor a size such as 240x320 (height x width)", param, ctx)
        return tuple(map(int, parts))


class InputValues(click.ParamType):
    """A name and numbers: ``scale=1,0.5`` -> ("scale", (1.0, 0.5))."""

    name = "input values"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, tuple[float, ...]]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        name, _, numbers = str(value).rpartition("=")
        if not name:
            self.fail(f"{value!r} is not NAME=VALUE[,VALUE...], such as scale=1", param, ctx)
        return name, Numbers().convert(numbers, param, ctx)


class Percent(click.ParamType):
    """A share in percent: ``95`` or ``95%`` -> 0.95."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `value`; a number is parsed already."""
        if isinstance(value, float):
            return value
        try:
            share = float(str(value).removesuffix("%")) / 100
        except ValueError:
            self.fail(f"{value!r} is not a share in percent such as 95", param, ctx)
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is not between 0 and 100 percent", param, ctx)
        return share


model = click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
data = click.option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Calibration images: folder, npz or npy (may be given several times). Without it images are made.",
)
bn_from = click.option(
    "--bn-from",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="BatchNorm statistics for a model with BatchNorm folded: ONNX with it kept, state_dict or safetensors of the same net.",
)
amplify = click.option(
    "--amplify/--no-amplify",
    default=None,
    help="Fewer images than --samples: distil the rest from the statistics of all convolutions on them.  "
    "[default: for 16 images or fewer]",
)
input_mean = click.option(
    "--mean",
    "--input-mean",
    "input_mean",
    type=Numbers(),
    metavar="M[,M,M]",
    help="What the model's preprocessing subtracts from pixels scaled to 0..1, e.g. 0.485,0.456,0.406. Raw 0..255: 0.",
)
input_std = click.option(
    "--std",
    "--input-std",
    "input_std",
    type=Numbers(),
    metavar="S[,S,S]",
    help="What it divides by then, e.g. 0.229,0.224,0.225. Raw 0..255: 0.003922.",
)
channel_order = click.option(
    "--channel-order", type=click.Choice(["rgb", "bgr"]), default="rgb", show_default=True, help="Of the model's input."
)
input_size = click.option("--input-size", type=Size(), metavar="HxW", help="Where the model leaves height and width open.")
layout = click.option(
    "--layout",
    type=click.Choice(["auto", "nchw", "nhwc"]),
    default="auto",
    show_default=True,
    help="Where the model's input has its channels; auto: where the graph shows it, else nhwc where only the last dimension can "
    "be channels.",
)
preprocess = click.option(
    "--preprocess",
    type=click.Choice(list(RECIPES)),
    help="Presets, which the options below override: imagenet is --resize 256 --crop 224 --mean 0.485,0.456,0.406 --std "
    "0.229,0.224,0.225; cifar --mean 0.4914,0.4822,0.4465 --std 0.2470,0.2435,0.2616; none leaves pixels 0..255.",
)
resize = click.option(
    "--resize",
    type=Lengths(),
    metavar="N|HxW",
    help="Pictures are scaled until their shorter side is N, or to HxW.  [default: until they cover the input]",
)
crop = click.option(
    "--crop", type=Lengths(), metavar="N|HxW", help="... and this is cut at their centre.  [default: the model's input]"
)
interpolation = click.option(
    "--interpolation", type=click.Choice(list(get_args(Interpolation))), help="How pictures are scaled.  [default: bilinear]"
)
set_input = click.option(
    "--set-input",
    "set_inputs",
    multiple=True,
    type=InputValues(),
    metavar="NAME=V[,V...]",
    help="Fix an input beside the image to a number, or to one for each entry; the quantised model does not have it any more.",
)
seed = click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Same seed, same machine: same file."
)
device = click.option(
    "--device",
    default="auto",
    shell_complete=completing.devices,
    show_default=True,
    metavar="auto|cpu|cuda",
    help="Where the torch part runs.",
)
precision = click.option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    help="Of convolutions and matrix products while optimising; what is deployed is not touched.  "
    "With bf16 on a CPU, those that are faster so and right.  [default: tf32 on a GPU, bf16 on a CPU that has it, else fp32]",
)
graph = click.option(
    "--graph/--no-graph", default=True, show_default=True, help="On a GPU: steps are captured once and replayed (CUDA graphs)."
)
preset = click.option(
    "--preset",
    type=click.Choice(["fast", "balanced", "paper"]),
    help="How much work: images, and iterations behind the closed form (fast: none). Default: balanced on a GPU, fast on a CPU.",
)
samples = click.option("--samples", type=click.IntRange(min=1), help="Calibration images.  [default: from the preset]")
distill_iters = click.option(
    "--distill-iters",
    type=click.IntRange(min=0),
    help="Steps of distillation, or of refinement, for each batch of images; 0: images stay as painted, and are matched to "
    "BatchNorm's statistics while rounding.  [default: from the preset; refinement 60]",
)
distill_batch = click.option(
    "--distill-batch", type=click.IntRange(min=2), default=128, show_default=True, help="Images distilled together."
)
swing = click.option("--swing/--no-swing", default=True, show_default=True, help="Ablation: strided convs read a shifted input.")
start = click.option(
    "--start",
    type=click.Choice(["leaves", "generator", "noise"]),
    help="Distilled images are the output of a generator (the paper), or pixels that begin as dead leaves or as noise.  "
    "[default: from the preset]",
)
train_latent = click.option(
    "--train-latent/--fixed-latent", default=True, show_default=True, help="Ablation: z is trained, or stays as drawn."
)
closed_form = click.option(
    "--closed-form/--no-closed-form",
    default=True,
    show_default=True,
    help="Round in closed form first; learning starts from there. Without, it starts from nearest rounding (the paper).",
)
equalise = click.option(
    "--equalise/--no-equalise", default=True, show_default=True, help="Scale channels so that they use their grids alike."
)
match = click.option(
    "--match/--no-match",
    default=True,
    show_default=True,
    help="Bring made images to BatchNorm's statistics, layer by layer, while rounding.",
)
ridge = click.option(
    "--ridge",
    type=click.FloatRange(min=0, min_open=True),
    help="Ridge of the closed form, as a share of the inputs' power.  [default: for each layer the best on images held back]",
)
sweeps = click.option(
    "--sweeps", type=click.IntRange(min=0), default=4, show_default=True, help="Ablation: sweeps of coordinate descent."
)
mismatch = click.option(
    "--mismatch/--no-mismatch", default=True, show_default=True, help="Ablation: weights make good for their rounded inputs."
)
moments = click.option(
    "--moments/--no-moments", default=True, show_default=True, help="Ablation: without, nearest rounding with exact biases."
)
move_biases = click.option("--biases/--no-biases", default=True, show_default=True, help="Ablation: biases take the mean error.")
memory_budget = click.option(
    "--memory-budget",
    metavar="SIZE[,SIZE]",
    help="What large tensors may take, e.g. 8GB, or 16GB,8GB for a GPU and the machine; the rest lies in files in the run "
    "directory.  [default: 3/4 of what is free]",
)
quiet = click.option("-q", "--quiet", is_flag=True, help="No progress.")
log_json = click.option("--log-json", is_flag=True, help="Progress as JSON lines on standard error, one event a line.")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def combined(*options: Callable[[F], F]) -> Callable[[F], F]:
    """Return one decorator that applies `options`, the first one shown first in the help."""

    def decorate(function: F) -> F:
        for option in reversed(options):
            function = option(function)
        return function

    return decorate


progress = combined(quiet, log_json)
closing = combined(closed_form, equalise, match, ridge, sweeps, mismatch, moments, move_biases)
distillation = combined(distill_iters, distill_batch, start, swing, train_latent)
computing = combined(device, precision, graph)


def preprocessing(function: F) -> F:
    """Add everything that says how pictures become the model's input.

    The command is given `input_mean`, `input_std`, `channel_order`, `framing` and `input_size`, with the preset worked in.
    """

    @functools.wraps(function)
    def resolved(*arguments: Any, **given: Any) -> Any:
        return function(*arguments, **_preprocessed(given))

    every = (preprocess, resize, crop, interpolation, input_mean, input_std, channel_order, input_size, layout)
    return combined(*every)(cast(F, resolved))


def _preprocessed(given: dict[str, Any]) -> dict[str, Any]:
    """Return the options of a command with those of pictures replaced by what they mean together."""
    recipe = RECIPES.get(given.pop("preprocess"))
    sizes = {name: given.pop(name) for name in ("resize", "crop", "interpolation")}
    if sizes["crop"] is not None:
        sizes["crop"] = (sizes["crop"] * 2)[:2]  # 224 is 224x224
    chosen = {name: value for name, value in sizes.items() if value is not None}
    framing = recipe.framing if recipe else None
    if chosen:
        framing = dataclasses.replace(framing or Framing(), **chosen)
    if recipe:
        step = -1 if given["channel_order"] == "bgr" else 1  # a preset's numbers are for rgb
        mean, std = given["input_mean"] or recipe.mean[::step], given["input_std"] or recipe.std[::step]
        length = max(len(mean), len(std))  # one number is for all channels
        given["input_mean"], given["input_std"] = (numbers * (length if len(numbers) == 1 else 1) for numbers in (mean, std))
    return {**given, "framing": framing, "input_size": given["input_size"] or (framing and framing.crop)}


class _TargetName(click.Choice[str]):
    """A row of TARGETS; where a tool is named instead, its row is said."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check `value`."""
        tool = TOOLS.get(str(value).lower())
        if tool is not None and value not in self.choices:
            use = f"for it use {tool.command}" if tool.target else f"none is for it: {tool.lost}"
            self.fail(f"{tool.name} is a tool, not a target: {use}", param, ctx)
        return super().convert(value, param, ctx)


target = combined(
    click.option(
        "--target",
        type=_TargetName(tuple(TARGETS)),
        help="What the file is for: decides grids, where values are rounded, and how codes are stored (genie-onnx targets).  "
        "[default: that of --for, else portable]",
    ),
    click.option(
        "--for",
        "tool",
        type=click.Choice(tuple(TOOLS)),
        metavar="TOOL",
        help="What reads the file: chooses --target and --format, or says what is wrong with those given (genie-onnx doctor "
        "--targets has all names).",
    ),
    click.option(
        "--opset",
        type=click.IntRange(min=1),
        help="Of the file: from 13 on with Q/DQ, from 21 on with INT4.  [default: the model's own, or the nearest that fits]",
    ),
    click.option(
        "--format",
        "grids_for",
        type=click.Choice(["own", "aimet", "mnn"]),
        help="Of --target encodings: the grids in a file for this tool too, NAME.aimet.json or NAME.mnn.json.",
    ),
    click.option(
        "--round-outputs",
        is_flag=True,
        help="What the last layers write is rounded too, to OTHER_BITS: a detector's heads then run in integer kernels.",
    ),
)


def command() -> str:
    """Return the command line of this process, for `status` to say how a run goes on."""
    return shlex.join(["genie-onnx", *sys.argv[1:]])


def chosen_target(given: Mapping[str, Any]) -> Target:
    """Return the row that the options of `target` stand for."""
    tool = TOOLS.get(given["tool"])
    name = given["target"] or (tool and tool.target) or "portable"
    if tool is not None and (said := advice(tool, name, given.get("abits") or 8)) is not None:
        click.echo(f"note: {said}", err=True)
    if name not in TARGETS:
        raise click.UsageError(f"--target {name} is not in this version of genie-onnx")
    row, grids_for = TARGETS[name], given["grids_for"]
    if grids_for is None and tool is not None and name == tool.target and tool.options:
        grids_for = tool.name
    if grids_for is not None:
        if row.form.style != "float":
            raise click.UsageError(
                f"--format says how grids lie beside a float model, and --target {row.name} is none: encodings is"
            )
        row = row.with_grids_for(grids_for)
    if given["opset"] is not None:
        row = dataclasses.replace(row, form=dataclasses.replace(row.form, opset=given["opset"]))
    if given["round_outputs"]:
        row = dataclasses.replace(row, constraints=dataclasses.replace(row.constraints, outputs="rounded"))
    return row


def requiring(command: F) -> F:
    """Add the options that say what the file has to reach: --accept-useless, --require-sqnr, --require-agreement."""
    for option in reversed(_REQUIRING):
        command = option(command)
    return command


def requirements(given: Mapping[str, Any]) -> Requirements:
    """Return what the options of `requiring` say."""
    return Requirements(
        sqnr_db=given["require_sqnr"], agreement=given["require_agreement"], accept_useless=given["accept_useless"]
    )


_REQUIRING = (
    click.option(
        "--require-sqnr",
        type=float,
        metavar="DB",
        help="Exit code 3 where an output has less than this against the float model; the file goes to OUTPUT.useless.onnx.",
    ),
    click.option(
        "--require-agreement",
        type=Percent(),
        metavar="PCT",
        help="The same where fewer images than this keep the class that the float model gives them.",
    ),
    click.option(
        "--accept-useless",
        is_flag=True,
        help="Write the file under its ordinary name, and exit with 0, also where its outputs tell no more than a constant.",
    ),
)
