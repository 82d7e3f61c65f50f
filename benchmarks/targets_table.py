"""targets.jsonl -> TARGETS.md: our files in the tools that they are for, held against the file node by node.

    python benchmarks/targets_table.py

A line of targets.jsonl is one file in one tool; a later line of the same target, tool, model and bits replaces an earlier one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
FIELDS = {  # of a line -> its type
    "target": str,
    "tool": str,
    "version": str,
    "model": str,
    "bits": str,
    "images": int,
    "agreement": float,
    "largest_error": float,
    "codes_exact": bool,
    "integer_operators": str,
    "size_bytes": int,
    "convert_s": float,
    "peak_mib": float,
    "date": str,
}
UNKNOWN = frozenset({"codes_exact", "integer_operators", "convert_s", "peak_mib"})  # may be null: not looked at
OPTIONAL = frozenset({"problem"})  # what the tool said instead of an answer; null where it gave one
_CODES = {True: "exact", False: "**other**", None: "-"}
HEADINGS = (
    "target",
    "tool",
    "model",
    "bits",
    "images",
    "agreement",
    "largest error",
    "codes",
    "integer operators",
    "kB",
    "s",
    "MiB",
    "date",
)
PREAMBLE = """# Targets: our files in the tools that they are for

Written by `python benchmarks/targets_table.py` from `targets.jsonl`, a line a file.
Each tool's own output is held against the file computed node by node, which every run proves to be what was simulated.

- **agreement**: share of images with the same class; **largest error**: of the outputs, as a share of their range;
- **codes**: whether the tool has the codes of every weight (AIMET: every encoding) as we wrote them;
- **integer operators**: as the tool counts them, or what it read;
- **kB**: of the file that the tool runs; **s**, **MiB**: what its conversion took on one core of a busy machine.
"""


def read(lines: Iterable[str]) -> list[dict[str, Any]]:
    """Return the rows that `lines` of JSON hold, the last of each kind. Raises ValueError for what is no row."""
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    for number, line in enumerate(lines, start=1):
        row = json.loads(line)
        if row.keys() - OPTIONAL != FIELDS.keys():
            raise ValueError(
                f"line {number} lacks {sorted(FIELDS.keys() - row.keys())} or has {sorted(row.keys() - FIELDS.keys() - OPTIONAL)}"
            )
        rows[tuple(row[key] for key in ("target", "tool", "model", "bits"))] = row
    return list(rows.values())


def rendered(rows: Iterable[Mapping[str, Any]]) -> str:
    """Return the table of `rows` in Markdown, with what its columns mean."""
    head = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    return "\n".join([PREAMBLE, *head, *map(_line, rows)]) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    cells = [
        f"`{row['target']}`",
        f"{row['tool']} {row['version']}",
        row["model"],
        row["bits"],
        row["images"],
        row.get("problem") or f"{100 * row['agreement']:.1f} %",
        "-" if row["largest_error"] is None else "0" if not row["largest_error"] else f"{100 * row['largest_error']:.2g} %",
        _CODES[row["codes_exact"]],
        row["integer_operators"],
        "-" if row["size_bytes"] is None else f"{row['size_bytes'] / 1000:.1f}",
        row["convert_s"],
        row["peak_mib"],
        row["date"],
    ]
    return "| " + " | ".join("-" if cell is None else str(cell).replace("|", "\\|") for cell in cells) + " |"


def main() -> None:
    with (HERE / "targets.jsonl").open(encoding="utf-8") as lines:
        rows = read(lines)
    (HERE / "TARGETS.md").write_text(rendered(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
