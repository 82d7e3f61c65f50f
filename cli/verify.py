"""`genie-onnx verify`: a quantised file in other runtimes, held against what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
from genie_onnx_cli import options
from genie_onnx_cli.groups import MAIN, MODEL, PREPROCESSING, RUNNING, command, option, under
from genie_onnx_cli.preprocessing import input_size, layout, preprocessing

from genie_onnx import Step
from genie_onnx.errors import RunError


class Interpreter(click.ParamType):
    """A runtime and a path: ``rknn=/opt/rknn/bin/python`` -> ("rknn", "/opt/rknn/bin/python")."""

    name = "interpreter"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        runtime, _, path = str(value).partition("=")
        if not path:
            self.fail(f"{value!r} is not RUNTIME=PATH, such as rknn=/opt/rknn/bin/python", param, ctx)
        return runtime, path


class _Names:
    """Prints the name of each runtime as its turn comes."""

    def __init__(self) -> None:
        self._said = ""

    def __call__(self, step: Step) -> None:
        """See genie_onnx.Step."""
        if step.name != self._said:
            self._said = step.name
            click.echo(f"{step.name} ...", err=True)


@command(short_help="A file in every runtime that is installed.")
@click.argument("model", type=click.Path(path_type=Path), metavar="QUANT.onnx")
@under(
    MAIN,
    option(
        "--float",
        "float_model",
        type=click.Path(path_type=Path),
        metavar="FLOAT.onnx",
        help="The model it was made from: its time in each runtime, and its size, are what the file's are compared with.",
    ),
    option(
        "--with",
        "runtimes",
        metavar="NAME[,NAME...]",
        help="onnxruntime, openvino, tvm, iree, rknn, qnn, qonnx, hls4ml, litert, vela.  [default: those that are installed]",
    ),
    option(
        "--python",
        "pythons",
        multiple=True,
        type=Interpreter(),
        metavar="NAME=PATH",
        help="The Python of a runtime that is installed in an environment of its own (needs numpy and onnx there).",
    ),
    options.images,
    option("--samples", type=click.IntRange(min=1), metavar="N", default=16, show_default=True, help="Images."),
)
@under(MODEL, input_size, layout)
@under(PREPROCESSING, preprocessing)
@under(
    RUNNING,
    option(
        "--seconds",
        type=click.FloatRange(min=0, min_open=True),
        metavar="X",
        default=600,
        show_default=True,
        help="Time for each runtime.",
    ),
    options.seed,
    options.quiet,
    options.as_json,
)
def verify(model: Path, **given: Any) -> None:
    """Run QUANT.onnx in other runtimes and hold what they compute against the file, computed node by node.

    \b
    genie-onnx verify model.quant.onnx --float model.onnx
    genie-onnx verify model.quant.onnx --python rknn=/opt/rknn/bin/python
    """
    from genie_onnx_cli import show_verification

    import genie_onnx

    names = given["runtimes"]
    found = genie_onnx.verify(
        model,
        float_model=given["float_model"],
        runtimes=None if names is None else [name.strip() for name in names.split(",")],
        pythons=dict(given["pythons"]),
        data=given["data"],
        samples=given["samples"],
        **given["preprocessing"].keywords(),
        input_size=given["input_size"],
        layout=given["layout"],
        seed=given["seed"],
        seconds=given["seconds"],
        progress=(lambda step: None) if given["quiet"] else _Names(),
    )
    if given["as_json"]:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_verification.verification(found)
    if not found.ok:
        failed = [row.runtime for row in found.runtimes if row.problem is not None]
        reasons = [f"{len(failed)} of {len(found.runtimes)} runtimes cannot use the file: {', '.join(failed)}"] if failed else []
        if found.changes:
            reasons.append(
                f"the file is not as it was written ({len(found.changes)} scales or codes): take it from its run again"
            )
        raise RunError("; ".join(reasons))
