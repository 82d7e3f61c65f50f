"""Names of earlier versions, understood for one release: keyword arguments, fields of the settings, and JSON that has these.

QuantizeConfig(input_mean=...) -> QuantizeConfig(mean=...), and a DeprecationWarning
{"input_mean": [0.5], ...}     -> {"mean": [0.5], ...}        of a run directory or a file, without one
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")
C = TypeVar("C", bound=type[Any])

SETTINGS = {"input_mean": "mean", "input_std": "std"}  # of QuantizeConfig; old name -> new name


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator for functions that take arguments under old names, too: `old="new"`. TypeError where both are given."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def accepting(*args: P.args, **given: P.kwargs) -> R:
            for old in names.keys() & given.keys():
                new = names[old]
                if new in given:
                    raise TypeError(f"{function.__name__}() has both {new!r} and {old!r}, its old name")
                _warn(old, new)
                given[new] = given.pop(old)
            return function(*args, **given)

        return accepting

    return decorate


def renamed_fields(**names: str) -> Callable[[C], C]:
    """Return a decorator for a frozen dataclass that takes and has fields under old names, too: `old="new"`."""

    def decorate(cls: C) -> C:
        made = cls.__init__

        @functools.wraps(made)
        def accepting(self: Any, **given: Any) -> None:
            for old in names.keys() & given.keys():
                _warn(old, names[old])
                given[names[old]] = given.pop(old)  # dataclasses.replace gives the new name as well, with the value of before
            made(self, **given)

        setattr(cls, "__init__", accepting)  # noqa: B010 - mypy refuses the assignment
        for old, new in names.items():
            setattr(cls, old, property(functools.partial(_read, old=old, new=new)))
        return cls

    return decorate


def up_to_date(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON form of a QuantizeConfig, of this or an earlier version, with the names that its fields have now."""
    return {SETTINGS.get(name, name): value for name, value in settings.items()}


def _read(instance: Any, *, old: str, new: str) -> Any:
    _warn(old, new)
    return getattr(instance, new)


def _warn(old: str, new: str) -> None:
    """Warn whoever called what calls this."""
    warnings.warn(f"{old} is now {new}; the old name goes with the next release", DeprecationWarning, stacklevel=3)
