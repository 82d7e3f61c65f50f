"""What a run tells while it goes: where it stands, and what only turned up on the way.

    check, kernels, statistics, images, judges, save, selections, bits, grids, of each block targets, weights, learn and carry,
    last-pass, export, values (for the HTML report)

The first and the last step of each part are told, and at most two a second in between. Every function with `progress` keeps this
contract:

    called     in the thread of the call, at the pace above; what is not interrupted is one step, or one pass of a batch
               through the network, however long it takes
    raising    what the callback raises ends the call at once and comes out of it. Finished batches of images and finished blocks
               are on the disk: the same call goes on from there, to the identical file
    cancelling `cancellable` makes a callback that raises as soon as another thread, or a GUI, asks for it
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

from genie_onnx.errors import CancelledError

SECONDS = 0.5  # between two steps of one part

E = TypeVar("E")

Stage = Literal[
    "check",
    "kernels",
    "statistics",
    "images",
    "judges",
    "save",
    "selections",
    "bits",
    "equalise",
    "grids",
    "targets",
    "weights",
    "learn",
    "carry",
    "last-pass",
    "export",
    "reference",
    "runtimes",
    "evaluate",
    "values",
    "effects",
]


@dataclass(frozen=True, kw_only=True)
class Step:
    """`iteration` of `iterations` are done in part `index` of `count` of a stage. A part of a single iteration is not counted.

    check        the imported network is compared with onnxruntime
    kernels      convolutions are tried and timed in several forms; an iteration is a form of one, and time may end it early
    statistics   what images are to have is found out; an iteration is an image to measure on, or a trial of what the input may be
    images       images are made; a part is a batch, an iteration an optimiser step (procedural: one part, an iteration an image)
    judges       procedural images are made to judge the result on; an iteration is an image
    save         the images are written
    selections   what a Slice, Split or Gather passes on is looked at: does a grid of its own pay; an iteration is an image
    bits         the bits of each block are chosen; a part is a width that all blocks are tried at, an iteration a block; in
                 the next part all of that is measured, and in the last one values are; an iteration is an image
    equalise     the ranges of channels are measured; an iteration is an image
    grids        the step sizes of activations are searched; iterations are images, then grids
    targets      the teacher's outputs of a block; an iteration is an image
    weights      the step sizes of a block's weights are searched; an iteration is a weight
    learn        a block is optimised; parts are the blocks that learn something, an iteration is an optimiser step
    carry        the quantised block's outputs; an iteration is an image
    last-pass    scales, steps and biases of the whole network are learned, where that is asked for; an iteration is a step
    export       the file is made and verified; an iteration is a check of it
    reference    `verify`: the file is computed node by node; an iteration is a batch
    runtimes     `verify`: a part is a runtime, `name` its name; told again while it runs
    evaluate     samples go through the models; an iteration is a sample
    values       `compare`: every value of both models; an iteration is an image
    effects      `compare`: blocks are switched on and off; an iteration is a run of a batch
    """

    stage: Stage
    index: int = 0  # 0 .. count - 1
    count: int = 1
    iteration: int = 0  # 0 .. iterations
    iterations: int = 1
    loss: float | None = None  # images: Eq. 5; learn: the block's reconstruction error
    name: str = ""  # of the block, or the runtime


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


def cancellable(asked: Callable[[], bool], progress: Callable[[E], None] = lambda event: None) -> Callable[[E], None]:
    """Return a callback for `progress=` that raises CancelledError once `asked()` is true; until then it is `progress`.

    Args:
        asked: is asked whenever there is progress, in the thread of the call; a `threading.Event` has one: `event.is_set`.
        progress: what is told of each event.

    In a team the first process asks; the others end with it.

    >>> import threading
    >>> stop = threading.Event()
    >>> tell = cancellable(stop.is_set, print)
    >>> tell("half of it")                # quantize(model, progress=tell) calls this, in a thread
    half of it
    >>> stop.set()                        # a button, in another thread
    >>> tell("a bit more")
    Traceback (most recent call last):
    genie_onnx.errors.CancelledError: cancelled: the same call goes on from the last finished step
    """

    def tell(event: E) -> None:
        if asked():
            raise CancelledError("cancelled: the same call goes on from the last finished step")
        progress(event)

    return tell
