"""`genie-onnx inspect`: what is in a model, and what would be done with it."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import click
from genie_onnx_cli import options, placement
from genie_onnx_cli.groups import ABLATIONS, FILE, MAIN, MODEL, ROUNDED, command, option, under
from genie_onnx_cli.preprocessing import input_size, layout


@command(short_help="What is in a model, what would be done.")
@options.model
@under(
    MAIN,
    placement.wbits,
    placement.abits,
    options.target,
    option("-v", "--verbose", is_flag=True, help="Every node, and every rounded value with who asks for it."),
    options.as_json,
)
@under(ROUNDED, *placement.rounded)
@under(MODEL, input_size, layout, options.set_input, options.bn_from)
@under(FILE, options.tool, options.opset, options.grids_for, options.round_outputs)
@under(ABLATIONS, *placement.published_points)
def inspect(model: Path, **given: Any) -> None:
    """Show operators, BatchNorm statistics, blocks, what would be quantised, and which images zero-shot would use."""
    from genie_onnx_cli.show_inspection import inspection

    import genie_onnx

    config = genie_onnx.QuantizeConfig(
        placement=placement.placement_config(given),
        target=options.chosen_target(given),
        layout=given["layout"],
    )
    found = genie_onnx.inspect(
        model,
        config=config,
        input_size=given["input_size"],
        bn_from=given["bn_from"],
        set_inputs=dict(given["set_inputs"]),
    )
    if given["as_json"]:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        inspection(found, given["verbose"], config.target.name)
        then = f"genie-onnx quantize {shlex.quote(str(model))} --dry-run"
        click.echo(f"next: {then}     what a run does, and how long it takes here")
