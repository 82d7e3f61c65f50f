"""`genie-onnx status`: how far a run is."""

from __future__ import annotations

import json
from pathlib import Path

import click
from genie_onnx_cli import completing, options
from genie_onnx_cli.groups import RUNNING, command, under


@command(short_help="How far a run is, how it goes on.")
@click.argument("run_dir", type=click.Path(path_type=Path), metavar="RUN_DIR", shell_complete=completing.folders)
@under(RUNNING, options.as_json)
def status(run_dir: Path, as_json: bool) -> None:
    """Say how far the run in RUN_DIR is, whether a process is at it, and how to go on. Reads only.

    \b
    genie-onnx status model.quant.genie
    """
    import genie_onnx

    found = genie_onnx.status(run_dir)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
        return
    from genie_onnx_cli.show_status import status as show

    show(found)
