"""`genie-onnx compare`: where a quantised file loses against its float model, and what to try."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from genie_onnx_cli import options
from genie_onnx_cli.groups import MAIN, MODEL, PREPROCESSING, RUNNING, command, option, under
from genie_onnx_cli.preprocessing import input_size, layout, preprocessing


class Rows(click.ParamType):
    """How many rows of each table: ``12``, or ``all`` -> None."""

    name = "rows"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | None:
        """Parse `value`; a number is parsed already."""
        if value == "all":
            return None
        if isinstance(value, int):
            return value
        if not str(value).isdecimal():
            self.fail(f"{value!r} is neither a number of rows nor all", param, ctx)
        return int(value)


@command(short_help="Find the layers that cost most, and what to try.")
@click.argument("float_model", type=click.Path(path_type=Path), metavar="FLOAT.onnx")
@click.argument("quantized", type=click.Path(path_type=Path), metavar="QUANT.onnx")
@under(
    MAIN,
    options.images,
    option("--samples", type=click.IntRange(min=1), metavar="N", default=64, show_default=True, help="Images."),
    option(
        "--effects/--no-effects",
        default=True,
        show_default=True,
        help="What each block does to the outputs, quantised alone and left out: two runs of the network a block and image.",
    ),
    option("--rows", type=Rows(), default=8, show_default=True, metavar="N|all", help="Rows of each table, the worst first."),
    option("-o", "--output", type=click.Path(path_type=Path), metavar="FILE.json", help="Write everything as JSON, too."),
)
@under(MODEL, input_size, layout, options.set_input)
@under(PREPROCESSING, preprocessing)
@under(RUNNING, options.seed, options.quiet, options.as_json)
def compare(float_model: Path, quantized: Path, **given: Any) -> None:
    """Find the layers of QUANT.onnx that cost most against FLOAT.onnx, and say what to try next.

    QUANT.onnx is a QDQ file of `quantize`, or of another tool that keeps the names of nodes and values.

    \b
    genie-onnx compare model.onnx model.quant.onnx --data photos/
    genie-onnx compare model.onnx model.quant.onnx --no-effects --json
    """
    from genie_onnx_cli import show_comparison
    from genie_onnx_cli.progress import Display

    import genie_onnx

    output: Path | None = given["output"]
    if output is not None and output.suffix.lower() != ".json":
        raise genie_onnx.ConfigError(f"-o {output}: give a file name that ends with .json")
    if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
        raise genie_onnx.ConfigError(f"-o {output}: {'it is a folder' if output.is_dir() else 'its folder does not exist'}")
    with Display(given["quiet"], False, lambda plan, estimate: None) as display:
        found = genie_onnx.compare(
            float_model,
            quantized,
            data=given["data"],
            samples=given["samples"],
            effects=given["effects"],
            **given["preprocessing"].keywords(),
            input_size=given["input_size"],
            layout=given["layout"],
            set_inputs=dict(given["set_inputs"]),
            seed=given["seed"],
            progress=display,
        )
    text = json.dumps(found.to_json(), indent=2)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    if given["as_json"]:
        click.echo(text)
    else:
        show_comparison.comparison(found, given["rows"])
