"""Commands whose help has its options under headings, in the order in which the command names them.

@command()
@under(MAIN, options.wbits, options.data)
@under(RUNNING, options.quiet)
def quantize(...)
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

MAIN = "Main options"
MODEL = "The model"
ROUNDED = "What is rounded, and to how many bits"
CHOSEN = "Bits chosen for a goal"
IMAGES = "Images"
PREPROCESSING = "How pictures become the model's input"
EFFORT = "Effort"
FILE = "The file, and what it must reach"
WRITTEN = "What is printed and written"
RUNNING = "Running"
ABLATIONS = "Ablations, and settings of the paper"


class Option(click.Option):
    """An option that stands under a heading in the help of its command."""

    heading = ""


option = functools.partial(click.option, cls=Option)


def under(heading: str, *decorators: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds the options of `decorators` under `heading`, the first one shown first."""

    def decorate(function: F) -> F:
        for add in reversed(decorators):
            function = add(function)
        for parameter in getattr(function, "__click_params__", ()):  # where click keeps them until there is a command
            if isinstance(parameter, Option) and not parameter.heading:
                parameter.heading = heading
        return function

    return decorate


class Command(click.Command):
    """A command that shows its options in groups."""

    def groups(self, ctx: click.Context) -> dict[str, list[click.Option]]:
        """Return all options that are shown, by heading; --help is one of those that say how the command runs."""
        found: dict[str, list[click.Option]] = {}
        for parameter in self.get_params(ctx):
            if isinstance(parameter, click.Option) and not parameter.hidden:
                heading = parameter.heading if isinstance(parameter, Option) else RUNNING
                found.setdefault(heading, []).append(parameter)
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group."""
        for heading, options in self.groups(ctx).items():
            with formatter.section(heading):
                formatter.write_dl([record for option in options if (record := option.get_help_record(ctx)) is not None])


command = functools.partial(click.command, cls=Command)
