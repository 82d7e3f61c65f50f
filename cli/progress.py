"""Progress on standard error: one live line in a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from genie_onnx import DistillProgress, Event, Notice

PLAIN_SECONDS = 10.0  # between two plain lines


class Display:
    """A context manager to be called with every event of a run."""

    def __init__(self, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=self._console,
            disable=quiet or not self._console.is_terminal,
        )
        self._task = self._live.add_task("", total=None, detail="")
        self._printed = 0.0

    def __enter__(self) -> Display:
        self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        if isinstance(event, str):
            self._live.reset(self._task, description=event, total=None, detail="")
            if not self._console.is_terminal:
                self._console.print(event, highlight=False)
            return
        if isinstance(event, Notice):
            self._console.print(f"note: {event.text}", highlight=False, markup=False, soft_wrap=True)
            return
        step = f"step {event.iteration}/{event.iterations}"
        if isinstance(event, DistillProgress):
            index, count = event.batch, event.batches
            detail = f"batch {index + 1}/{count}  {step}  BN loss {event.bn_loss:.4g}"
        else:
            index, count = event.index, event.count
            detail = f"block {index + 1}/{count}  {step}  loss {event.loss:.4g}  {event.block}"
        done, total = index * event.iterations + event.iteration, count * event.iterations
        self._live.update(self._task, completed=done, total=total, detail=detail)
        last = event.iteration == event.iterations
        if not self._console.is_terminal and (last or time.monotonic() - self._printed > PLAIN_SECONDS):
            self._console.print(f"  {100 * done / total:3.0f} %  {detail}", highlight=False, markup=False, soft_wrap=True)
            self._printed = time.monotonic()
