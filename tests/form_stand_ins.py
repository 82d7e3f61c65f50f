"""Stand-ins for what makes a trial in the worker: what the name of a case says is what happens, and torch computes nothing."""

from __future__ import annotations

import os
import time

from genie_onnx.forms.form import Case, Trial
from genie_onnx.forms.verdicts import Verdict
from genie_onnx.forms.worker import Judge

HANGS, DIES, REFUSES, WORKS = 11, 12, 13, 14  # channels of the case


def case(channels: int, size: int = 8) -> Case:
    """Return a depthwise convolution of so many channels."""
    return Case((channels, size, size), (channels, 1, 3, 3), (1, 1), (1, 1), (1, 1), channels)


def judge() -> Judge:
    """Return a judge for which only the plain form always works."""

    def judged(trial: Trial) -> Verdict:
        if trial.form.channels_last:
            channels = trial.case.sample[0]
            if channels == HANGS:
                time.sleep(60)
            if channels == DIES:
                os.abort()
            if channels == REFUSES:
                raise RuntimeError("could not create a primitive")
        return Verdict(0.001 if trial.form.channels_last else 0.002)

    return judged


def nobody() -> Judge:
    """Return nothing: the worker does not come so far."""
    raise SystemExit(3)
