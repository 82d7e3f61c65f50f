"""Who may import whom: one row a room, read from the source, imports inside functions included.

The rows stand in the order of the house, ground floor first: a room imports from rows before its own alone, so there are no
circles.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ONNX = frozenset({"onnx", "onnx_ir", "onnxscript", "onnx2torch"})
RUNTIME = frozenset({"onnxruntime"})
TORCH = frozenset({"torch", "torchvision", "onnx2torch"})
CLICK = frozenset({"click"})
THIRD = ONNX | RUNTIME | TORCH | CLICK


@dataclass(frozen=True)
class Row:
    """The rooms of genie_onnx that a room imports, and the packages of others that it must not."""

    may: str
    never: frozenset[str]

    @property
    def rooms(self) -> frozenset[str]:
        return frozenset(self.may.split())


TABLE = {
    # leaves: single files, which any room may read
    "errors": Row("", THIRD),
    "seeds": Row("", ONNX | RUNTIME | CLICK),
    "qparams": Row("", THIRD),
    "targets": Row("", THIRD),
    "tools": Row("", THIRD),
    "framing": Row("errors", THIRD),
    "spellings": Row("", THIRD),
    "preprocessing": Row("framing", THIRD),
    "requirements": Row("errors", THIRD),
    "config": Row("errors targets framing spellings preprocessing", THIRD),
    "effort": Row("config", THIRD),
    "events": Row("errors", THIRD),
    "machine": Row("errors config effort", ONNX | RUNTIME | CLICK),
    "graph": Row("errors framing", TORCH | RUNTIME | CLICK),
    "placement": Row("errors targets config graph", TORCH | RUNTIME | CLICK),
    "blocks": Row("graph", TORCH | RUNTIME | CLICK),
    "forms": Row("machine", ONNX | RUNTIME | CLICK),
    "importer": Row("errors framing graph forms", RUNTIME | CLICK),
    "data": Row("errors framing preprocessing", ONNX | RUNTIME | CLICK),
    "quant": Row("targets machine", ONNX | RUNTIME | CLICK),
    "closed_form": Row("targets quant", ONNX | RUNTIME | CLICK),
    "synthesis": Row("errors seeds config events machine forms importer", ONNX | RUNTIME | CLICK),
    "reconstruct": Row(
        "errors seeds qparams targets config events machine placement blocks importer quant closed_form", ONNX | RUNTIME | CLICK
    ),
    "exporter": Row("errors qparams targets machine graph placement", TORCH | RUNTIME | CLICK),
    "validate": Row("errors qparams targets requirements graph", TORCH | CLICK),
    "report": Row("events", TORCH | ONNX | RUNTIME | CLICK),
    "run": Row("errors spellings config events machine placement reconstruct report", TORCH | ONNX | RUNTIME | CLICK),
    "preparation": Row("errors targets framing config machine graph placement blocks forms importer validate", RUNTIME | CLICK),
    "images": Row(
        "errors seeds framing preprocessing config events machine graph data synthesis validate run preparation",
        RUNTIME | CLICK,
    ),
    "grids": Row(
        "errors seeds targets config events machine graph placement importer quant closed_form "
        "reconstruct run preparation images",
        RUNTIME | CLICK,
    ),
    "bits": Row(
        "errors qparams targets config effort events machine graph placement synthesis reconstruct run preparation images",
        ONNX | RUNTIME | CLICK,
    ),
    "delivery": Row(
        "errors qparams targets framing spellings preprocessing requirements events machine graph placement data reconstruct "
        "exporter validate preparation images grids",
        RUNTIME | CLICK,
    ),
    "comparison": Row(
        "errors targets framing spellings preprocessing config effort events graph placement blocks data validate images grids",
        TORCH | RUNTIME | CLICK,
    ),
    "evaluation": Row(
        "errors framing spellings preprocessing events machine graph data validate", ONNX | RUNTIME | TORCH | CLICK
    ),
    "pipeline": Row(
        "errors seeds targets framing requirements config events machine graph placement blocks forms "
        "importer data quant synthesis reconstruct exporter validate report run preparation images grids "
        "bits delivery comparison",
        RUNTIME | CLICK,
    ),
    "environment": Row("targets config machine forms validate pipeline", CLICK),
}
DOORS = {
    "__init__": Row(
        "bits comparison config delivery effort environment errors evaluation events framing machine pipeline "
        "preparation preprocessing report requirements run targets tools validate",
        THIRD,
    ),
    "__main__": Row("", THIRD),  # the door to genie_onnx_cli, which no other module may open
    "cli": Row("__init__ config effort errors framing preprocessing", ONNX | RUNTIME | TORCH),
}
ROWS = TABLE | DOORS


def module_of(file: Path) -> str:
    """Return the row of a source file: its room or leaf of genie_onnx, or cli."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    return parts[0] if parts[0] == "cli" else parts[1]


