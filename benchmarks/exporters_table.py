"""Results of exporters.py as a Markdown table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from exporters_recipes import RECIPES
from exporters_try import SETTINGS

Result = Mapping[str, Any]
HEADINGS = (
    "exporter",
    "net",
    "opset / IR",
    "input",
    "BN",
    "operators of note",
    "inspect",
    "quantize",
    "s wall / CPU",
    "MB",
    "integer / layers",
    "codes off: own layer, in all",
    "interface",
    "verdict",
)
PREAMBLE = f"""# Exporters: which files of today are taken

Written by `python benchmarks/exporters.py FOLDER`. Every file was tried as a new user would: `genie-onnx inspect FILE`, then
`genie-onnx quantize FILE {SETTINGS}`, each in a process with limits of time and memory.
Inputs have 48 to 224 pixels, the weights are random, and BatchNorm's statistics are those of noise (Keras: drawn); only the files
that come with packages (`packaged`) are trained. At such settings figures of quality mean nothing and are left out, and exit
code 3 (the result is of no use) counts as taken.

- **inspect, quantize**: exit codes, or the signal;
- **integer / layers**: layers that onnxruntime runs in integer kernels;
- **codes off**: share of all codes that the written file, run by onnxruntime, computes other than simulated: each layer on the
  simulated values before it, and the file as a whole;
- **interface**: names, types and declared shapes of inputs and outputs against the float file.

taken: all of this held. refused: rightly, for the file is no float CNN; with the message that the user gets. red: not yet right.
"""


def write(results: Sequence[Result], table: Path, machine: str, waiting: int) -> None:
    """Write the table of `results`; `waiting` files have no result yet."""
    counts = Counter(str(r["status"]) for r in results)
    later = f"; {waiting} files were not tried yet" if waiting else ""
    lines = [PREAMBLE, f"{machine}.\n", f"{len(results)} files: {summary(counts)}{later}.\n", *_rows(HEADINGS)]
    lines += [_row(cells(r)) for r in results if r["status"] in ("taken", "red")]
    for status, title in (("red", "Not yet right"), ("refused", "Refused, rightly"), ("absent", "Not exported")):
        chosen = [r for r in results if r["status"] == status]
        if chosen:
            lines += [f"\n## {title}\n", *_rows(("file", "why", "message") if status == "refused" else ("file", "message"))]
            lines += [
                _row([f"{r['recipe']}/{r['net']}", *([r["refusal"]] if status == "refused" else []), str(r["message"])])
                for r in chosen
            ]
    lines += ["\n## Packages\n", *_rows(("exporter", "packages"))]
    lines += [_row([recipe.name, ", ".join(recipe.packages)]) for recipe in RECIPES]
    table.write_text("\n".join(lines) + "\n", encoding="utf-8")


def summary(counts: Mapping[str, int]) -> str:
    """Return the counts of files as a sentence."""
    names = {"taken": "taken", "refused": "refused rightly", "red": "red", "absent": "not exported"}
    return ", ".join(f"{counts[status]} {name}" for status, name in names.items() if counts.get(status))


def cells(result: Result) -> list[str]:
    """Return one row; a stage that was not reached leaves its cells empty."""

    def cell(template: str, *fields: str) -> str:
        return template.format(*(result[f] for f in fields)) if all(f in result for f in fields) else ""

    external = f"{result['external']} tensors outside; " if result.get("external") else ""
    return [
        str(result["recipe"]),
        str(result["net"]),
        cell("{} / {}", "opset", "ir"),
        cell("{}", "input"),
        cell("{}", "batchnorms"),
        external + cell("{}", "operators"),
        cell("{}", "inspect"),
        cell("{}", "quantize"),
        cell("{:.0f} / {:.0f}", "wall", "cpu"),
        cell("{:.0f}", "mb"),
        cell("{} / {}", "integer", "layers"),
        cell("{:.0e}, {:.0e}", "flips", "whole_flips"),
        cell("{}", "interface"),
        str(result["status"]),
    ]


def _rows(headings: Sequence[str]) -> list[str]:
    return [_row(headings), "|" + "---|" * len(headings)]


def _row(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|").replace("\n", " ") for text in texts) + " |"
