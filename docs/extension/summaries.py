"""What each file of the repository says of itself: the first paragraph of its docstring, room by room, as Markdown.

A room is a folder with an `__init__.py`, which has its headline; the single files of a package stand before its rooms.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("genie_onnx", "cli")
SCRIPTS = ("benchmarks", "benchmarks/exporters", "examples")
CODE = re.compile(r"(`[^`]*`|(?<![\w-])--[a-z][a-z-]*)")  # an option is code, too: Sphinx would make one dash of its two
MARKS = re.compile(r"([\\*_$|<>\[\]])")  # what Markdown would read as something else


def listing(root: Path) -> Iterator[str]:
    """Yield the lines for the packages, with all of their rooms, and for the folders of scripts below `root`."""
    for package in PACKAGES:
        for init in sorted((root / package).rglob("__init__.py")):
            yield from section(root, init.parent, summary(init))
    for folder in SCRIPTS:
        yield from section(root, root / folder, "")


def section(root: Path, folder: Path, headline: str) -> Iterator[str]:
    """Yield a heading, `headline`, and an entry for each module of `folder`."""
    yield f"### `{folder.relative_to(root).as_posix()}/`\n\n{plain(headline)}\n"
    for file in sorted(folder.glob("*.py")):
        if file.name != "__init__.py":
            yield f"`{file.name}`\n: {plain(summary(file))}\n"


def summary(file: Path) -> str:
    """Return the first paragraph of the docstring of `file` as one line; raise ValueError where it has none."""
    docstring = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))
    if not docstring:
        raise ValueError(f"{file} does not say what it is: it has no docstring")
    return " ".join(docstring.partition("\n\n")[0].split())


def plain(text: str) -> str:
    """Return Markdown that shows `text` as it is, but for code between backticks."""
    parts = CODE.split(text)  # every second one is code
    parts[::2] = [MARKS.sub(r"\\\1", part) for part in parts[::2]]
    parts[1::2] = [f"`{part.strip('`')}`" for part in parts[1::2]]
    return "".join(parts)