def imported(file: Path) -> set[str]:
    """Return the dotted names that a source file imports anywhere; `from a import b` gives a.b, always absolute."""
    package = file.relative_to(ROOT).with_suffix("").parts[:-1]
    names: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else ()
            origin = ".".join([*base, *([node.module] if node.module else [])])
            names |= {f"{origin}.{alias.name}" for alias in node.names}
    return names


def broken(file: Path, rows: dict[str, Row], known: frozenset[str]) -> list[str]:
    """Return a sentence for every import of `file` that its row does not admit."""
    module = module_of(file)
    found: list[str] = []
    for name in sorted(imported(file)):
        first, *rest = name.split(".")
        if first == "genie_onnx":
            # `from genie_onnx import quantize` takes a public name, `from genie_onnx import data` a module
            target = rest[0] if rest and rest[0] in known else "__init__"
            if target != module and target not in rows[module].rooms:
                found.append(f"{file.relative_to(ROOT)} imports {name}")
        elif first in rows[module].never or (first in ("genie_onnx_cli", "cli") and module not in ("cli", "__main__")):
            found.append(f"{file.relative_to(ROOT)} imports {name}")
    return found


SOURCES = sorted([*ROOT.glob("genie_onnx/**/*.py"), *ROOT.glob("cli/**/*.py")])
MODULES = frozenset(map(module_of, SOURCES))
KNOWN = MODULES | frozenset(ROWS)


def test_every_room_has_a_row() -> None:
    assert set(ROWS) == MODULES


@pytest.mark.parametrize("module", sorted(ROWS))
def test_imports_follow_the_table(module: str) -> None:
    files = [file for file in SOURCES if module_of(file) == module]
    assert [sentence for file in files for sentence in broken(file, ROWS, KNOWN)] == []


def upwards(table: dict[str, Row]) -> list[str]:
    """Return a sentence for every room that a row names although it does not stand above that row."""
    order = list(table)
    return [
        f"{room} reads {other}, which comes after it"
        for room in order
        for other in sorted(table[room].rooms - set(order[: order.index(room)]))
    ]


def test_no_import_runs_upwards() -> None:
    assert upwards(TABLE) == []


def test_an_import_upwards_and_a_circle_are_found() -> None:
    table = {"low": Row("high", THIRD), "high": Row("low", THIRD)}
    assert upwards(table) == ["low reads high, which comes after it"]


def test_no_row_admits_what_nobody_imports() -> None:
    read: dict[str, set[str]] = {module: set() for module in ROWS}
    for file in SOURCES:
        for name in imported(file):
            first, *rest = name.split(".")
            if first == "genie_onnx":
                read[module_of(file)].add(rest[0] if rest and rest[0] in KNOWN else "__init__")
    assert {module: sorted(row.rooms - read[module]) for module, row in ROWS.items() if row.rooms - read[module]} == {}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("import torch", "torch"),
        ("def f():\n    from torch import nn", "torch.nn"),
        ("from genie_onnx.exporter import export", "genie_onnx.exporter.export"),
        ("from genie_onnx import exporter", "genie_onnx.exporter"),
        ("from ..exporter import export", "genie_onnx.exporter.export"),
        ("from genie_onnx import quantize", "genie_onnx.quantize"),
        ("import genie_onnx_cli.main", "genie_onnx_cli.main"),
    ],
)
def test_a_wrong_import_is_found(source: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "genie_onnx" / "validate" / "wrong.py"
    file.parent.mkdir(parents=True)
    file.write_text(source)
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    assert broken(file, ROWS, KNOWN) == [f"genie_onnx/validate/wrong.py imports {name}"]
