"""What a process that tries a file may do besides, harmlessly: in place of apart.quantized."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def raising(path: Path) -> tuple[str, str]:
    """A defect."""
    raise ValueError(path)


def crashing(path: Path) -> tuple[str, str]:
    """A library that is killed."""
    signal.raise_signal(signal.SIGSEGV)
    return "quantized", "not reached"


def leaving(path: Path) -> tuple[str, str]:
    """A library that ends the process."""
    os._exit(0)


def hanging(path: Path) -> tuple[str, str]:
    """A library that never returns."""
    time.sleep(600)
    return "quantized", "not reached"


def hungry(path: Path) -> tuple[str, str]:
    """More memory than there may be."""
    return "quantized", str(len(bytearray(2**33)))
