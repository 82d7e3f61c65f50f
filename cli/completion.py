"""`genie-onnx completion`: what makes a shell complete commands, options and their values."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class
from genie_onnx_cli.groups import command

PROGRAM, VARIABLE = "genie-onnx", "_GENIE_ONNX_COMPLETE"


@command(short_help="Make a shell complete commands and values.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes SHELL complete commands, options and values such as targets, and nodes of the model.

    Install it once, for every shell started from then on:

    \b
    genie-onnx completion bash >> ~/.bashrc        bash 4.4 or later
    genie-onnx completion zsh >> ~/.zshrc          behind compinit
    genie-onnx completion fish > ~/.config/fish/completions/genie-onnx.fish
    """
    described = get_completion_class(shell)
    assert described is not None
    click.echo(described(ctx.find_root().command, {}, PROGRAM, VARIABLE).source())
