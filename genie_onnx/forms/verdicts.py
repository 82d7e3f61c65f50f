"""What was found out about convolutions on this machine, kept for good in the user's cache directory.

    ~/.cache/genie-onnx/convolutions-<digest>.json      one file for each CPU, torch and number of threads
    {"machine": {...}, "tried": {CASE: {TRIAL: {"seconds": 0.0021} or {"problem": "it returns wrong numbers ..."}}}}

Two runs may add to it at once. A file that cannot be read is made again; where none can be written, nothing is kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

import torch
from filelock import FileLock, Timeout

from genie_onnx.machine.atomic import write_text
from genie_onnx.machine.user_cache import cache_folder

CPUINFO = Path("/proc/cpuinfo")
LOCK_SECONDS = 5.0


@dataclass(frozen=True)
class Verdict:
    """What a trial showed: the `seconds` it took, where it came back and was right, else the `problem`, in one line.

    `died`: it took its process along.
    """

    seconds: float | None
    problem: str = ""
    died: bool = False


Verdicts: TypeAlias = dict[str, dict[str, Verdict]]  # by Case.name, then Trial.name


def machine_key() -> dict[str, str]:
    """Return what verdicts depend on: the CPU, what it can do, torch, and the number of its threads."""
    able = sorted(name for name, there in torch.cpu.get_capabilities().items() if there is True)
    return {
        "cpu": _cpu_model(),
        "capabilities": " ".join(able),
        "torch": torch.__version__,
        "threads": str(torch.get_num_threads()),
    }


def verdict_file() -> Path:
    """Return the file of this machine; it need not be there. Raises RuntimeError where the user has no home."""
    digest = hashlib.sha256(json.dumps(machine_key(), sort_keys=True).encode()).hexdigest()
    return cache_folder() / f"convolutions-{digest[:12]}.json"


def load() -> Verdicts:
    """Return all that is known; nothing where the file is not there, or damaged."""
    try:
        return _read(verdict_file())
    except (OSError, RuntimeError):
        return {}


def can_keep() -> bool:
    """Whether verdicts can be written down here."""
    try:
        file = verdict_file()
        file.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(file.with_suffix(".lock"), timeout=LOCK_SECONDS):
            return os.access(file.parent, os.W_OK)
    except (OSError, RuntimeError, Timeout):
        return False


def keep(new: Mapping[str, Mapping[str, Verdict]]) -> None:
    """Add `new` verdicts to the file; what is there already stays, so that all runs choose alike."""
    with contextlib.suppress(OSError, RuntimeError, Timeout):
        file = verdict_file()
        with FileLock(file.with_suffix(".lock"), timeout=LOCK_SECONDS):
            merged = merge(_read(file), new)
            plain = {case: {name: _plain(verdict) for name, verdict in found.items()} for case, found in merged.items()}
            write_text(file, json.dumps({"machine": machine_key(), "tried": plain}, indent=1))


def merge(old: Mapping[str, Mapping[str, Verdict]], new: Mapping[str, Mapping[str, Verdict]]) -> Verdicts:
    """Return both; where both know something, `old` is right."""
    return {case: {**new.get(case, {}), **old.get(case, {})} for case in {**old, **new}}


def _read(file: Path) -> Verdicts:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        return {case: {name: Verdict(**plain) for name, plain in tried.items()} for case, tried in found["tried"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {key: value for key, value in asdict(verdict).items() if key == "seconds" or value}


def _cpu_model() -> str:
    if CPUINFO.exists():
        for line in CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
