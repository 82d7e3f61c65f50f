"""Who may import whom: one row a module, read from the source, imports inside functions included."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LEAVES = frozenset(
    {
        "atomic",
        "config",
        "errors",
        "events",
        "framing",
        "memory",
        "seeds",
        "qparams",
        "requirements",
        "targets",
        "team",
        "user_cache",
    }
)
ONNX = frozenset({"onnx", "onnx_ir", "onnxscript", "onnx2torch"})
RUNTIME = frozenset({"onnxruntime"})
TORCH = frozenset({"torch", "torchvision", "onnx2torch"})
CLICK = frozenset({"click"})
THIRD = ONNX | RUNTIME | TORCH | CLICK


@dataclass(frozen=True)
class Row:
    """Modules of genie_onnx that may be imported, and packages of others that may not."""

    may: frozenset[str]
    never: frozenset[str]


CORE = frozenset(
    {"graph", "placement", "blocks", "importer", "data", "synthesis", "quant", "closed_form", "reconstruct", "exporter"}
    | {"validate", "report"}
)
TABLE = {
    "config": Row(frozenset({"errors", "framing", "targets"}), THIRD),
    "framing": Row(frozenset({"errors"}), THIRD),
    "targets": Row(frozenset(), THIRD),
    "errors": Row(frozenset(), THIRD),
    "user_cache": Row(frozenset(), THIRD),
    "qparams": Row(frozenset({"errors"}), THIRD),
    "seeds": Row(frozenset(), ONNX | RUNTIME | CLICK),
    "team": Row(frozenset({"errors", "memory"}), ONNX | RUNTIME | CLICK),
    "graph": Row(LEAVES, TORCH | RUNTIME | CLICK),
    "placement": Row(LEAVES | {"graph"}, TORCH | RUNTIME | CLICK),
    "blocks": Row(LEAVES | {"graph"}, TORCH | RUNTIME | CLICK),
    "forms": Row(LEAVES, ONNX | RUNTIME | CLICK),
    "form_choice": Row(LEAVES | {"choice", "compute", "forms", "importer", "prepare", "rundir"}, ONNX | RUNTIME | CLICK),
    "watchdog": Row(frozenset({"errors"}), THIRD),
    "importer": Row(LEAVES | {"forms", "graph"}, RUNTIME | CLICK),
    "data": Row(LEAVES, ONNX | RUNTIME | CLICK),
    "quant": Row(LEAVES, ONNX | RUNTIME | CLICK),
    "closed_form": Row(LEAVES | {"quant"}, ONNX | RUNTIME | CLICK),
    "synthesis": Row(LEAVES | {"forms", "watchdog", "importer", "compute", "stopwatch", "footprint"}, ONNX | RUNTIME | CLICK),
    "reconstruct": Row(
        LEAVES | {"watchdog", "quant", "closed_form", "blocks", "placement", "importer", "compute", "stopwatch", "footprint"},
        ONNX | RUNTIME | CLICK,
    ),
    "exporter": Row(LEAVES | {"graph", "placement"}, TORCH | RUNTIME | CLICK),
    "validate": Row(LEAVES | {"graph", "data"}, TORCH | CLICK),
    "report": Row(LEAVES | {"validate", "history"}, TORCH | ONNX | RUNTIME | CLICK),
    # The steps of the pipeline, and the other things that can be asked for: they join the parts above
    "prepare": Row(LEAVES | {"forms", "graph", "placement", "blocks", "importer", "validate"}, RUNTIME | CLICK),
    "atomic": Row(frozenset(), THIRD),
    "events": Row(frozenset({"errors"}), THIRD),
    "differences": Row(frozenset(), THIRD),
    "history": Row(frozenset({"events"}), THIRD),
    "rundir": Row(LEAVES | {"differences", "report"}, THIRD),
    "run_status": Row(LEAVES | {"report", "rundir"}, THIRD),
    "saved_blocks": Row(LEAVES | {"placement", "reconstruct", "report", "rundir"}, ONNX | RUNTIME | TORCH | CLICK),
    "device": Row(LEAVES, ONNX | RUNTIME | CLICK),
    "compute": Row(LEAVES | {"device"}, ONNX | RUNTIME | CLICK),
    "footprint": Row(frozenset(), ONNX | RUNTIME | CLICK),
    "stopwatch": Row(frozenset({"compute"}), ONNX | RUNTIME | CLICK),
    "time_left": Row(frozenset({"events"}), THIRD),
    "planning": Row(
        LEAVES
        | {
            "bit_budget",
            "bn_file",
            "choice",
            "compute",
            "data",
            "delivery",
            "exporter",
            "placement",
            "prepare",
            "reconstruct",
            "rundir",
            "validate",
        },
        ONNX | RUNTIME | TORCH | CLICK,
    ),
    "estimation": Row(
        LEAVES
        | {
            "form_choice",
            "bit_budget",
            "bit_choice",
            "calibration",
            "choice",
            "synthesis",
            "importer",
            "planning",
            "quant",
            "reconstruct",
            "rundir",
            "stopwatch",
            "team",
        }
        | {"time_left"},
        ONNX | RUNTIME | CLICK,
    ),
    "memory": Row(frozenset({"errors"}), THIRD),
    "allocation": Row(frozenset(), THIRD),
    "bit_budget": Row(LEAVES | {"graph", "placement", "prepare", "reconstruct", "sizes"}, THIRD),
    "bit_plan": Row(LEAVES | {"placement", "prepare"}, THIRD),
    "own_grids": Row(LEAVES | {"placement", "prepare"}, THIRD),
    "own_grid_choice": Row(
        LEAVES
        | {
            "kept_images",
            "compute",
            "join_choice",
            "own_grids",
            "placement",
            "prepare",
            "rundir",
            "value_samples",
            "wide_choice",
        },
        THIRD,
    ),
    "wide_choice": Row(
        LEAVES
        | {
            "kept_images",
            "compute",
            "equalisation",
            "graph",
            "importer",
            "own_grids",
            "placement",
            "prepare",
            "reconstruct",
            "value_samples",
        },
        ONNX | RUNTIME | CLICK,
    ),
    "join_choice": Row(
        LEAVES | {"kept_images", "compute", "equalisation", "graph", "own_grids", "placement", "prepare", "value_samples"}, THIRD
    ),
    "value_samples": Row(LEAVES | {"compute", "placement", "prepare", "quant", "reconstruct"}, ONNX | RUNTIME | CLICK),
    "bit_choice": Row(
        LEAVES
        | {"allocation", "bit_budget", "bit_plan", "kept_images", "compute", "graph", "placement", "prepare", "reconstruct"}
        | {"rundir", "synthesis", "value_choice"},
        ONNX | RUNTIME | CLICK,
    ),
    "value_choice": Row(
        LEAVES
        | {"allocation", "bit_budget", "bit_plan", "kept_images", "compute", "placement", "prepare", "qparams", "reconstruct"},
        ONNX | RUNTIME | CLICK,
    ),
    "bn_file": Row(LEAVES | {"graph", "prepare"}, ONNX | RUNTIME | CLICK),
    "likely_input": Row(LEAVES | {"data", "prepare", "synthesis"}, ONNX | RUNTIME | CLICK),
    "choice": Row(LEAVES | {"data", "synthesis", "graph", "likely_input", "prepare"}, THIRD),
    "kept_images": Row(LEAVES | {"choice", "quality", "rundir", "synthesis"}, ONNX | RUNTIME | CLICK),
    "calibration": Row(
        LEAVES | {"compute", "graph", "data", "synthesis", "prepare", "rundir", "choice", "kept_images", "likely_input"},
        ONNX | RUNTIME | CLICK,
    ),
    "equalisation": Row(LEAVES | {"graph", "prepare"}, TORCH | RUNTIME | CLICK),
    "equalisation_choice": Row(
        LEAVES | {"closed_form", "compute", "equalisation", "graph", "importer", "prepare", "rundir"}, ONNX | RUNTIME | CLICK
    ),
    "last_pass_choice": Row(
        LEAVES | {"bit_choice", "compute", "importer", "prepare", "reconstruct", "rundir"}, ONNX | RUNTIME | CLICK
    ),
    "twins": Row(
        LEAVES | {"calibration", "choice", "compute", "graph", "importer", "prepare", "reconstruct"}, ONNX | RUNTIME | CLICK
    ),
    "requirements": Row(frozenset({"errors"}), THIRD),
    "quality": Row(LEAVES | {"validate"}, THIRD),
    "judge": Row(LEAVES | {"graph", "kept_images", "quality", "reconstruct", "validate", "prepare", "choice"}, RUNTIME | CLICK),
    "fitting": Row(LEAVES | {"placement", "reconstruct"}, ONNX | RUNTIME | CLICK),
    "reexport": Row(
        LEAVES
        | {
            "data",
            "bit_plan",
            "own_grids",
            "placement",
            "reconstruct",
            "report",
            "kept_images",
            "delivery",
            "equalisation",
            "fitting",
            "last_pass_choice",
            "memory",
            "pipeline",
            "prepare",
            "quality",
            "result",
        }
        | {"rundir"},
        ONNX | RUNTIME | TORCH | CLICK,
    ),
    "reporting": Row(
        LEAVES
        | {"blocks", "comparison", "data", "history", "prepare", "reconstruct", "report", "rundir", "synthesis", "validate"},
        ONNX | RUNTIME | TORCH | CLICK,
    ),
    "sizes": Row(LEAVES | {"graph"}, TORCH | RUNTIME | CLICK),
    "scale_floor": Row(LEAVES | {"graph", "placement", "qparams", "reconstruct"}, TORCH | RUNTIME | CLICK),
    "bias_room": Row(LEAVES | {"graph", "placement", "qparams", "reconstruct"}, TORCH | RUNTIME | CLICK),
    "delivery": Row(
        LEAVES
        | {
            "bias_room",
            "scale_floor",
            "equalisation",
            "exporter",
            "graph",
            "validate",
            "reconstruct",
            "prepare",
            "kept_images",
            "quality",
            "judge",
            "sizes",
        },
        RUNTIME | CLICK,
    ),
    "result": Row(LEAVES | {"delivery", "quality", "report", "rundir"}, THIRD),
    "pipeline": Row(
        LEAVES
        | CORE
        | {
            "bit_choice",
            "own_grid_choice",
            "bit_plan",
            "prepare",
            "planning",
            "rundir",
            "saved_blocks",
            "compute",
            "calibration",
            "kept_images",
            "delivery",
            "equalisation_choice",
            "form_choice",
            "last_pass_choice",
            "history",
            "quality",
            "reporting",
            "result",
            "twins",
        },
        RUNTIME | CLICK,
    ),
    "accuracy": Row(LEAVES | {"data", "device", "evaluation", "subjects", "validate"}, ONNX | RUNTIME | TORCH | CLICK),
    "evaluation": Row(frozenset({"atomic", "validate"}), ONNX | RUNTIME | TORCH | CLICK),
    "subjects": Row(LEAVES | {"graph", "validate"}, ONNX | RUNTIME | TORCH | CLICK),
    "distillation": Row(
        LEAVES
        | {"data", "prepare", "bn_file", "rundir", "compute", "choice", "calibration", "pipeline", "planning", "form_choice"},
        ONNX | RUNTIME | CLICK,
    ),
    "inspection": Row(
        LEAVES | {"data", "equalisation", "graph", "placement", "synthesis", "prepare", "bn_file", "choice", "sizes"},
        RUNTIME | TORCH | CLICK,
    ),
    "environment": Row(LEAVES | {"compute", "forms", "device", "pipeline", "validate"}, CLICK),
    "naming": Row(frozenset({"errors"}), TORCH | RUNTIME | CLICK),
    "requantize": Row(LEAVES, THIRD),
    "shared_grids": Row(LEAVES | {"graph", "placement"}, TORCH | RUNTIME | CLICK),
    "constant_fills": Row(LEAVES | {"graph", "placement"}, TORCH | RUNTIME | CLICK),
    "lost_codes": Row(LEAVES | {"constant_fills", "requantize", "shared_grids", "validate"}, THIRD),
    "diagnosis": Row(LEAVES | {"constant_fills", "lost_codes", "requantize", "shared_grids", "validate"}, THIRD),
    "trial_images": Row(LEAVES | {"data", "graph", "synthesis"}, RUNTIME | TORCH | CLICK),
    "comparison": Row(
        LEAVES
        | {
            "blocks",
            "constant_fills",
            "data",
            "diagnosis",
            "equalisation",
            "graph",
            "requantize",
            "shared_grids",
            "trial_images",
            "validate",
        },
        RUNTIME | TORCH | CLICK,
    ),
    "integrity": Row(frozenset({"validate"}), RUNTIME | TORCH | CLICK),
    "verification": Row(LEAVES | {"graph", "data", "integrity", "trial_images", "validate"}, RUNTIME | TORCH | CLICK),
    "__init__": Row(
        frozenset(
            {
                "config",
                "targets",
                "device",
                "estimation",
                "evaluation",
                "framing",
                "events",
                "errors",
                "report",
                "reporting",
                "pipeline",
                "planning",
                "quality",
                "requirements",
                "result",
                "environment",
                "naming",
                "accuracy",
                "distillation",
                "inspection",
                "reexport",
                "run_status",
                "team",
                "validate",
            }
            | {"bit_plan", "comparison", "verification", "time_left"}
        ),
        THIRD,
    ),
    "__main__": Row(frozenset(), THIRD),  # the door to genie_onnx_cli, which no other module may open
    "cli": Row(frozenset({"__init__", "config", "errors", "framing"}), ONNX | RUNTIME | TORCH),
}


def module_of(file: Path) -> str:
    """Return the row of a source file: its top-level module or subpackage of genie_onnx, or cli."""
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
            if target != module and target not in rows[module].may:
                found.append(f"{file.relative_to(ROOT)} imports {name}")
        elif first in rows[module].never or (first in ("genie_onnx_cli", "cli") and module not in ("cli", "__main__")):
            found.append(f"{file.relative_to(ROOT)} imports {name}")
    return found


SOURCES = sorted([*ROOT.glob("genie_onnx/**/*.py"), *ROOT.glob("cli/**/*.py")])
MODULES = frozenset(map(module_of, SOURCES))
KNOWN = MODULES | frozenset(TABLE)


def test_every_module_has_a_row() -> None:
    assert MODULES - set(TABLE) == set()


@pytest.mark.parametrize("module", sorted(MODULES & set(TABLE)))
def test_imports_follow_the_table(module: str) -> None:
    files = [file for file in SOURCES if module_of(file) == module]
    assert [sentence for file in files for sentence in broken(file, TABLE, KNOWN)] == []


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
    assert broken(file, TABLE, KNOWN) == [f"genie_onnx/validate/wrong.py imports {name}"]
