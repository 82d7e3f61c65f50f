"""Which models are read, quantized and verified: one row a model, each in a process of its own.

    python benchmarks/coverage.py [PATTERN...] [--bench FOLDER] [--cache FOLDER] [--packages FOLDER]

PATTERN chooses rows by name, e.g. 'torchvision/resnet*/dynamo*' or 'own/*'. Models are made into the cache folder, and every
result is appended to results.jsonl there as soon as it is known: a run that was interrupted goes on, and what is there already
is not done again without --again. At the end benchmarks/COVERAGE.md is written from all results.

torchvision's rows need torchvision, and the dynamo exporter onnxscript; both may be in a folder of their own, given with
--packages (pip install --no-deps --target FOLDER torchvision onnxscript), and rows without them are left out with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections import Counter
from fnmatch import fnmatch
from itertools import groupby
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from coverage_build import build_all, path
from coverage_judge import judge
from coverage_process import run_apart
from coverage_rows import Row, all_rows
from coverage_table import read, summary, write

HERE = Path(__file__).parent
IMPORT_TOLERANCE = 1e-3  # of the largest magnitude of a value: sums in another order, amplified by random networks
MAX_MB = 4096.0


def main() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"  # of the processes that the rows run in, as is the path
    os.environ["PYTHONPATH"] = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = arguments()
    rows = [r for r in all_rows(options.bench) if not options.rows or any(fnmatch(r.name, p) for p in options.rows)]
    options.cache.mkdir(parents=True, exist_ok=True)
    results = options.cache / "results.jsonl"
    done = read(results)
    for _, group in groupby(rows, key=lambda row: (row.source, row.net)):
        waiting = [row for row in group if options.again or row.name not in done]
        if not waiting:
            continue
        absent = build(waiting, options)
        for row in waiting:
            result = {"name": row.name, "source": row.source, "net": row.net, "way": row.way}
            result |= {"status": "absent", "message": absent[row.way]} if row.way in absent else judged(row, options)
            with results.open("a", encoding="utf-8") as file:
                file.write(json.dumps(result) + "\n")
            print(f"{result['status']:8}{row.name}  {result.get('message', '')}"[:400], flush=True)
    found = read(results)
    everything = all_rows(options.bench)
    ordered = [found[row.name] for row in everything if row.name in found]
    write(ordered, options.table, machine(), waiting=len(everything) - len(ordered))
    print(summary(Counter(str(result["status"]) for result in ordered)))


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="PATTERN", help="rows by name; default: all")
    parser.add_argument("--bench", type=Path, help="folder with zoo/*.onnx; default: its rows are left out")
    parser.add_argument("--cache", type=Path, default=Path(tempfile.gettempdir()) / "genie-onnx-coverage", help="models, results")
    parser.add_argument("--packages", type=Path, help="folder with torchvision and onnxscript")
    parser.add_argument("--again", action="store_true", help="judge rows again that have a result")
    parser.add_argument("--limit", type=float, default=900, help="seconds for a row")
    parser.add_argument("--table", type=Path, default=HERE / "COVERAGE.md", help="the Markdown file to write")
    return parser.parse_args()


def build(rows: list[Row], options: argparse.Namespace) -> dict[str, str]:
    """Make the files of one network and return {way: why it cannot be had}."""
    made = [row for row in rows if row.file is None]
    if not made:
        return {}
    first, ways = made[0], [row.way for row in made]
    arguments = (options.cache, options.packages, first.source, first.net, first.size, ways)
    outcome = run_apart(build_all, arguments, 2 * options.limit)
    absent = {report["way"]: report["absent"] for report in outcome.reports}
    for row in made:
        if not path(options.cache, row.source, row.net, row.way).exists():
            absent.setdefault(row.way, f"the exporter's process failed: {outcome.failure}")
    return absent


def judged(row: Row, options: argparse.Namespace) -> dict[str, Any]:
    """Judge one file and return its findings with a status, and a message where that is not green."""
    model = row.file or path(options.cache, row.source, row.net, row.way)
    outcome = run_apart(judge, (model, row.open_size, row.raw_pixels, row.few_shot), options.limit)
    result: dict[str, Any] = {"wall_seconds": outcome.seconds}
    for report in outcome.reports:
        result |= report
    stage = result.pop("stage", "nothing")
    if stage == "refused":
        status, message = "refused", " / ".join(result.pop("problems"))
    elif outcome.failure is not None:
        status, message = "red", f"after {stage}: {outcome.failure}"
    elif result["import_error"] > IMPORT_TOLERANCE:
        status, message = "red", f"value {result['worst_value']} differs by {result['import_error']:.1e}"
    elif result["mb"] > MAX_MB:
        status, message = "red", f"{result['mb']:.0f} MB"
    else:
        status, message = "green", ""
    return result | {"status": status, "message": message}


def machine() -> str:
    """Return what the figures were measured on."""
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()} with {os.cpu_count()} shared cores, one thread, torch "
        f"{torch.__version__}, onnxruntime {onnxruntime.__version__}"
    )


if __name__ == "__main__":
    main()
