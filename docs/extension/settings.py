"""The directive `settings`: the fields of a dataclass as a table, with the comment that stands behind each in the source.

{settings} genie_onnx.PlacementConfig        ->  field | type | default | meaning
"""

from __future__ import annotations

import ast
import dataclasses
import importlib
import inspect
import io
import tokenize
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class Settings(SphinxDirective):
    """Puts what a class says of itself, and the table of its fields, where it stands."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the paragraphs and the table."""
        home, _, name = self.arguments[0].rpartition(".")
        return self.parse_text_to_nodes(described(getattr(importlib.import_module(home), name)))


def described(cls: type) -> str:
    """Return Markdown: the docstring of the dataclass `cls`, and a row for each of its fields."""
    comments, types = field_comments(inspect.getsource(cls)), get_type_hints(cls)
    lines = [inspect.cleandoc(cls.__doc__ or ""), "", "| field | type | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(cls):
        cells = [f"`{field.name}`", f"`{shown(types[field.name])}`", default(field), comments.get(field.name, "")]
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def field_comments(source: str) -> dict[str, str]:
    """Return the comment behind each field of the class in `source` that has one."""
    lines = {line: node.target.id for node in _fields(source) for line in range(node.lineno, node.end_lineno + 1)}
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("# ") for token in tokens if token.type == tokenize.COMMENT}
    return {lines[line]: comment for line, comment in comments.items() if line in lines}


def shown(annotation: Any) -> str:
    """Return a type as one would write it, with all values of a Literal."""
    if annotation is type(None):
        return "None"
    if get_origin(annotation) is Literal:
        return " | ".join(map(repr, get_args(annotation)))
    if get_origin(annotation) in (Union, UnionType):
        return " | ".join(map(shown, get_args(annotation)))
    return annotation.__name__ if isinstance(annotation, type) and not get_args(annotation) else str(annotation)


def default(field: dataclasses.Field[Any]) -> str:
    """Return the default of `field` as code, nothing where it has none."""
    if field.default is not dataclasses.MISSING:
        shown = repr(field.default)
        return f"`{shown}`" if len(shown) < 40 else ""
    if field.default_factory is not dataclasses.MISSING:
        return f"`{getattr(field.default_factory, '__name__', '')}()`"
    return ""


def _fields(source: str) -> list[Any]:
    (cls,) = ast.parse(source).body
    assert isinstance(cls, ast.ClassDef)
    return [node for node in cls.body if isinstance(node, ast.AnnAssign)]


def setup(app: Sphinx) -> dict[str, bool]:
    """Make the directive known."""
    app.add_directive("settings", Settings)
    return {"parallel_read_safe": True}
