"""`genie-onnx targets`: what `--target` can be."""

from __future__ import annotations

import dataclasses
import json

import click
from genie_onnx_cli import options
from genie_onnx_cli.groups import RUNNING, command, under

from genie_onnx import TARGETS


@command(short_help="What files can be made for.")
@click.argument("names", metavar="[TARGET...]", nargs=-1, type=click.Choice(tuple(TARGETS)))
@under(RUNNING, options.as_json)
def targets(names: tuple[str, ...], as_json: bool) -> None:
    """List the targets of quantize and export; with names, all that is known of those."""
    rows = {name: TARGETS[name] for name in names or TARGETS}
    if as_json:
        click.echo(json.dumps({name: dataclasses.asdict(row) for name, row in rows.items()}, indent=2))
        return
    from genie_onnx_cli import show_targets

    if names:
        show_targets.details(rows.values())
    else:
        show_targets.overview(rows.values())
