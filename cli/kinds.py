"""Kinds of values that options take, and how they are read."""

from __future__ import annotations

from typing import Any

import click


class Numbers(click.ParamType):
    """Numbers separated by commas: ``0.485,0.456,0.406`` -> (0.485, 0.456, 0.406)."""

    name = "numbers"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[float, ...]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        try:
            return tuple(float(part) for part in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of numbers such as 0.485,0.456,0.406", param, ctx)


class Size(click.ParamType):
    """Height and width: ``240x320`` -> (240, 320)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        height, _, width = str(value).lower().partition("x")
        if not (height.isdecimal() and width.isdecimal() and int(height) and int(width)):
            self.fail(f"{value!r} is not a size such as 240x320 (height x width)", param, ctx)
        return int(height), int(width)


class Lengths(click.ParamType):
    """One length of pixels, or height and width: ``256`` -> (256,), ``240x320`` -> (240, 320)."""

    name = "length"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        parts = str(value).lower().split("x")
        if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
            self.fail(f"{value!r} is neither a length such as 256 nor a size such as 240x320 (height x width)", param, ctx)
        return tuple(map(int, parts))


class InputValues(click.ParamType):
    """A name and numbers: ``scale=1,0.5`` -> ("scale", (1.0, 0.5))."""

    name = "input values"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, tuple[float, ...]]:
        """Parse `value`; a tuple is already parsed."""
        if isinstance(value, tuple):
            return value
        name, _, numbers = str(value).rpartition("=")
        if not name:
            self.fail(f"{value!r} is not NAME=VALUE[,VALUE...], such as scale=1", param, ctx)
        return name, Numbers().convert(numbers, param, ctx)


class Percent(click.ParamType):
    """A share in percent: ``95`` or ``95%`` -> 0.95."""

    name = "percent"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse `value`; a number is parsed already."""
        if isinstance(value, float):
            return value
        try:
            share = float(str(value).removesuffix("%")) / 100
        except ValueError:
            self.fail(f"{value!r} is not a share in percent such as 95", param, ctx)
        if not 0 <= share <= 1:
            self.fail(f"{value!r} is not between 0 and 100 percent", param, ctx)
        return share
