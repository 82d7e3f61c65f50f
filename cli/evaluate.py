"""`genie-onnx evaluate`: accuracy of float and quantised models on labelled images, or a metric of the user's own."""

from __future__ import annotations

import importlib
import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, cast

import click
from genie_onnx_cli import options
from genie_onnx_cli.groups import MAIN, MODEL, PREPROCESSING, RUNNING, WRITTEN, command, option, under
from genie_onnx_cli.preprocessing import input_size, layout, preprocessing

from genie_onnx import Step
from genie_onnx.errors import ConfigError

PATIENCE = 2.0  # seconds before progress is shown


class Metric(click.ParamType):
    """A function or a class in a module that can be imported from the current folder: ``measures:IoU``."""

    name = "metric"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Callable[..., Any]:
        """Import `value`; a metric is already imported. The module's own errors keep their traceback."""
        if callable(value) or (ctx is not None and ctx.resilient_parsing):  # a shell that completes runs nothing
            return cast(Callable[..., Any], value)
        module, _, name = str(value).partition(":")
        if not name or module.endswith(".py") or not all(part.isidentifier() for part in module.split(".")):
            self.fail(f"{value!r} is not MODULE:NAME, such as measures:IoU for the class IoU in measures.py", param, ctx)
        sys.path.insert(0, str(Path.cwd()))
        try:
            found = getattr(importlib.import_module(module), name, None)
        except ModuleNotFoundError as error:
            if error.name not in (module, module.partition(".")[0]):
                raise
            self.fail(f"there is no module {module!r} in {Path.cwd()} or among the installed ones", param, ctx)
        if not callable(found):
            self.fail(f"{module!r} has no function or class {name!r}", param, ctx)
        return found


class _Late:
    """Tells a display of steps once there has been some time to wait."""

    def __init__(self) -> None:
        self.display: Callable[[Step], None] = lambda step: None
        self.done = 0
        self._began = time.monotonic()

    def __call__(self, step: Step) -> None:
        self.done = step.iteration
        if time.monotonic() - self._began > PATIENCE:
            self.display(step)


def _check_files(given: Mapping[str, Any]) -> None:
    """Raise ConfigError with every file that could not be written in the end."""
    problems = []
    for name in ("predictions", "confusion"):
        path: Path | None = given[name]
        if path is None:
            continue
        if path.suffix.lower() != ".csv":
            problems.append(f"--{name} {path}: give a file name that ends with .csv")
        elif path.is_dir() or not path.absolute().parent.is_dir():
            problems.append(f"--{name} {path}: {'it is a folder' if path.is_dir() else 'its folder does not exist'}")
        elif path in (given["labels"], given["classes"]):
            problems.append(f"--{name} {path}: that is read, it is not overwritten")
        elif name == "confusion" and given["metric"] is not None:
            problems.append("--confusion is for classifiers, and a --metric is given")
    if given["predictions"] is not None and given["predictions"] == given["confusion"]:
        problems.append("--predictions and --confusion are one file")
    if problems:
        raise ConfigError(problems)


@command(short_help="Accuracy of models on labelled images.")
@click.argument("models", type=click.Path(path_type=Path), metavar="MODEL...", nargs=-1, required=True)
@under(
    MAIN,
    option(
        "--data",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="ROOT/CLASS/picture trees, npz with `images` and `labels`, or the folder of --labels (may be given several times).",
    ),
    option(
        "--labels",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="CSV of path,label, or lines of `path label`: classes by index or name, paths below --data or beside FILE.",
    ),
    option(
        "--classes",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Class names in the order of the model's outputs, one a line or JSON.  [default: sorted]",
    ),
    option(
        "--label-offset",
        type=int,
        default=0,
        metavar="N",
        help="Added to every label: 1 for models with a background class first.",
    ),
    option(
        "--metric",
        type=Metric(),
        metavar="MODULE:NAME",
        help="A function or class of your own instead of top-1, imported from the current folder and run.",
    ),
)
@under(MODEL, input_size, layout, options.set_input)
@under(PREPROCESSING, preprocessing)
@under(
    WRITTEN,
    option("--worst", type=click.IntRange(min=1), metavar="N", help="Print the N most frequent confusions of each model."),
    option(
        "--predictions", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write what each model says of each image."
    ),
    option("--confusion", type=click.Path(path_type=Path), metavar="FILE.csv", help="Write which classes are taken for which."),
    options.as_json,
)
@under(
    RUNNING,
    option("--limit", type=click.IntRange(min=1), metavar="N", help="At most so many images, spread over the whole."),
    option(
        "--provider",
        type=click.Choice(["auto", "cpu", "cuda"]),
        default="auto",
        show_default=True,
        help="Of onnxruntime; auto is cuda where it and torch find a GPU.",
    ),
    options.quiet,
)
def evaluate(models: tuple[Path, ...], **given: Any) -> None:
    """Print top-1 and top-5 of each MODEL with 95 % intervals, and how each differs from the first on the same images.

    \b
    genie-onnx evaluate net.onnx net.quant.onnx --data val/ --preprocess imagenet
    genie-onnx evaluate model.onnx --data val/ --labels val.txt --label-offset 1
    genie-onnx evaluate detector.onnx --data photos/ --metric measures:Precision
    """
    from genie_onnx_cli import show_evaluation
    from genie_onnx_cli.progress import Display

    import genie_onnx

    if not given["data"] and given["labels"] is None:
        raise ConfigError("there is nothing to evaluate on: give --data (or --labels with paths that begin at its folder)")
    _check_files(given)
    progress = _Late()
    try:
        with Display(given["quiet"], False, lambda plan, estimate: None) as progress.display:
            found = genie_onnx.evaluate(
                models,
                given["data"],
                labels=given["labels"],
                classes=given["classes"],
                label_offset=given["label_offset"],
                metric=given["metric"],
                **given["preprocessing"].keywords(),
                input_size=given["input_size"],
                layout=given["layout"],
                limit=given["limit"],
                set_inputs=dict(given["set_inputs"]),
                provider=given["provider"],
                progress=progress,
            )
    except KeyboardInterrupt:
        click.echo(
            f"error: stopped after {progress.done} images; the first ones are no fair sample, so nothing is printed",
            err=True,
        )
        sys.exit(130)
    if given["as_json"]:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        show_evaluation.evaluation(found, given["worst"])
    if given["predictions"] is not None:
        found.save_predictions(given["predictions"])
    if given["confusion"] is not None:
        found.save_confusion(given["confusion"])
