"""How losses fell during a run: written line by line as steps tell them, read again as one curve a batch of images and a block.

    {"stage": "learn", "index": 3, "name": "/layer1/conv1/Conv", "iteration": 200, "loss": 0.0123}

Lines are added at the end, so that a run which goes on after a kill goes on here too. A part that was begun again, since nothing
of it was saved, begins again at a smaller iteration: what the first attempt told of it is dropped when the file is read.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

from genie_onnx.events import Stage, Step


@dataclass(frozen=True)
class Curve:
    """The losses told of part `index` of a stage, the iterations increasing."""

    stage: Stage  # images or learn: the others have no loss
    index: int
    name: str  # of the block; "" for a batch of images
    points: tuple[tuple[int, float], ...]  # (iterations done, loss)


def record(step: Step, path: Path) -> None:
    """Add `step` to the file `path`, where it has a loss. Raises OSError."""
    if step.loss is None:
        return
    entry = {name: getattr(step, name) for name in ("stage", "index", "name", "iteration", "loss")}
    # The line break comes first: a line that a power failure cut short spoils no other.
    with path.open("a", encoding="utf-8") as file:
        file.write("\n" + json.dumps(entry))


def read_history(path: Path) -> list[Curve]:
    """Return what `record` wrote to `path`, in the order in which parts began; nothing where there is no file.

    Lines that are not whole are left out.
    """
    found: dict[tuple[Stage, int], tuple[str, list[tuple[int, float]]]] = {}
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n") if path.is_file() else []
    for line in lines:
        try:
            entry = json.loads(line)
            key = (entry["stage"], int(entry["index"]))
            point = (int(entry["iteration"]), float(entry["loss"]))
            name = str(entry["name"])
        except (ValueError, KeyError, TypeError):
            continue
        if not math.isfinite(point[1]):
            continue
        _, points = found.setdefault(key, (name, []))
        if points and point[0] <= points[-1][0]:
            points.clear()
        points.append(point)
    return [Curve(stage, index, name, tuple(points)) for (stage, index), (name, points) in found.items()]
