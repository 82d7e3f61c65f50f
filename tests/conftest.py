"""Fixtures shared by all tests. Helper modules beside this file can be imported by their plain name."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from genie_onnx.machine.user_cache import cache_folder

# The tests' tensors are small, and each core has a process of its own: more threads would only spin against each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# Loops are compiled once for all processes that tests start, though these have a cache of their own (below).
os.environ.setdefault("NUMBA_CACHE_DIR", str(cache_folder() / "numba"))

# A shell's background job ignores Ctrl-C, and so would all processes that it starts, those that tests stop by it too.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Verdicts about this machine, made under tests, are not those of its user."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="session")
def bench() -> Path:
    """The folder of real models and data; tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("GENIE_BENCH", Path(__file__).parents[2] / "shared" / "bench"))
    if not folder.is_dir():
        pytest.skip(f"no bench data at {folder} (set GENIE_BENCH)")
    return folder
