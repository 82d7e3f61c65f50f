"""Docstrings in this project hold tables as plain text, a name and its meaning on a line; they are shown as they are.

name         meaning                     ->  a literal block
other name   meaning, and more of it
             on a second line
"""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

ROW = re.compile(r"\S+ {2,}\S")


def keep_tables(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Make a literal block of each paragraph of `lines` that is a table."""
    paragraphs = "\n".join(lines).split("\n\n")
    lines[:] = "\n\n".join("::\n\n    " + p.replace("\n", "\n    ") if ROW.match(p) else p for p in paragraphs).split("\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Have docstrings read before they are parsed."""
    app.connect("autodoc-process-docstring", keep_tables)
    return {"parallel_read_safe": True}
