"""`genie-onnx report`: the HTML report of a finished run, once more."""

from __future__ import annotations

from pathlib import Path

import click
from genie_onnx_cli import completing, options
from genie_onnx_cli.groups import MAIN, RUNNING, command, option, under


@command(short_help="The HTML report of a run, again.")
@click.argument("run_dir", type=click.Path(path_type=Path), metavar="RUN_DIR", shell_complete=completing.folders)
@under(
    MAIN,
    option("-o", "--output", type=click.Path(path_type=Path), help="The HTML file.  [default: RUN_DIR/report.html]"),
    options.run_model,
    option("--effects", is_flag=True, help="Measure what each block does to the outputs, too (minutes for a large model)."),
)
@under(RUNNING, options.quiet)
def report(run_dir: Path, output: Path | None, model: Path | None, *, effects: bool, quiet: bool) -> None:
    """Make the HTML report of the finished run in RUN_DIR again: one file that needs no network.

    `quantize` makes it at its end; what that left out is added here.

    \b
    genie-onnx report model.quant.genie
    genie-onnx report model.quant.genie --effects -o report.html
    """
    from genie_onnx_cli.progress import Display

    import genie_onnx

    with Display(quiet, False, lambda plan, estimate: None) as display:
        page = genie_onnx.html_report(run_dir, output, model=model, effects=effects, progress=display)
    click.echo(page)
