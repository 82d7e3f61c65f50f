"""`genie-onnx quantize`: a float model in, a verified low-bit QDQ model out."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click
from genie_onnx_cli import options, placement
from genie_onnx_cli.groups import (
    ABLATIONS,
    CHOSEN,
    EFFORT,
    FILE,
    IMAGES,
    MAIN,
    MODEL,
    PREPROCESSING,
    ROUNDED,
    RUNNING,
    command,
    option,
    under,
)
from genie_onnx_cli.preprocessing import input_size, layout, preprocessing


@command(short_help="A float model in, a verified low-bit one out.")
@options.model
@under(MAIN, placement.wbits, placement.abits, options.data, options.preset, options.target)
@under(ROUNDED, *placement.rounded)
@under(CHOSEN, *placement.goals)
@under(MODEL, input_size, layout, options.set_input, options.bn_from)
@under(PREPROCESSING, preprocessing)
@under(
    IMAGES,
    option(
        "--images",
        type=click.Choice(["auto", "distill", "refine", "procedural"]),
        default="auto",
        show_default=True,
        help="Images made without --data: auto distils from BatchNorm statistics, else makes procedural ones (refined or not).",
    ),
    options.amplify,
)
@under(
    EFFORT,
    options.samples,
    options.distill_iters,
    option(
        "--recon-iters",
        type=click.IntRange(min=0),
        metavar="N",
        help="Learning steps for each block; 0: closed form alone.  [default: from the preset]",
    ),
    option(
        "--last-pass",
        type=click.IntRange(min=0),
        metavar="N",
        default=0,
        show_default=True,
        help="Epochs in which scales, steps and biases of the whole network learn together at the end; kept only if images held "
        "back gain.",
    ),
)
@under(
    FILE,
    option("-o", "--output", type=click.Path(path_type=Path), help="The quantised model.  [default: MODEL.quant.onnx]"),
    options.tool,
    options.opset,
    options.grids_for,
    options.round_outputs,
    *options.requiring,
)
@under(
    RUNNING,
    option("--dry-run", is_flag=True, help="Check everything, print what would be done, write nothing."),
    option(
        "--run-dir",
        type=click.Path(path_type=Path),
        help="Images and finished blocks; goes on from there.  [default: MODEL.quant.genie]",
    ),
    options.seed,
    *options.computing,
    options.memory_budget,
    *options.progress,
)
@under(
    ABLATIONS,
    *placement.published_points,
    *options.published_distillation,
    *options.published_rounding,
    option(
        "--batch-size",
        type=click.IntRange(min=1),
        metavar="N",
        default=32,
        show_default=True,
        help="Samples in a reconstruction step.",
    ),
    option(
        "--rounding-lr",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        help="Learning rate of the rounding.  [default: 2.5 / RECON_ITERS, within 0.001 (the paper) and 0.02]",
    ),
    option(
        "--rounding-weight",
        type=click.FloatRange(min=0),
        metavar="X",
        default=1.0,
        show_default=True,
        help="Lambda of the rounding term (0.1 is usual for MobileNets).",
    ),
    option(
        "--drop",
        type=click.FloatRange(0, 1),
        metavar="X",
        default=0.5,
        show_default=True,
        help="QDrop: chance that an element inside a block stays unrounded in a step. A block's inputs are mixed 1:1 at any X.",
    ),
)
def quantize(model: Path, **given: Any) -> None:
    """Quantize the float ONNX MODEL and verify the result in onnxruntime.

    \b
    genie-onnx quantize model.onnx --wbits 4 --abits 4
    genie-onnx quantize model.onnx --wbits 2 --data photos/ --preprocess imagenet
    genie-onnx quantize model.onnx --avg-bits 3.5
    genie-onnx quantize model.onnx --preset balanced -o model.w4a4.onnx
    """
    from genie_onnx_cli import show
    from genie_onnx_cli.effort import choose_effort, closed_form_config, distill_config
    from genie_onnx_cli.progress import Display

    import genie_onnx

    preset, effort = choose_effort(
        given["preset"], given["device"], given["samples"], given["distill_iters"], given["recon_iters"], given["wbits"]
    )
    config = genie_onnx.QuantizeConfig(
        placement=placement.placement_config(given),
        distill=distill_config(effort, given, effort.most_pixels),
        reconstruct=genie_onnx.ReconstructConfig(
            iterations=effort.reconstruct_iterations,
            batch_size=given["batch_size"],
            rounding_lr=given["rounding_lr"] or genie_onnx.rounding_rate(effort.reconstruct_iterations),
            rounding_weight=given["rounding_weight"],
            drop_probability=given["drop"],
        ),
        closed_form=closed_form_config(given),
        last_pass=given["last_pass"],
        bit_goal=placement.bit_goal(given),
        images=given["images"],
        samples=effort.samples,
        amplify=given["amplify"],
        target=options.chosen_target(given),
        **given["preprocessing"].keywords(),
        layout=given["layout"],
        seed=given["seed"],
        device=given["device"],
        precision=given["precision"],
        cuda_graph=given["graph"],
    )
    requirements = options.requirements(given)
    places = {key: given[key] for key in ("data", "input_size", "run_dir", "bn_from", "memory_budget")}
    places |= {"set_inputs": dict(given["set_inputs"])}
    with genie_onnx.join_team(given["device"]) as team:
        first = team.rank == 0  # speaks for all
        if given["dry_run"]:
            todo = genie_onnx.plan(model, given["output"], config=config, requirements=requirements, team=team, **places)
            if first:
                show.plan(todo, genie_onnx.estimate(todo), preset)
                click.echo(genie_onnx.to_json(config))
            return
        show_plan = functools.partial(show.plan, preset=preset)
        with Display(given["quiet"] or not first, given["log_json"] and first, show_plan) as display:
            result = genie_onnx.quantize(
                model,
                given["output"],
                config=config,
                requirements=requirements,
                command=options.command(),
                progress=display,
                team=team,
                **places,
            )
        if first:
            show.result(result)
            show.next_steps(model, result)
        result.require()
