"""Driver (worker.py) of onnxruntime on the CPU: default options, one thread."""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnxruntime as ort


def version() -> str:
    """Return the version of the runtime."""
    return str(ort.__version__)


def options() -> ort.SessionOptions:
    """Return default options, quiet and with one thread."""
    chosen = ort.SessionOptions()
    chosen.log_severity_level = 3  # errors
    chosen.intra_op_num_threads = 1
    return chosen


def executed(session: ort.InferenceSession, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
    """Run a session that was made with profiling on; return how many nodes of each operator it executed."""
    session.run(None, dict(feeds))
    events = json.loads(Path(session.end_profiling()).read_text(encoding="utf-8"))
    kernels = [event for event in events if event["cat"] == "Node" and event["name"].endswith("_kernel_time")]
    return dict(Counter(event["args"]["op_name"] for event in kernels))


class Model:
    """A model file in onnxruntime."""

    def __init__(self, path: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Load it; shapes may stay open."""
        self._path = path
        self._session = ort.InferenceSession(path, options(), providers=["CPUExecutionProvider"])

    def __call__(self, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run it once."""
        return list(self._session.run(None, dict(feeds)))

    def operators(self, feeds: Mapping[str, np.ndarray]) -> dict[str, int]:
        """Return what the profile of one run has: fused nodes have their own names there."""
        with tempfile.TemporaryDirectory() as folder:
            profiled = options()
            profiled.enable_profiling = True
            profiled.profile_file_prefix = str(Path(folder) / "profile")
            return executed(ort.InferenceSession(self._path, profiled, providers=["CPUExecutionProvider"]), feeds)
