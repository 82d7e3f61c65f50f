"""Which files that today's exporters write are taken: exported, inspected and quantized, one row a file.

    python benchmarks/exporters.py FOLDER [--only PATTERN...] [--python PYTHON] [--results FILE] [--keep]

FOLDER is the user's, outside the repository: environments of 1 to 6 GB are built there one after another, each deleted once its
exporter has written its files, which stay (exporters_build.py says where; about 1 GB). pip is called as it is set up: where a
CPU build of torch is to be had, PIP_EXTRA_INDEX_URL saves gigabytes.

Every step is kept as soon as it is done: after Ctrl-C the same command goes on. What is there already is not done again: with
another --results file, `inspect` and `quantize` alone run again over all files, for instance with newer code.
benchmarks/EXPORTERS.md is written at the end. --only 'timm/*' chooses files by exporter and network.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
import time
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import onnxruntime
import torch
from exporters_build import export, failure, file, place
from exporters_recipes import RECIPES, Net, Recipe
from exporters_table import summary, write
from exporters_try import tried

HERE = Path(__file__).parent
ROWS = [(recipe, net) for recipe in RECIPES for net in recipe.nets]


def main() -> None:
    options = arguments()
    options.folder = options.folder.resolve()
    options.folder.mkdir(parents=True, exist_ok=True)
    results = options.results or options.folder / "results.jsonl"
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # both end what runs, too
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        export_all(options)
        try_all(options, results)
    except KeyboardInterrupt:
        print("\nstopped; the same command goes on from here", file=sys.stderr)
    found = read(results)
    ordered = [found[name(*row)] for row in ROWS if name(*row) in found]
    write(ordered, options.table, machine(), waiting=len(ROWS) - len(ordered))
    print(summary(Counter(str(result["status"]) for result in ordered)))


def arguments() -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="environments while needed, files, logs, results")
    parser.add_argument("--only", nargs="+", metavar="PATTERN", default=["*"], help="EXPORTER/NET, with wildcards")
    parser.add_argument("--python", default=sys.executable, help="builds the environments; flax wants 3.12. Default: this one")
    parser.add_argument("--keep", action="store_true", help="keep environments and what quantize wrote")
    parser.add_argument("--results", type=Path, help="JSON lines; default: FOLDER/results.jsonl")
    parser.add_argument("--seconds", type=float, default=900, help="for each command")
    parser.add_argument("--memory", type=float, default=8, metavar="GB", help="for each command")
    parser.add_argument("--table", type=Path, default=HERE / "EXPORTERS.md", help="the Markdown file to write")
    return parser.parse_args()


def name(recipe: Recipe, net: Net) -> str:
    """EXPORTER/NET."""
    return f"{recipe.name}/{net.name}"


def chosen(recipe: Recipe, patterns: list[str]) -> list[Net]:
    """Return the networks of a recipe that --only names."""
    return [net for net in recipe.nets if any(fnmatch(name(recipe, net), pattern) for pattern in patterns)]


def export_all(options: argparse.Namespace) -> None:
    """Write the files that are neither there nor known to fail."""
    for recipe in RECIPES:
        nets = [n for n in chosen(recipe, options.only) if not place(options.folder, recipe, n).exists()]
        if nets:
            print(f"exporting {recipe.name}: {', '.join(net.name for net in nets)}", flush=True)
            export(options.folder, recipe, nets, options.python, options.keep)


def try_all(options: argparse.Namespace, results: Path) -> None:
    """Try the files that have no result yet, and append each result as soon as it is known."""
    done = read(results)
    for recipe in RECIPES:
        for net in chosen(recipe, options.only):
            if name(recipe, net) in done:
                continue
            model = file(options.folder, recipe, net)
            result: dict[str, Any] = {"recipe": recipe.name, "net": net.name, "refusal": net.refusal}
            if model is None:
                result |= {"status": "absent", "message": failure(options.folder, recipe, net)}
            else:
                runs = options.folder / "runs" / recipe.name / net.name
                result |= tried(model, net, runs, options.seconds, int(options.memory * 2**30), options.keep)
            with results.open("a", encoding="utf-8") as lines:
                lines.write(json.dumps(result) + "\n")
            print(f"{result['status']:8}{name(recipe, net)}  {result['message']}"[:300], flush=True)


def read(results: Path) -> dict[str, dict[str, Any]]:
    """Return the results by name; a line that an interruption cut off does not count."""
    found = {}
    for line in results.read_text(encoding="utf-8").splitlines() if results.exists() else []:
        if line.endswith("}"):
            result = json.loads(line)
            found[f"{result['recipe']}/{result['net']}"] = result
    return found


def machine() -> str:
    """Return what the figures were measured on."""
    return (
        f"{time.strftime('%Y-%m-%d')}, {platform.machine()} with {os.cpu_count()} shared cores, one thread, torch "
        f"{torch.__version__}, onnxruntime {onnxruntime.__version__}"
    )


if __name__ == "__main__":
    main()
