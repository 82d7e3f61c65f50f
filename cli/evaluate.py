"""`genie-onnx evaluate`: accuracy of float and quantised models on labelled images."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from genie_onnx_cli import options


@click.command()
@click.argument("models", type=click.Path(path_type=Path), metavar="MODEL...", nargs=-1, required=True)
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="Labelled images: ROOT/CLASS/picture trees, or npz with `images` and `labels` (may be given several times).",
)
@options.preprocessing
@options.set_input
@click.option("--limit", type=click.IntRange(min=1), help="At most so many images, spread over the whole.")
@options.as_json
def evaluate(models: tuple[Path, ...], **given: Any) -> None:
    """Print top-1 and top-5 of each MODEL, run by onnxruntime at its default options."""
    from genie_onnx_cli import show

    import genie_onnx

    found = {}
    for model in models:
        found[str(model)] = genie_onnx.evaluate(
            model,
            given["data"],
            mean=given["input_mean"],
            std=given["input_std"],
            order=given["channel_order"],
            limit=given["limit"],
            input_size=given["input_size"],
            set_inputs=dict(given["set_inputs"]),
        )
    if given["as_json"]:
        click.echo(json.dumps({model: accuracy.to_json() for model, accuracy in found.items()}, indent=2))
    else:
        show.accuracies(found)
