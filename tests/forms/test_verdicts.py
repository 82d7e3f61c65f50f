"""The file with the verdicts of a machine."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from genie_onnx.forms import Verdict, verdicts
from genie_onnx.machine import user_cache

FOUND = {
    "conv a": {"values: fp32 contiguous": Verdict(0.001), "values: fp32 channels last": Verdict(None, "it hangs", died=True)}
}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(user_cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "genie-onnx"


def test_what_is_kept_is_there_again_and_stays(cache: Path) -> None:
    assert verdicts.load() == {}
    assert verdicts.can_keep()
    verdicts.keep(FOUND)
    assert verdicts.load() == FOUND
    verdicts.keep({"conv a": {"values: fp32 contiguous": Verdict(0.5), "new": Verdict(0.2)}, "conv b": {}})
    assert verdicts.load() == {"conv a": {**FOUND["conv a"], "new": Verdict(0.2)}, "conv b": {}}
    assert verdicts.verdict_file().parent == cache
    assert json.loads(verdicts.verdict_file().read_text())["machine"] == verdicts.machine_key()


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"tried": 3}', '{"tried": {"conv a": {"values": {"second": 1}}}}', "\0"])
def test_a_damaged_file_is_made_again(damage: str) -> None:
    assert verdicts.can_keep()
    verdicts.verdict_file().write_text(damage)
    assert verdicts.load() == {}
    verdicts.keep(FOUND)
    assert verdicts.load() == FOUND


def test_another_number_of_threads_is_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    before = verdicts.verdict_file()
    monkeypatch.setattr(torch, "get_num_threads", lambda: 123)
    assert verdicts.verdict_file() != before


def test_a_place_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert not verdicts.can_keep()
    verdicts.keep(FOUND)
    assert verdicts.load() == {}
