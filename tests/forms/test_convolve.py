"""Convolutions in a form: the same numbers, in the layout and type around them, gradients too."""

from __future__ import annotations

from functools import partial

import pytest
import torch

from genie_onnx.forms import Case, Verdict
from genie_onnx.forms.convolve import convolve, has_channels_last, laid_out
from genie_onnx.forms.form import EVERY, PLAIN, Form, Trial, trials_of
from genie_onnx.forms.trial import Setting, function_of

CASES = [
    Case((6, 9, 7), (4, 3, 3, 3), (2, 1), (1, 0), (1, 2), 2),
    Case((4, 8, 8), (4, 1, 3, 3), (1, 1), (1, 1), (1, 1), 4),
    Case((1, 5, 5), (3, 1, 5, 5), (1, 1), (0, 0), (1, 1), 1),
    Case((4, 12), (6, 4, 3), (1,), (1,), (1,), 1),
    Case((2, 4, 4, 4), (3, 2, 2, 2, 2), (1, 1, 1), (0, 0, 0), (1, 1, 1), 1),
    Case((4, 5, 5), (4, 3, 3, 3), (2, 2), (1, 1), (1, 1), 1, (1, 1)),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
@pytest.mark.parametrize("form", EVERY, ids=lambda form: form.name)
def test_every_form_computes_the_same(case: Case, form: Form) -> None:
    low = "bf16" if form.bf16 else "fp32"
    assert Setting(case).judge(Trial(case, form, low)).problem == ""  # type: ignore[arg-type]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_knows_its_result(case: Case) -> None:
    y = function_of(case)(torch.zeros(2, *case.sample), torch.zeros(case.weight), None)
    assert tuple(y.shape[1:]) == case.result


@pytest.mark.parametrize("form", EVERY, ids=lambda form: form.name)
def test_the_function_gets_the_form_and_its_surroundings_their_own(form: Form) -> None:
    seen: list[torch.Tensor] = []

    def function(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        seen.extend([x, weight])
        return torch.conv2d(x, weight, bias, padding=1)

    x = torch.randn(2, 4, 6, 5).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight = torch.randn(3, 4, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        y = convolve(function, x, weight, None, form)
    assert y.dtype == torch.bfloat16
    assert has_channels_last(y)
    for tensor in seen:
        assert tensor.dtype == (torch.bfloat16 if form.bf16 else torch.float32)
        assert has_channels_last(tensor) == form.channels_last
    y.sum().backward()
    assert x.grad is not None
    assert weight.grad is not None
    assert has_channels_last(x.grad)
    assert not has_channels_last(weight.grad)
    assert x.grad.dtype == weight.grad.dtype == torch.float32


@pytest.mark.parametrize("shape", [(4, 1, 3, 3), (2, 5, 1, 1), (1, 1, 6, 6), (1, 4, 1, 7)])
def test_strides_are_exact_where_a_size_is_one(shape: tuple[int, ...]) -> None:
    """What torch takes for channels last by its strides alone."""
    x = torch.randn(shape)
    for one in (x, x.contiguous(memory_format=torch.channels_last), x.movedim(1, -1).contiguous().movedim(-1, 1)):
        plain, last = (laid_out(one, torch.float32, channels_last) for channels_last in (False, True))
        assert torch.equal(plain, x)
        assert torch.equal(last, x)
        _, c, h, w = shape
        assert plain.stride() == (c * h * w, h * w, w, 1)
        assert last.stride() == (h * w * c, 1, w * c, c)


def test_wrong_numbers_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[0]
    setting = Setting(case)
    right = setting.run

    def run(form: Form, precision: object) -> tuple[list[torch.Tensor], float]:
        y, seconds = right(form, precision)  # type: ignore[arg-type]
        y[-1][0] = torch.nan if form.bf16 else y[-1][0] + 1 * form.channels_last
        return y, seconds

    monkeypatch.setattr(setting, "run", run)
    found = {trial.form: setting.judge(trial) for trial in trials_of(case, "bf16") if trial.precision is not None}
    assert found[PLAIN].seconds is not None
    assert all(verdict.problem.startswith("it returns wrong numbers") for form, verdict in found.items() if form != PLAIN)


def test_what_is_slow_is_run_no_more_than_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    setting, runs = Setting(CASES[1]), list[Form]()
    expected, _ = setting.run(PLAIN, "fp32")

    def run(form: Form, precision: object) -> tuple[list[torch.Tensor], float]:
        runs.append(form)
        return expected, 5.0 if form.channels_last else 0.5

    monkeypatch.setattr(setting, "run", run)
    slow = Form(channels_last=True)
    assert setting.judge(Trial(CASES[1], PLAIN, "fp32")) == Verdict(0.5)
    assert setting.judge(Trial(CASES[1], slow, "fp32")) == Verdict(5.0)
    assert runs.count(slow) == 2


def test_a_form_of_another_name_is_refused() -> None:
    assert [Form.named(form.name) for form in EVERY] == list(EVERY)
    with pytest.raises(ValueError, match="no form"):
        Form.named("fp8 contiguous")


def test_one_dimension_has_one_layout() -> None:
    assert not any(trial.form.channels_last for trial in trials_of(CASES[3], "bf16"))
    y = convolve(
        partial(torch.conv1d, padding=1), torch.zeros(1, 4, 12), torch.zeros(6, 4, 3), None, Form(True, False), last=True
    )
    assert y.is_contiguous()
