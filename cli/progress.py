"""Progress on standard error: a live view in a terminal, plain lines elsewhere, JSON lines where they are asked for.

events of a run -> Following (where it stands, how fast, how long it still takes) -> one of the views
"""

from __future__ import annotations

import time
from collections.abc import Callable
from types import TracebackType

from genie_onnx_cli import show
from genie_onnx_cli.following import Following
from genie_onnx_cli.views import JsonLines, LiveView, Nothing, PlainLines, View
from rich.console import Console

from genie_onnx import BitPlan, Estimate, Event, ImagePlan, Notice, estimate

ShowPlan = Callable[[ImagePlan, Estimate], None]


class Display:
    """A context manager to be called with every event of a run; `show_plan` prints what is known before it on standard output."""

    def __init__(
        self,
        quiet: bool,
        log_json: bool,
        show_plan: ShowPlan,
        *,
        console: Console | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._show_plan = show_plan
        self._following = Following(clock)
        self._view = _view(quiet, log_json, console or Console(stderr=True, highlight=False, markup=False), self._following)

    def __enter__(self) -> Display:
        self._view.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._view.stop(finished=kind is None)

    def __call__(self, event: Event) -> None:
        """Show `event`."""
        if isinstance(event, ImagePlan):
            expected = estimate(event)
            self._view.pause()
            self._show_plan(event, expected)
            self._following.begin(expected)
            self._view.begin(event.notices)
        elif isinstance(event, BitPlan):
            self._view.pause()
            show.bit_plan(event)
            self._view.start()
        elif isinstance(event, Notice):
            self._view.notice(event.text)
        else:
            self._following.tell(event)
            self._view.step()


def _view(quiet: bool, log_json: bool, console: Console, following: Following) -> View:
    if log_json:
        return JsonLines(console.file, following)
    if quiet:
        return Nothing()
    return LiveView(console, following) if console.is_terminal else PlainLines(console, following)
