"""The views of a run (progress): each is told that something happened, and asks `Following` what to show.

JSON lines have one event each, with these fields, null where there is nothing to say:

    time          seconds since the run began
    stage         "plan" first, then the stages of genie_onnx.Step, "done" last
    index, count  the part, from 0; name: of the block
    iteration, iterations, loss
    rate          iterations a second in this part
    seconds_left  until the whole run is finished
    notices       sentences that were not there before
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import IO, Protocol

from genie_onnx_cli.following import NAMES, Following, duration, words
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

PLAIN_SECONDS = 10.0  # between two plain lines of a stage


class View(Protocol):
    """What a display tells its view."""

    def start(self) -> None:
        """The model is being read."""

    def pause(self) -> None:
        """Something else writes to the terminal until `begin`."""

    def begin(self, notices: Sequence[str]) -> None:
        """The run begins, with these notices."""

    def step(self) -> None:
        """Another step is made."""

    def notice(self, text: str) -> None:
        """Something turned up."""

    def stop(self, finished: bool) -> None:
        """The run is over, well or not."""


class Nothing:
    """Shows nothing."""

    def start(self) -> None:
        """See View."""

    def pause(self) -> None:
        """See View."""

    def begin(self, notices: Sequence[str]) -> None:
        """See View."""

    def step(self) -> None:
        """See View."""

    def notice(self, text: str) -> None:
        """See View."""

    def stop(self, finished: bool) -> None:
        """See View."""


class JsonLines(Nothing):
    """One JSON object a line."""

    def __init__(self, file: IO[str], following: Following) -> None:
        self._file, self._following = file, following

    def begin(self, notices: Sequence[str]) -> None:
        """See View."""
        self._write("plan", notices)

    def step(self) -> None:
        """See View."""
        self._write()

    def notice(self, text: str) -> None:
        """See View."""
        self._write(notices=[text])

    def stop(self, finished: bool) -> None:
        """See View."""
        if finished:
            self._write("done")

    def _write(self, stage: str | None = None, notices: Sequence[str] = ()) -> None:
        step = self._following.step if stage is None else None
        left = 0.0 if stage == "done" else self._following.left
        event = {
            "time": round(self._following.elapsed, 3),
            "stage": stage if step is None else step.stage,
            **{key: getattr(step, key, None) for key in ("index", "count", "name", "iteration", "iterations", "loss")},
            "rate": None if step is None else self._following.rate,
            "seconds_left": None if left is None else round(left, 1),
            "notices": list(notices),
        }
        print(json.dumps(event), file=self._file, flush=True)


class PlainLines(Nothing):
    """A line when a stage begins, at its first loss, every PLAIN_SECONDS, and when it ends."""

    def __init__(self, console: Console, following: Following) -> None:
        self._console, self._following = console, following
        self._stage, self._printed, self._loss_seen = "", 0.0, False
        self._pending: str | None = None  # the last line, where it is not printed

    def step(self) -> None:
        """See View."""
        step = self._following.step
        assert step is not None
        begins = NAMES[step.stage] != self._stage
        if begins:
            self._flush()
            self._stage, self._loss_seen = NAMES[step.stage], False
        first_loss = step.loss is not None and not self._loss_seen
        self._loss_seen |= first_loss
        self._pending = self._line()
        if begins or first_loss or self._following.elapsed - self._printed >= PLAIN_SECONDS:
            self._flush()

    def notice(self, text: str) -> None:
        """See View."""
        self._flush()
        self._print(f"note: {text}")

    def stop(self, finished: bool) -> None:
        """See View."""
        self._flush()

    def _line(self) -> str:
        step, left = self._following.step, self._following.left
        assert step is not None
        clock = duration(self._following.elapsed) + ("" if left is None else f", about {duration(left)} left")
        return "  ".join(part for part in (NAMES[step.stage], words(step, self._following.rate), clock) if part)

    def _flush(self) -> None:
        if self._pending is not None:
            self._print(self._pending)
            self._pending, self._printed = None, self._following.elapsed

    def _print(self, line: str) -> None:
        self._console.print(line, soft_wrap=True)


class LiveView(Nothing):
    """Two lines that change in place, and are gone when the run is over."""

    def __init__(self, console: Console, following: Following) -> None:
        self._console, self._following = console, following
        # Standard output is not the live view's: it may be a file.
        self._live = Live(
            get_renderable=self._render, console=console, refresh_per_second=4, transient=True, redirect_stdout=False
        )

    def start(self) -> None:
        """See View."""
        self._live.start()

    def pause(self) -> None:
        """See View."""
        self._live.stop()

    def begin(self, notices: Sequence[str]) -> None:
        """See View."""
        self._live.start(refresh=True)

    def notice(self, text: str) -> None:
        """See View."""
        self._console.print(f"note: {text}", soft_wrap=True)

    def stop(self, finished: bool) -> None:
        """See View."""
        self._live.stop()

    def _render(self) -> RenderableType:
        step, elapsed, left = self._following.step, self._following.elapsed, self._following.left
        if step is None:
            return Text(f"preparing  {duration(elapsed)}")
        where = Text("  ".join([NAMES[step.stage], words(step, self._following.rate)]), no_wrap=True, overflow="ellipsis")
        bar = ProgressBar(total=None if left is None else elapsed + left, completed=elapsed, width=40)
        clock = f"{duration(elapsed)} passed" + ("" if left is None else f", about {duration(left)} left")
        row = Table.grid(padding=(0, 1))
        row.add_row(bar, Text(clock))
        return Group(where, row)
