"""What a run tells while it goes: where it stands, and what only turned up on the way.

    check, statistics, images, judges, save, grids, of each block targets, weights, learn and carry, export

The first and the last step of each part are told, and at most two a second in between.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

SECONDS = 0.5  # between two steps of one part

Stage = Literal["check", "statistics", "images", "judges", "save", "grids", "targets", "weights", "learn", "carry", "export"]


@dataclass(frozen=True, kw_only=True)
class Step:
    """`iteration` of `iterations` are done in part `index` of `count` of a stage. A part of a single iteration is not counted.

    check        the imported network is compared with onnxruntime
    statistics   what images are to have is found out; an iteration is an image that it is measured on
    images       images are made; a part is a batch, an iteration an optimiser step (procedural: one part, an iteration an image)
    judges       procedural images are made to judge the result on; an iteration is an image
    save         the images are written
    grids        the step sizes of activations are searched; iterations are images, then grids
    targets      the teacher's outputs of a block; an iteration is an image
    weights      the step sizes of a block's weights are searched; an iteration is a weight
    learn        a block is optimised; parts are the blocks that learn something, an iteration is an optimiser step
    carry        the quantised block's outputs; an iteration is an image
    export       the file is made and verified; an iteration is a check of it
    """

    stage: Stage
    index: int = 0  # 0 .. count - 1
    count: int = 1
    iteration: int = 0  # 0 .. iterations
    iterations: int = 1
    loss: float | None = None  # images: Eq. 5; learn: the block's reconstruction error
    name: str = ""  # of the block


class Tally:
    """Tells of the countable iterations of one part, at the pace that the module says."""

    def __init__(self, progress: Callable[[Step], None], start: Step) -> None:
        """`start`: the part, at iteration 0. It is told at once."""
        self._progress, self._start = progress, start
        self._told = time.monotonic()
        progress(start)

    def __call__(self, done: int) -> None:
        """`done` iterations are made by now."""
        now = time.monotonic()
        if done == self._start.iterations or now - self._told >= SECONDS:
            self._told = now
            self._progress(replace(self._start, iteration=done))


@dataclass(frozen=True)
class Notice:
    """Something that a user should know and that only turned up during the run: one sentence, also kept in the report."""

    text: str
