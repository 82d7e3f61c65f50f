"""`genie-onnx export`: a finished run once more, for another target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from genie_onnx_cli import completing, options
from genie_onnx_cli.groups import FILE, MAIN, RUNNING, command, option, under


@command(short_help="A finished run for another target.")
@click.argument("run_dir", type=click.Path(path_type=Path), metavar="RUN_DIR", shell_complete=completing.folders)
@under(
    MAIN,
    options.target,
    option(
        "-o",
        "--output",
        type=click.Path(path_type=Path),
        help="The quantised model.  [default: NAME.TARGET.onnx beside the quantised file, NAME(.quant).onnx]",
    ),
    options.run_model,
    option(
        "--reoptimize",
        is_flag=True,
        help="If the target needs other numbers, learn them from the run's images (in OUTPUT.genie; as long as the run took).",
    ),
)
@under(FILE, options.tool, options.opset, options.grids_for, options.round_outputs, *options.requiring)
@under(RUNNING, options.memory_budget, *options.progress)
def export(run_dir: Path, **given: Any) -> None:
    """Write the codes of the finished run in RUN_DIR for another target, verified like the first file.

    Takes seconds where the numbers suit the target; where they do not, what is in the way is said.

    \b
    genie-onnx export model.quant.genie --target int4
    genie-onnx export model.quant.genie --target openvino --reoptimize
    """
    from genie_onnx_cli import show
    from genie_onnx_cli.progress import Display

    import genie_onnx

    target = options.chosen_target(given)
    with Display(given["quiet"], given["log_json"], lambda todo, expected: show.plan(todo, expected, None)) as display:
        done = genie_onnx.export(
            run_dir,
            target,
            given["output"],
            model=given["model"],
            reoptimize=given["reoptimize"],
            memory_budget=given["memory_budget"],
            requirements=options.requirements(given),
            progress=display,
        )
    show.result(done)
    done.require()
