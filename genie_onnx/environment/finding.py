"""One thing that was found out about this machine: a sentence, how bad it is, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "note", "problem"]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """`level`: ok, note (everything works, something could be better or should be known) or problem (runs fail)."""

    level: Level
    topic: str  # packages, python, cpu, ...
    text: str
    todo: str = ""  # what to do about it; empty where there is nothing to do


def ok(topic: str, text: str) -> Finding:
    """Return a finding that all is well."""
    return Finding(level="ok", topic=topic, text=text)


def note(topic: str, text: str, todo: str = "") -> Finding:
    """Return a finding that should be known."""
    return Finding(level="note", topic=topic, text=text, todo=todo)


def problem(topic: str, text: str, todo: str) -> Finding:
    """Return a finding for which runs fail."""
    return Finding(level="problem", topic=topic, text=text, todo=todo)
