"""How good the estimate before a run was, and the time left during it: read from the JSON lines of finished runs.

    genie-onnx quantize model.onnx --log-json 2> run.jsonl
    python benchmarks/time_left.py run.jsonl ...

Errors are shares of what was true: +20 % is a fifth too long. Steps are told when they are made, so the time left at 25 % is that
of the last step before.
"""

from __future__ import annotations

import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

MOMENTS = (0.10, 0.25, 0.50, 0.75)


def errors(events: list[dict[str, Any]]) -> list[float]:
    """Return the error of the estimate, and of the time left at each of MOMENTS. Raises ValueError for an unfinished run."""
    if not events or (events[0]["stage"], events[-1]["stage"]) != ("plan", "done"):
        raise ValueError("these are not the JSON lines of a finished run")
    whole = events[-1]["time"]
    found = [events[0]["seconds_left"] / whole - 1]
    for moment in MOMENTS:
        last = [event for event in events if event["time"] <= moment * whole][-1]
        found.append((last["seconds_left"] - moment * whole + last["time"]) / (whole - moment * whole) - 1)
    return found


def longest_silence(events: list[dict[str, Any]]) -> float:
    """Return the most seconds between two events."""
    return float(max(after["time"] - before["time"] for before, after in pairwise(events)))


def main() -> None:
    """Print one row a file."""
    print(f"{'run':24s} seconds  silence  estimate" + "".join(f"  at {moment:4.0%}" for moment in MOMENTS))
    for file in map(Path, sys.argv[1:]):
        events = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("{")]
        cells = "".join(f"  {error:+7.0%}" for error in errors(events))
        print(f"{file.stem:24s} {events[-1]['time']:7.0f}  {longest_silence(events):7.1f} {cells}")


if __name__ == "__main__":
    main()
