"""What can be made again is kept where the user's programs keep such, and nothing appears beside the sources."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import genie_onnx
from genie_onnx.machine import user_cache

LOOP = """
import torch
from genie_onnx.closed_form.kernels import feedback
ones = torch.ones(1, 2, 3)
feedback(ones, ones.clone(), torch.ones(1, 3, 3), *(torch.ones(1, 2, 1) for _ in range(3)))
"""


def test_the_folder_is_where_the_platform_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(user_cache.sys, "platform", "linux")
    monkeypatch.setenv("HOME", str(tmp_path))
    for given in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", given)
        assert user_cache.cache_folder() == tmp_path / ".cache" / "genie-onnx"
    monkeypatch.setattr(user_cache.sys, "platform", "darwin")
    assert user_cache.cache_folder() == tmp_path / "Library" / "Caches" / "genie-onnx"
    monkeypatch.setattr(user_cache.sys, "platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", os.path.join("C:", "local"))
    assert user_cache.cache_folder() == Path("C:", "local", "genie-onnx")


def test_compiled_loops_are_kept_there(tmp_path: Path) -> None:
    """Beside the sources they would stay when the package is removed, and hide the one that is installed next."""
    sources = tmp_path / "site" / "genie_onnx"
    shutil.copytree(Path(genie_onnx.__file__).parent, sources, ignore=shutil.ignore_patterns("__pycache__"))
    environment = {**os.environ, "PYTHONPATH": str(sources.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    environment |= {"XDG_CACHE_HOME": str(tmp_path / "cache"), "NUMBA_CACHE_DIR": ""}
    before = set(sources.rglob("*"))
    subprocess.run([sys.executable, "-c", LOOP], env=environment, cwd=tmp_path, check=True)
    assert set(sources.rglob("*")) == before
    kept = {file.suffix for file in (tmp_path / "cache" / "genie-onnx" / "numba").rglob("*") if file.is_file()}
    assert kept == {".nbi", ".nbc"}
