"""`genie-onnx doctor`: is this machine ready, and what does a run take on it?"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from shutil import get_terminal_size

import click
from genie_onnx_cli import options

from genie_onnx import TOOLS, Finding
from genie_onnx.errors import RunError

COLOURS = {"ok": "green", "note": "yellow", "problem": "red"}
INDENT = 23  # columns of level and topic


@click.command(short_help="Is this machine ready?")
@click.option(
    "--targets", "of_targets", is_flag=True, help="Instead: the tools that read our files, and the commands that get each."
)
@click.option("--smoke/--no-smoke", default=True, show_default=True, help="At last, quantize a tiny model: some seconds.")
@options.quiet
@options.as_json
def doctor(of_targets: bool, smoke: bool, quiet: bool, as_json: bool) -> None:
    """Look at this installation and machine: packages, CPU, memory, GPU, runtimes; what is wrong comes with what to do.

    Each part is looked at in a Python of its own, so a broken library is a finding. The exit code is 1 where there is a problem.

    \b
    genie-onnx doctor
    genie-onnx doctor --no-smoke --json
    genie-onnx doctor --targets
    """
    import genie_onnx

    if of_targets:
        tools(as_json)
        return

    def tell(topic: str) -> None:
        if not quiet:
            click.echo(f"{topic} ...", err=True)

    found = genie_onnx.doctor(smoke=smoke, progress=tell)
    if as_json:
        click.echo(json.dumps([asdict(finding) for finding in found], indent=2))
    else:
        show(found)
    problems = sum(finding.level == "problem" for finding in found)
    if problems:
        raise RunError(f"{problems} problem{'s' if problems > 1 else ''} found: runs are likely to fail until mended")


def tools(as_json: bool) -> None:
    """Print a row for each tool that reads our files: its target, the version seen, the one installed here, how to get it."""
    from genie_onnx_cli.show import console, table

    rows = [{**asdict(tool), "command": tool.command, "installed": _installed(tool.package)} for tool in TOOLS.values()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    found = table("tool", "target", "seen in", "here")
    for column in found.columns:
        column.justify = "left"
    for row in rows:
        found.add_row(row["name"], row["command"] or "none", row["version"] or "-", row["installed"] or "-")
    console.print(found)
    console.print("\nto get them (an environment of its own is named to verify by --python NAME=env-NAME/bin/python):")
    for row in rows:
        if row["install"]:
            console.print(f"  {row['name']:12} {row['install']}")


def _installed(package: str) -> str | None:
    """Return the version of a package in this environment."""
    names = (package, f"{package}-gpu") if package == "onnxruntime" else (package,)
    for name in names if package else ():
        try:
            return metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return None


def show(found: Sequence[Finding]) -> None:
    """Print the findings, one below the other."""
    width = min(get_terminal_size().columns, 130)
    for finding in found:
        click.secho(f"{finding.level:9}", fg=COLOURS[finding.level], nl=False)
        lines = textwrap.wrap(finding.text, width - INDENT, break_on_hyphens=False)
        lines += [f"-> {finding.todo}"] if finding.todo else []  # in one line, to be copied
        click.echo(f"{finding.topic:14}" + f"\n{' ' * INDENT}".join(lines))
