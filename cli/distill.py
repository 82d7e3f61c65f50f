"""`genie-onnx distill`: calibration images out of a model's BatchNorm statistics."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import click
from genie_onnx_cli import options
from genie_onnx_cli.groups import ABLATIONS, MAIN, MODEL, PREPROCESSING, RUNNING, command, option, under
from genie_onnx_cli.preprocessing import input_size, layout, preprocessing


@command(short_help="Make calibration images (GENIE-D).")
@options.model
@under(
    MAIN,
    option(
        "-o", "--run-dir", type=click.Path(path_type=Path), help="Where images.npz and images.png go.  [default: MODEL.images]"
    ),
    options.samples,
    options.preset,
    options.distill_iters,
)
@under(MODEL, input_size, layout, options.set_input, options.bn_from)
@under(PREPROCESSING, preprocessing)
@under(RUNNING, options.seed, *options.computing, options.memory_budget, *options.progress)
@under(ABLATIONS, *options.published_distillation)
def distill(model: Path, **given: Any) -> None:
    """Distil calibration images (GENIE-D) out of the BatchNormalization nodes of MODEL, or those of another file with --bn-from.

    The images.npz can be given to `quantize --data`, for this model or, mixed with others, for another one.
    """
    from genie_onnx_cli import show
    from genie_onnx_cli.effort import choose_effort, distill_config
    from genie_onnx_cli.progress import Display

    import genie_onnx

    preset, effort = choose_effort(given["preset"], given["device"], given["samples"], given["distill_iters"])
    config = genie_onnx.QuantizeConfig(
        distill=distill_config(effort, given),
        images="distill",
        samples=effort.samples,
        **given["preprocessing"].keywords(),
        layout=given["layout"],
        seed=given["seed"],
        device=given["device"],
        precision=given["precision"],
        cuda_graph=given["graph"],
    )
    show_plan = functools.partial(show.plan, preset=preset)
    with genie_onnx.join_team(given["device"]) as team:
        first = team.rank == 0  # speaks for all
        with Display(given["quiet"] or not first, given["log_json"] and first, show_plan) as display:
            run = genie_onnx.distill(
                model,
                given["run_dir"] or model.with_name(model.name.removesuffix(".onnx") + ".images"),
                config=config,
                input_size=given["input_size"],
                bn_from=given["bn_from"],
                set_inputs=dict(given["set_inputs"]),
                memory_budget=given["memory_budget"],
                command=options.command(),
                progress=display,
                team=team,
            )
        if first:
            click.echo(f"{effort.samples} images: {run.images}\ncontact sheet: {run.contact_sheet}")
