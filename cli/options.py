"""Options that several commands share."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from genie_onnx_cli import completing
from genie_onnx_cli.groups import option
from genie_onnx_cli.kinds import InputValues, Percent

from genie_onnx import TARGETS, TOOLS, Requirements, Target, advice

model = click.argument("model", type=click.Path(path_type=Path), metavar="MODEL")
data = option(
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Calibration images: folder, npz or npy (may be given several times). Without it images are made.",
)
images = option(  # to look at files with
    "--data",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Images: folder, npz or npy (may be given several times). Without it images are made, which tell less.",
)
run_model = option("--model", type=click.Path(path_type=Path), help="The float model, if it is no longer where the run found it.")
bn_from = option(
    "--bn-from",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="BatchNorm statistics for a model with BatchNorm folded: ONNX with it kept, state_dict or safetensors of the same net.",
)
amplify = option(
    "--amplify/--no-amplify",
    default=None,
    help="Fewer images than --samples: distil the rest from the statistics of all convolutions on them.  "
    "[default: for 16 images or fewer]",
)
set_input = option(
    "--set-input",
    "set_inputs",
    multiple=True,
    type=InputValues(),
    metavar="NAME=V[,V...]",
    help="Fix an input beside the image to a number, or to one for each entry; the quantised model does not have it any more.",
)
seed = option(
    "--seed", type=click.IntRange(min=0), metavar="N", default=0, show_default=True, help="Same seed, same machine: same file."
)
device = option(
    "--device",
    default="auto",
    shell_complete=completing.devices,
    show_default=True,
    metavar="auto|cpu|cuda",
    help="Where the torch part runs.",
)
precision = option(
    "--precision",
    type=click.Choice(["fp32", "tf32", "bf16"]),
    help="Of convolutions and matrix products while optimising; what is deployed is not touched.  "
    "With bf16 on a CPU, those that are faster so and right.  [default: tf32 on a GPU, bf16 on a CPU that has it, else fp32]",
)
graph = option(
    "--graph/--no-graph", default=True, show_default=True, help="On a GPU: steps are captured once and replayed (CUDA graphs)."
)
preset = option(
    "--preset",
    type=click.Choice(["fast", "balanced", "paper"]),
    help="How much work: images, and iterations behind the closed form (fast: none). Default: balanced on a GPU, fast on a CPU.",
)
samples = option("--samples", type=click.IntRange(min=1), metavar="N", help="Calibration images.  [default: from the preset]")
distill_iters = option(
    "--distill-iters",
    type=click.IntRange(min=0),
    metavar="N",
    help="Steps of distillation, or of refinement, for each batch of images; 0: images stay as painted, and are matched to "
    "BatchNorm's statistics while rounding.  [default: from the preset; refinement 60]",
)
distill_batch = option(
    "--distill-batch", type=click.IntRange(min=2), metavar="N", default=128, show_default=True, help="Images distilled together."
)
swing = option("--swing/--no-swing", default=True, show_default=True, help="Strided convs read a shifted input.")
start = option(
    "--start",
    type=click.Choice(["leaves", "generator", "noise"]),
    help="Distilled images are the output of a generator (the paper), or pixels that begin as dead leaves or as noise.  "
    "[default: from the preset]",
)
train_latent = option("--train-latent/--fixed-latent", default=True, show_default=True, help="Z is trained, or stays as drawn.")
closed_form = option(
    "--closed-form/--no-closed-form",
    default=True,
    show_default=True,
    help="Round in closed form first; learning starts from there. Without, it starts from nearest rounding (the paper).",
)
equalise = option(
    "--equalise/--no-equalise", default=True, show_default=True, help="Scale channels so that they use their grids alike."
)
match = option(
    "--match/--no-match",
    default=True,
    show_default=True,
    help="Bring made images to BatchNorm's statistics, layer by layer, while rounding.",
)
ridge = option(
    "--ridge",
    type=click.FloatRange(min=0, min_open=True),
    metavar="X",
    help="Ridge of the closed form, as a share of the inputs' power.  [default: for each layer the best on images held back]",
)
sweeps = option(
    "--sweeps", type=click.IntRange(min=0), metavar="N", default=4, show_default=True, help="Sweeps of coordinate descent."
)
mismatch = option("--mismatch/--no-mismatch", default=True, show_default=True, help="Weights make good for their rounded inputs.")
moments = option(
    "--moments/--no-moments",
    default=True,
    show_default=True,
    help="Without: nearest rounding, with exact biases.",
)
move_biases = option("--biases/--no-biases", default=True, show_default=True, help="Biases take the mean error.")
memory_budget = option(
    "--memory-budget",
    metavar="SIZE[,SIZE]",
    help="What large tensors may take, e.g. 8GB, or 16GB,8GB for a GPU and the machine; the rest lies in files in the run "
    "directory.  [default: 3/4 of what is free]",
)
quiet = option("-q", "--quiet", is_flag=True, help="No progress.")
log_json = option("--log-json", is_flag=True, help="Progress as JSON lines on standard error, one event a line.")
as_json = option("--json", "as_json", is_flag=True, help="Print JSON.")


class _TargetName(click.Choice[str]):
    """A row of TARGETS; where a tool is named instead, its row is said."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check `value`."""
        tool = TOOLS.get(str(value).lower())
        if tool is not None and value not in self.choices:
            use = f"for it use {tool.command}" if tool.target else f"none is for it: {tool.lost}"
            self.fail(f"{tool.name} is a tool, not a target: {use}", param, ctx)
        return super().convert(value, param, ctx)


