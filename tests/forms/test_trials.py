"""Trials in processes of their own: what hangs, dies or is refused is a verdict, and the rest is tried all the same."""

from __future__ import annotations

import time
from typing import Any

import form_stand_ins
import pytest

from genie_onnx.forms import PLAIN, Form, Limits, trials
from genie_onnx.forms.form import Trial

QUICK = Limits(trial=1.5, start=60, all=60)
LAST = Form(channels_last=True)
PLAIN_AND_LAST = [
    Trial(form_stand_ins.case(c), form, None)
    for c in range(form_stand_ins.HANGS, form_stand_ins.WORKS + 1)
    for form in (PLAIN, LAST)
]


def test_two_problems_cost_three_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    popen = trials.subprocess.Popen

    def counted(*args: Any, **rest: Any) -> Any:
        started.append(args)
        return popen(*args, **rest)

    monkeypatch.setattr(trials.subprocess, "Popen", counted)
    told: list[int] = []
    found = trials.tried(PLAIN_AND_LAST, QUICK, told.append, judge="form_stand_ins:judge")
    assert [verdict.seconds for verdict in found] == [0.002, None, 0.002, None, 0.002, None, 0.002, 0.001]
    assert found[1].problem == "it does not return within 1.5 s"
    assert found[3].problem == "it ends its process (Aborted)"
    assert found[5].problem == "it is refused: could not create a primitive"
    assert [verdict.died for verdict in found] == [False, False, False, True, False, False, False, False]
    assert told == list(range(1, 9))
    assert len(started) == 3


def test_time_in_all_is_bounded() -> None:
    began = time.monotonic()
    slow = [Trial(form_stand_ins.case(form_stand_ins.HANGS, size), LAST, None) for size in range(8, 40)]
    found = trials.tried(slow, Limits(trial=0.5, start=60, all=3), judge="form_stand_ins:judge")
    assert len(found) < len(slow)
    assert time.monotonic() - began < 20


def test_a_worker_that_does_not_start_finds_nothing() -> None:
    assert trials.tried(PLAIN_AND_LAST, QUICK, judge="form_stand_ins:nobody") == []


def test_where_no_process_can_be_started_nothing_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object, **rest: object) -> None:
        raise PermissionError("no processes here")

    monkeypatch.setattr(trials.subprocess, "Popen", refuse)
    assert trials.tried(PLAIN_AND_LAST, QUICK) == []


def test_torch_is_tried_by_default() -> None:
    plain, last = trials.tried([Trial(form_stand_ins.case(4), form, "fp32") for form in (PLAIN, LAST)], Limits())
    assert plain.seconds is not None
    assert last.seconds is not None
