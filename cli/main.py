"""`genie-onnx`: the group of commands, and what becomes of errors.

exit code   0 done   1 the run failed   2 the input cannot be used   3 the file is useless, or not what was required
            130 stopped with Ctrl-C
"""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from genie_onnx_cli.compare import compare
from genie_onnx_cli.completion import completion
from genie_onnx_cli.distill import distill
from genie_onnx_cli.doctor import doctor
from genie_onnx_cli.evaluate import evaluate
from genie_onnx_cli.export import export
from genie_onnx_cli.inspect import inspect
from genie_onnx_cli.quantize import quantize
from genie_onnx_cli.report import report
from genie_onnx_cli.status import status
from genie_onnx_cli.targets import targets
from genie_onnx_cli.verify import verify

from genie_onnx.errors import GenieError, InputError, QualityError


class Commands(click.Group):
    """Prints errors as one line each, and lets only bugs keep their traceback."""

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run the command line and exit the process."""
        try:
            self._run(*args, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(2)
        except click.UsageError as error:
            hint = f" (see {error.ctx.command_path} --help)" if error.ctx else ""
            _fail(2, error.format_message() + hint)
        except InputError as error:
            _fail(2, *error.problems)
        except QualityError as error:
            _fail(3, str(error))
        except (GenieError, OSError) as error:
            _fail(1, str(error))
        except (KeyboardInterrupt, click.Abort):
            _fail(130, "stopped; nothing unfinished was written. The same command goes on from the last finished step")
        sys.exit(0)

    def _run(self, *args: Any, **extra: Any) -> None:
        """Run the command line; of several processes that torchrun started, the first that fails says why, the others nothing."""
        try:
            super().main(*args, **{**extra, "standalone_mode": False})
        except (Exception, KeyboardInterrupt):
            if "WORLD_SIZE" in os.environ and not _speaks():
                sys.exit(1)
            raise


def _speaks() -> bool:
    from genie_onnx import first_to_fail

    return first_to_fail()


def _fail(code: int, *lines: str) -> None:
    for line in lines:
        click.echo(f"error: {' '.join(line.split())}", err=True)
    sys.exit(code)


def _print_versions(ctx: click.Context, param: click.Parameter, asked: bool) -> None:
    if not asked or ctx.resilient_parsing:
        return
    from genie_onnx import versions

    found = versions()
    click.echo(f"genie-onnx {found.pop('genie-onnx')}")
    for name, version in found.items():
        click.echo(f"  {name:12}{version}")
    ctx.exit()


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--version",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_print_versions,
    help="Show the version, and those of the libraries that decide the numbers.",
)
def main() -> None:
    """Quantize float ONNX CNNs to a few bits: without data, or with a handful of images.

    \b
    genie-onnx inspect model.onnx                           what is in it, what would be done
    genie-onnx quantize model.onnx --wbits 4 --abits 4      -> model.quant.onnx, verified in onnxruntime
    genie-onnx status model.quant.genie                     how far a run is, how to go on
    genie-onnx report model.quant.genie                     report.html once more
    genie-onnx export model.quant.genie --target int4       the same codes for another compiler
    genie-onnx evaluate model.onnx model.quant.onnx --data val/
    genie-onnx compare model.onnx model.quant.onnx          which layer is bad, and what to try
    genie-onnx verify model.quant.onnx --float model.onnx   in every runtime that is installed
    genie-onnx doctor                                       is this machine ready
    """


for _command in (quantize, status, report, export, targets, distill, inspect, evaluate, compare, verify, doctor, completion):
    main.add_command(_command)
