"""Results of coverage.py as a Markdown table."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Result = Mapping[str, Any]
HEADINGS = (
    "model",
    "exported",
    "opset",
    "input",
    "BN kept",
    "values: worst error",
    "blocks",
    "structure",
    "images",
    "QDQ codes off",
    "integer layers",
    "import s / MB",
    "quantize s / MB",
    "verdict",
)
PREAMBLE = """# Coverage: which models are read, quantized and verified

Written by `python benchmarks/coverage.py`. Every row is a file that went through a process of its own:

- **values**: every value of the graph (as the file has it, normalised, and with BatchNorm folded), the imported network against
  onnxruntime at batch 1 and 4: how many, and the largest relative error of any;
- **structure**: blocks by kind (core: with a fork and a join; gated: squeeze-excite; chain; float: without weights); +n: with
  several inputs;
- **images**: what it was calibrated on, two images and one iteration each of distillation and of reconstruction a block, W4A4;
- **QDQ codes off**: share of all codes that the written file, run by onnxruntime layer by layer, computes other than simulated;
- **integer layers**: weighted layers that onnxruntime runs in integer kernels at default options;
- seconds and peak MB of the process up to a network that can run, and at the end (the comparison of values included).

green: all of this held. refused: the message that the user gets. A row stands as it was judged, maybe by earlier code, until it
is judged again. Sizes are small where the network allows it, because the
table is about what works. Random weights, but for the zoo's.
"""


def write(results: Sequence[Result], file: Path, machine: str, waiting: int) -> None:
    """Write the table of `results` to `file`; `waiting` rows have no result yet."""
    counts = Counter(str(r["status"]) for r in results)
    later = f"; {waiting} rows were not run yet" if waiting else ""
    lines = [
        PREAMBLE,
        f"{machine}.\n",
        f"{summary(counts)}{later}.\n",
        "| " + " | ".join(HEADINGS) + " |",
        "|" + "---|" * len(HEADINGS),
    ]
    lines += ["| " + " | ".join(cells(r)) + " |" for r in results if r["status"] in ("green", "red")]
    for status, title in (("red", "Red rows"), ("refused", "Refused"), ("absent", "Not made")):
        chosen = [r for r in results if r["status"] == status]
        if chosen:
            lines += [f"\n## {title}\n", "| model | message |", "|---|---|"]
            lines += [f"| {r['name']} | {escape(str(r['message']))} |" for r in chosen]
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def summary(counts: Mapping[str, int]) -> str:
    """Return the counts of rows as a sentence."""
    return ", ".join(f"{counts[status]} {status}" for status in ("green", "refused", "red", "absent") if counts.get(status))


def cells(result: Result) -> list[str]:
    """Return one row; a stage that was not reached leaves its cells empty."""

    def cell(template: str, *fields: str) -> str:
        return template.format(*(result[f] for f in fields)) if all(f in result for f in fields) else ""

    kinds = " ".join(f"{n} {kind}" for kind, n in result.get("kinds", {}).items())
    joining = f" +{result['joining']}" if result.get("joining") else ""
    return [
        f"{result['source']}/{result['net']}",
        str(result["way"]),
        cell("{}", "opset"),
        f"{result['batch']}x{'x'.join(map(str, result['shape']))}" if "shape" in result else "",
        cell("{}", "batchnorms"),
        cell("{}: {:.0e}", "values", "import_error"),
        cell("{}", "blocks"),
        kinds + joining,
        cell("{}", "images"),
        cell("{:.0e}", "flip_rate"),
        cell("{} of {}", "integer_layers", "layers"),
        cell("{:.1f} / {:.0f}", "import_seconds", "import_mb"),
        cell("{:.0f} / {:.0f}", "seconds", "mb"),
        str(result["status"]),
    ]


def escape(text: str) -> str:
    """Return `text` fit for a cell."""
    return " ".join(text.split()).replace("|", "\\|")


def read(file: Path) -> dict[str, Result]:
    """Return the results in a file of JSON lines by row name; of several the last."""
    if not file.exists():
        return {}
    lines = file.read_text(encoding="utf-8").splitlines()
    return {result["name"]: result for result in map(json.loads, lines)}
