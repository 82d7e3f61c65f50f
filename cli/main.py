"""`genie-onnx`: the group of commands, and what becomes of errors.

exit code   0 done   1 the run failed   2 the input cannot be used   3 the file is useless, or not what was required
            130 stopped with Ctrl-C
"""

from __future__ import annotations

import difflib
import os
import shlex
import sys
from pathlib import Path
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

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with. Raises UsageError with what was probably meant."""
        if not ctx.resilient_parsing and args[0] not in self.commands:
            ctx.fail(self._meant(*args))
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read what stands before the command. Raises UsageError for options, which all stand behind it."""
        try:
            return super().parse_args(ctx, args)
        except click.NoSuchOption as error:
            owners = [name for name, command in self.commands.items() if error.option_name in _options(command)]
            if not owners:
                raise
            text = f"{error.option_name} stands behind the command that it is for: {', '.join(owners)}"
            raise click.UsageError(text, ctx) from error

    def _meant(self, word: str, *others: str) -> str:
        """Say what to type in place of a command line that begins with `word`, which is no command."""
        if _is_model(word):
            usual = "compare" if any(map(_is_model, others)) else "quantize"
            name = next((other for other in others if other in self.commands), usual)
            words = [name, word, *(other for other in others if other != name)]
            return f"which command? It stands first, for instance: genie-onnx {shlex.join(words)}"
        if Path(word).is_dir():
            return f"which command? If {word} is a run directory: genie-onnx status {shlex.quote(word)}"
        near = difflib.get_close_matches(word, self.commands, n=1)
        known = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(self.commands))}"
        return f"there is no command {word!r}: {known}"

    def _run(self, *args: Any, **extra: Any) -> None:
        """Run the command line; of several processes that torchrun started, the first that fails says why, the others nothing."""
        try:
            super().main(*args, **{**extra, "standalone_mode": False})
        except (Exception, KeyboardInterrupt):
            if "WORLD_SIZE" in os.environ and not _speaks():
                sys.exit(1)
            raise


def _is_model(word: str) -> bool:
    return word.lower().endswith(".onnx")


def _options(command: click.Command) -> set[str]:
    """Return the names of all options of `command`."""
    return {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}


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
    genie-onnx inspect model.onnx                    what would be done with it
    genie-onnx quantize model.onnx                   -> model.quant.onnx, verified
    genie-onnx status model.quant.genie              how far a run is
    genie-onnx evaluate model.onnx model.quant.onnx --data val/
    genie-onnx compare model.onnx model.quant.onnx   which layers cost most
    genie-onnx export model.quant.genie --target int4
    genie-onnx verify model.quant.onnx --float model.onnx
    genie-onnx doctor                                is this machine ready
    """


for _command in (quantize, status, report, export, targets, distill, inspect, evaluate, compare, verify, doctor, completion):
    main.add_command(_command)
