"""Files are there whole or not at all, on the disk before they have their name."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from genie_onnx.machine.atomic import replacing, write_npz, write_text


def test_what_fails_leaves_the_old_file_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(OSError, match="full"), replacing(path) as partial:
        _half(partial)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def _half(path: Path) -> None:
    path.write_text("half")
    raise OSError("the disk is full")


def test_leftovers_of_a_killed_process_are_overwritten(tmp_path: Path) -> None:
    (tmp_path / "a.npz.part").write_bytes(b"half of a long file" * 100)
    write_npz(tmp_path / "a.npz", x=np.arange(3), name="n")
    with np.load(tmp_path / "a.npz") as found:
        assert (found["x"].tolist(), str(found["name"])) == ([0, 1, 2], "n")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.skipif(os.name != "posix", reason="folders are not flushed elsewhere")
def test_content_is_flushed_before_the_name_and_the_name_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    flush, rename = os.fsync, os.replace

    def fsync(file: int) -> None:
        order.append("flush folder" if os.path.samestat(os.fstat(file), tmp_path.stat()) else "flush file")
        flush(file)

    def replace(source: Path, target: Path) -> None:
        order.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "replace", replace)
    write_text(tmp_path / "a.txt", "text")
    assert order == ["flush file", "rename", "flush folder"]
