"""The forms of a run: from verdicts and trials, kept in its directory."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
import torch
from onnx_models import parse

from genie_onnx.config import QuantizeConfig
from genie_onnx.events import Notice, Step
from genie_onnx.forms import PLAIN, Case, Form, Forms, Limits, Verdict, verdicts
from genie_onnx.forms.form import Trial, trials_of
from genie_onnx.images.choice import Choice
from genie_onnx.machine.compute import Compute
from genie_onnx.pipeline import forms as form_choice
from genie_onnx.pipeline.forms import cases_of, choose_forms, estimated_forms
from genie_onnx.preparation.prepare import Prepared, prepare
from genie_onnx.run.directory import RunDirectory

LAST = Form(channels_last=True)
FASTER = Forms(values=LAST, steps=LAST)
COMPUTE, CONFIG = Compute(torch.device("cpu")), QuantizeConfig()
CHOICE = Choice("procedural", "procedural", "")
BODY = """
net (float[N,3,8,8] image, float[4,3,3,3] w1, float[4,1,3,3] w2, float[6,4,3,3] w3) => (float[N,6,6,6] y) {
    a = Conv <pads = [1, 1, 1, 1]> (image, w1)
    r = Relu (a)
    b = Conv <pads = [1, 1, 1, 1], group = 4> (r, w2)
    c = Conv <pads = [1, 1, 1, 1], group = 4> (b, w2)
    y = Conv (c, w3)
}
"""
MODEL = parse(BODY)
Trials = list[list[Trial]]


@pytest.fixture
def prepared() -> Prepared:
    return prepare(MODEL, CONFIG.placement)


@pytest.fixture
def run(tmp_path: Path) -> RunDirectory:
    return RunDirectory(tmp_path)


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trials:
    """Return the lists of trials that were asked for; channels last is faster in all of them."""
    asked: Trials = []

    def tried(trials: Iterable[Trial], limits: Limits, tell: Callable[[int], None]) -> list[Verdict]:
        asked.append(list(trials))
        return [Verdict(1.0 if trial.form.channels_last else 2.0) for trial in asked[-1]]

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(form_choice, "tried", tried)
    monkeypatch.setattr(form_choice, "WORTH", 0.0)
    return asked


def chosen(prepared: Prepared, run: RunDirectory, compute: Compute = COMPUTE) -> tuple[dict[Case, Forms], list[Step | Notice]]:
    told: list[Step | Notice] = []
    return dict(choose_forms(prepared, CONFIG, CHOICE, run, compute, told.append)), told


def test_what_is_not_known_is_tried_once(prepared: Prepared, run: RunDirectory, tmp_path: Path, made: Trials) -> None:
    forms, told = chosen(prepared, run)
    assert set(forms) == set(cases_of(prepared.network, prepared.shape))
    assert set(forms.values()) == {FASTER}
    assert isinstance(told[0], Step)
    assert told[0].stage == "kernels"
    other = RunDirectory(tmp_path / "other")
    other.path.mkdir()
    assert chosen(prepared, other) == (forms, [])  # from the cache
    assert len(made) == 1


def test_a_run_goes_on_with_its_forms_whatever_became_known(prepared: Prepared, run: RunDirectory, made: Trials) -> None:
    forms, _ = chosen(prepared, run)
    slower = {case.name: {t.name: Verdict(9.0 if t.form == LAST else 1.0) for t in trials_of(case, "fp32")} for case in forms}
    verdicts.verdict_file().unlink()
    verdicts.keep(slower)
    assert chosen(prepared, run) == (forms, [])
    assert estimated_forms(prepared, CONFIG, CHOICE, run, COMPUTE) == (forms, 0.0)
    run.forms.unlink()
    assert set(chosen(prepared, run)[0].values()) == {Forms()}


@pytest.mark.parametrize("damage", ["", "{", '{"forms": {}}', "another machine"])
def test_forms_of_another_machine_or_damaged_ones_are_chosen_anew(
    damage: str, prepared: Prepared, run: RunDirectory, made: Trials
) -> None:
    forms, _ = chosen(prepared, run)
    kept = json.loads(run.forms.read_text())
    run.forms.write_text(json.dumps({**kept, "machine": {"cpu": "another"}}) if damage == "another machine" else damage)
    again, told = chosen(prepared, run)
    assert again == forms
    assert [type(event) for event in told] == [Notice]
    assert json.loads(run.forms.read_text()) == kept


def test_without_a_place_to_keep_verdicts_all_is_plain(
    prepared: Prepared, run: RunDirectory, made: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert chosen(prepared, run) == ({}, [])
    assert made == []


def test_little_work_is_not_worth_a_trial(
    prepared: Prepared, run: RunDirectory, made: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_choice, "WORTH", 1e6)
    assert chosen(prepared, run)[0] == {}
    assert estimated_forms(prepared, CONFIG, CHOICE, run, COMPUTE) == ({}, 0.0)
    assert made == []


def test_a_gpu_has_no_forms(prepared: Prepared, run: RunDirectory, made: Trials) -> None:
    assert chosen(prepared, run, Compute(torch.device("cuda"))) == ({}, [])
    assert not run.forms.exists()


def test_an_estimate_says_what_is_left_to_try(
    prepared: Prepared, run: RunDirectory, made: Trials, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(form_choice, "tried", lambda trials, limits, tell: [Verdict(1.0)])
    forms, seconds = estimated_forms(prepared, CONFIG, CHOICE, run, COMPUTE)
    trials = sum(len(trials_of(case, "fp32")) for case in cases_of(prepared.network, prepared.shape))
    assert seconds == pytest.approx((trials - 1) * form_choice.A_TRIAL)
    assert set(forms.values()) == {Forms()}


def test_a_network_computes_in_its_forms(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Values in one form, steps in another; bfloat16 only where the precision of the run allows it."""
    cases = cases_of(prepared.network, prepared.shape)
    low = Form(channels_last=True, bf16=True)
    formed = prepared.formed(dict.fromkeys(cases, Forms(values=LAST, steps=low)))
    seen: list[Form] = []

    def noted(function: Any, x: torch.Tensor, weight: torch.Tensor, bias: Any, form: Form, last: bool) -> torch.Tensor:
        seen.append(form)
        result: torch.Tensor = function(x, weight, bias)
        return result

    monkeypatch.setattr("genie_onnx.importer.conv.convolve", noted)
    x = torch.zeros(1, *prepared.shape)
    with torch.no_grad():
        formed.network.module(x)
    assert set(seen) == {LAST}
    seen.clear()
    with torch.autocast("cpu", torch.bfloat16):
        formed.network.module(x.requires_grad_())
    assert set(seen) == {low}
    seen.clear()
    formed.network.module(x)
    assert set(seen) == {PLAIN}
