"""`genie-onnx inspect`: what is in a model, and what would be done with it."""

from __future__ import annotations

import json
from pathlib import Path

import click
from genie_onnx_cli import options


@click.command()
@options.model
@click.option("--wbits", type=click.IntRange(2, 8), default=4, show_default=True, help="Bits of weights.")
@click.option("--abits", type=click.IntRange(2, 8), default=4, show_default=True, help="Bits of the inputs of weighted layers.")
@options.input_size
@options.bn_from
@options.as_json
def inspect(model: Path, wbits: int, abits: int, input_size: tuple[int, int] | None, bn_from: Path | None, as_json: bool) -> None:
    """Show operators, BatchNorm statistics, blocks, what would be quantised, and which images zero-shot would use."""
    from genie_onnx_cli import show

    import genie_onnx

    config = genie_onnx.QuantizeConfig(placement=genie_onnx.PlacementConfig(wbits=wbits, abits=abits))
    found = genie_onnx.inspect(model, config, input_size, bn_from)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show.inspection(found, wbits, abits)
