"""A step that hangs ends the run: by an exception where it returns after all, else by ending the process."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import Any

import pytest

from genie_onnx.errors import RunError
from genie_onnx.machine.watchdog import Watchdog

QUICK: dict[str, Any] = {"least": 0.2, "first": 0.4, "grace": 60.0, "pace": 0.02}


def test_quick_steps_are_left_alone() -> None:
    with Watchdog("a loop", **QUICK) as dog:
        for _ in range(20):
            time.sleep(0.02)
            dog.step()


def test_a_step_that_returns_late_raises() -> None:
    with Watchdog("learning block 'a'", **QUICK) as dog:
        dog.step()
        time.sleep(1)
        with pytest.raises(RunError, match=r"step 2 of learning block 'a' does not return.*longest before it took"):
            dog.step()


def test_a_step_that_does_not_return_is_told_of() -> None:
    told: list[str] = []
    with Watchdog("a loop", **{**QUICK, "grace": 0.1}, end=told.append) as dog:
        dog.step()
        time.sleep(1.5)
    assert len(told) == 1
    assert told[0].startswith("step 2 of a loop does not return")


def test_a_pause_of_the_whole_process_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = time.monotonic
    late = [0.0]
    monkeypatch.setattr("genie_onnx.machine.watchdog.time.monotonic", lambda: clock() + late[0])
    with Watchdog("a loop", **QUICK) as dog:
        late[0] = 3600.0
        time.sleep(0.1)
        dog.step()


HANGING = """
import threading
from genie_onnx.machine.watchdog import Watchdog
with Watchdog("learning block 'x'", least=0.1, first=0.2, grace=0.1, pace=0.05) as dog:
    dog.step()
    threading.Lock().acquire() and threading.Event().wait()
"""


def test_the_process_ends_with_code_1_and_says_why() -> None:
    done = subprocess.run([sys.executable, "-c", HANGING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: step 2 of learning block 'x' does not return")
    assert "goes on from the last finished part" in done.stderr
