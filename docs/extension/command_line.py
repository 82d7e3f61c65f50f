"""The directive `command-line`: the reference of every command, from click's own description of it.

One section a command: its help, its usage, and its options in their groups. What `--help` says, this says.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import click
from docutils import nodes
from genie_onnx_cli.groups import Command
from genie_onnx_cli.main import main
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

PROGRAM = "genie-onnx"
BACKSPACE = "\b"  # click leaves the lines of a paragraph as they are behind it


class CommandLine(SphinxDirective):
    """Puts the reference of all commands where it stands."""

    def run(self) -> list[nodes.Node]:
        """Return a section for each command."""
        text = "\n".join(line for name, command in main.commands.items() for line in section(name, command))
        return self.parse_text_to_nodes(text, allow_section_headings=True)


def section(name: str, command: click.Command) -> Iterator[str]:
    """Yield Markdown: the command's help with its examples, its usage, and its options by group."""
    context = click.Context(command, info_name=f"{PROGRAM} {name}")
    yield f"## {name}\n"
    yield from paragraphs(inspect.cleandoc(command.help or ""))
    yield f"```text\n{command.get_usage(context).removeprefix('Usage: ')}\n```\n"
    assert isinstance(command, Command)
    for heading, options in command.groups(context).items():
        yield f"**{heading}**\n"
        for option in options:
            yield entry(option, context)


def paragraphs(text: str) -> Iterator[str]:
    r"""Yield the paragraphs of a help text; one that begins with \b has commands, which are shown as they are."""
    for paragraph in text.split("\n\n"):
        if paragraph.startswith(BACKSPACE):
            yield f"```text\n{paragraph.removeprefix(BACKSPACE).strip()}\n```\n"
        else:
            yield " ".join(paragraph.split()) + "\n"


def entry(option: click.Option, context: click.Context) -> str:
    """Return what describes `option`: its names and what it takes, then its meaning, range and default."""
    names = "`, `".join([*option.opts, *option.secondary_opts])
    taken = "" if option.is_flag else f" {option.make_metavar(context)}"
    meaning, _, noted = (option.help or "").partition("[default: ")
    extra: dict[str, Any] = dict(option.get_help_extra(context))
    default = noted.rstrip("]") or extra.get("default", "")
    notes = [f"default: {default}"] if default else []
    notes += [extra["range"]] if "range" in extra else []
    notes += ["required"] if option.required else []
    notes += ["may be repeated"] if option.multiple and "several times" not in meaning else []
    return f"`{names}{taken}`\n: {meaning.strip()}" + (f" *({'; '.join(notes)})*" if notes else "") + "\n"


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("command-line", CommandLine)
    return {"parallel_read_safe": True}