target = option(
    "--target",
    type=_TargetName(tuple(TARGETS)),
    metavar="NAME",
    help="What the file is for: decides grids, where values are rounded, and how codes are stored (list: genie-onnx targets).  "
    "[default: that of --for, else portable]",
)
tool = option(
    "--for",
    "tool",
    type=click.Choice(tuple(TOOLS)),
    metavar="TOOL",
    help="What reads the file: chooses --target and --format, or says what is wrong with those given (list: genie-onnx doctor "
    "--targets).",
)
opset = option(
    "--opset",
    type=click.IntRange(min=1),
    metavar="N",
    help="Of the file: from 13 on with Q/DQ, from 21 on with INT4.  [default: the model's own, or the nearest that fits]",
)
grids_for = option(
    "--format",
    "grids_for",
    type=click.Choice(["own", "aimet", "mnn"]),
    help="Of --target encodings: the grids in a file for this tool too, NAME.aimet.json or NAME.mnn.json.",
)
round_outputs = option(
    "--round-outputs",
    is_flag=True,
    help="What the last layers write is rounded too, to OTHER_BITS: a detector's heads then run in integer kernels.",
)
require_sqnr = option(
    "--require-sqnr",
    type=float,
    metavar="DB",
    help="Exit code 3 where an output has less than this against the float model; the file goes to OUTPUT.useless.onnx.",
)
require_agreement = option(
    "--require-agreement",
    type=Percent(),
    metavar="PCT",
    help="The same where fewer images than this keep the class that the float model gives them.",
)
accept_useless = option(
    "--accept-useless",
    is_flag=True,
    help="Write the file under its ordinary name, and exit with 0, also where its outputs tell no more than a constant.",
)

# Those that go together, in the order of the help.
progress = (quiet, log_json)
computing = (device, precision, graph)
requiring = (require_sqnr, require_agreement, accept_useless)
published_distillation = (distill_batch, start, swing, train_latent)
published_rounding = (closed_form, equalise, match, ridge, sweeps, mismatch, moments, move_biases)


def command() -> str:
    """Return the command line of this process, for `status` to say how a run goes on."""
    return shlex.join(["genie-onnx", *sys.argv[1:]])


def chosen_target(given: Mapping[str, Any]) -> Target:
    """Return the row that the options of `target` stand for."""
    tool = TOOLS.get(given["tool"])
    name = given["target"] or (tool and tool.target) or "portable"
    if tool is not None and (said := advice(tool, name, given.get("abits") or 8)) is not None:
        click.echo(f"note: {said}", err=True)
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


def requirements(given: Mapping[str, Any]) -> Requirements:
    """Return what the options of `requiring` say."""
    return Requirements(
        sqnr_db=given["require_sqnr"], agreement=given["require_agreement"], accept_useless=given["accept_useless"]
    )
