"""One trial, in this process: a case in a form on random numbers, several times, beside the same in the plain form.

    seconds   of the fastest time, with what it takes to get from the values around into the form and back
    right     result and gradients differ from those in float32 by no more than TOLERANCE of the largest number

The values around it have the channels last, as they are stored between blocks, and the type of the run.
"""

from __future__ import annotations

import ctypes
import math
import sys
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from genie_onnx.forms.convolve import LAST, convolve
from genie_onnx.forms.form import PLAIN, Case, Form, Precision, Trial
from genie_onnx.forms.verdicts import Verdict

# Sums of float32 in another order differ by less; operands in bfloat16, with 8 bits, by about 0.005
TOLERANCE = {False: 1e-3, True: 3e-2}
TIMES, LONG_ENOUGH, MOST = 3, 0.04, 20  # runs at least, seconds after which there are no more, and runs at most
HOPELESS = 2.0  # times as long as another form, the second time too: kernels are made in the first one

Compute = Callable[[Tensor, Tensor, Tensor | None], Tensor]


def function_of(case: Case) -> Compute:
    """Return the convolution (x, weight, bias) -> y of torch that `case` is."""
    dims = len(case.stride)
    if case.output_padding is None:
        plain = (torch.conv1d, torch.conv2d, torch.conv3d)[dims - 1]
        return partial(_called, plain, (case.stride, case.padding, case.dilation, case.groups))
    transposed = (torch.conv_transpose1d, torch.conv_transpose2d, torch.conv_transpose3d)[dims - 1]
    return partial(_called, transposed, (case.stride, case.padding, case.output_padding, case.groups, case.dilation))


def _called(function: Callable[..., Tensor], rest: tuple[object, ...], x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return function(x, weight, bias, *rest)


class Setting:
    """The numbers that all forms of one case are tried on, and what they make in the plain form."""

    def __init__(self, case: Case) -> None:
        self.case = case
        generator = torch.Generator().manual_seed(0)
        fan_in = max(1, math.prod(case.weight) // case.result[0])
        self._x = _last(torch.randn(case.images, *case.sample, generator=generator))
        self._weight = torch.randn(case.weight, generator=generator) / math.sqrt(fan_in)
        self._bias = torch.randn(case.result[0], generator=generator)
        self._slope = _last(torch.randn(case.images, *case.result, generator=generator))
        self._expected: list[Tensor] | None = None
        self._best: dict[Precision | None, float] = {}  # seconds

    def run(self, form: Form, precision: Precision | None) -> tuple[list[Tensor], float]:
        """Return the result of `form`, with `precision` the gradients of x and weight too, and the seconds that took."""
        low = precision == "bf16"
        dtype = torch.bfloat16 if low else torch.float32
        x = self._x.to(dtype).requires_grad_(precision is not None)
        weight = self._weight.clone().requires_grad_(precision is not None)
        slope = self._slope.to(dtype)
        began = _clock()
        with torch.set_grad_enabled(precision is not None):
            with torch.autocast("cpu", torch.bfloat16, enabled=low, cache_enabled=False):
                y = convolve(function_of(self.case), x, weight, self._bias, form)
            grads = torch.autograd.grad(y, (x, weight), slope) if precision is not None else ()
        return [y, *grads], _clock() - began

    def judge(self, trial: Trial) -> Verdict:
        """Make the trial. What takes far longer than another form did will not be chosen, and is not timed well."""
        if self._expected is None:
            self._expected, _ = self.run(PLAIN, "fp32")
        taken: list[float] = []
        best = self._best.get(trial.precision, math.inf)
        while len(taken) < TIMES or (sum(taken) < LONG_ENOUGH and len(taken) < MOST):
            if len(taken) > 1 and min(taken) > HOPELESS * best:
                break
            found, seconds = self.run(trial.form, trial.precision)
            taken.append(seconds)
            off = float(torch.stack([_off(one, other) for one, other in zip(found, self._expected, strict=False)]).max())
            if not off <= TOLERANCE[trial.form.bf16 or trial.precision == "bf16"]:
                return Verdict(None, f"it returns wrong numbers, off by {off:.1g} of the largest")
            del found
            sweep_heap()
        self._best[trial.precision] = min(best, *taken)
        return Verdict(min(taken))


def _clock() -> float:
    """Return seconds: of the processor where one thread computes, so that other processes do not count; else of the wall."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def sweep_heap() -> None:
    """Let the C library go through its heap: what was overwritten shows here, not in a later trial (man 3 malloc_trim)."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone
        if trim is not None:
            trim(0)


@torch.no_grad()
def _off(y: Tensor, expected: Tensor) -> Tensor:
    """Return the largest difference (0-dim), as a share of the largest number expected; not a number where `y` has such."""
    return (y.float() - expected).abs().max() / expected.abs().max().clamp_min(torch.finfo(torch.float32).tiny)


def _last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=LAST[x.dim()]) if x.dim() in LAST else x
