"""Mutated files and random graphs by the hundred, each in a process with limits: no traceback, no signal, no hang.

    cd tests && python -m property.fuzz FOLDER [--files 1000] [--graphs 300]

File n is mutations.write(n); graph n is one of newer_structures.newer_models, the same every time on one version of hypothesis.
Every result is appended to FOLDER/fuzz.jsonl as it comes, and the same command goes on from there after an interruption. A file
that ends as none may stays in FOLDER; the exit code is then 1.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import asdict
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings
from property.apart import Outcome, attempt
from property.mutations import write
from property.newer_structures import newer_models
from property.strategies import RandomModel

SECONDS = 30  # of the processor, for one file
MEGABYTES = 4096
GRAPH = "random graph"
FORBIDDEN = ("broken", "crashed", "hung")


def problem_of(found: Outcome, sound: bool) -> str:
    """Return what is wrong with an outcome; empty if nothing is. A sound file must not fail, either: that is a false alarm."""
    if found.outcome in FORBIDDEN or (sound and found.outcome == "failed"):
        return f"{found.outcome}: {found.text}"
    if found.seconds > SECONDS:
        return f"took {found.seconds:.0f} s"
    if found.peak_mb > MEGABYTES:
        return f"took {found.peak_mb:.0f} MB"
    return "" if found.text.strip() else f"{found.outcome} without a word"


def graphs(count: int) -> list[RandomModel]:
    """Return `count` random models."""
    made: list[RandomModel] = []
    if not count:
        return made

    @seed(0)
    @settings(max_examples=count, database=None, deadline=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    @given(newer_models())
    def collect(model: RandomModel) -> None:
        made.append(model)

    collect()
    return made[:count]


def cases(files: int, count: int, folder: Path, done: Collection[str] = ()) -> Iterator[tuple[str, Path, str]]:
    """Yield (name, path, what it is) of every file that is not in `done`, written when it is asked for."""
    models = [] if all(f"graph-{number}" in done for number in range(count)) else graphs(count)
    for name in (*(f"file-{number}" for number in range(files)), *(f"graph-{number}" for number in range(count))):
        if name in done:
            continue
        place, number = folder / name, int(name.split("-")[1])
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()
        if name.startswith("file"):
            path, what = write(number, place)
        else:
            path, what = place / "model.onnx", GRAPH
            path.write_bytes(models[number].proto.SerializeToString())
        yield name, path, what


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--files", type=int, default=1000, help="mutated files")
    parser.add_argument("--graphs", type=int, default=300, help="random graphs")
    options = parser.parse_args()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    results = folder / "fuzz.jsonl"
    lines = results.read_text(encoding="utf-8").splitlines() if results.exists() else []
    done = {entry["name"]: entry for entry in map(json.loads, lines)}
    for name, path, what in cases(options.files, options.graphs, folder, tuple(done)):
        found = attempt(path)
        problem = problem_of(found, sound=name.startswith("graph"))
        done[name] = {"name": name, "what": what, "problem": problem, **asdict(found)}
        with results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(done[name]) + "\n")
        if problem:
            print(f"{name} ({what}) {problem}\n", flush=True)
        else:
            shutil.rmtree(path.parent)
    for kind in ("file", "graph"):
        chosen = [entry for entry in done.values() if entry["name"].startswith(kind)]
        print(f"{len(chosen)} {kind}s:", dict(Counter(entry["outcome"] for entry in chosen)))
    sentences = (entry["text"] for entry in done.values() if entry["what"] == GRAPH and entry["outcome"] == "refused")
    for sentence, count in Counter(re.sub(r"'[^']*'|\d+", "_", text) for text in sentences).most_common():
        print(f"sound, but refused, {count}: {sentence[:200]}")
    wrong = [entry["name"] for entry in done.values() if entry["problem"]]
    print(f"{len(wrong)} ended as none may: {' '.join(wrong)}" if wrong else "none ended as none may")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
