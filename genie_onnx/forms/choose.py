"""Which form a case gets: the fastest of those that came back and are right.

    plain, unless another form took at most WORTH of its seconds; never a layout in which a trial of the case ended its process

What overwrites memory need not die of it every time, so one death speaks against the layout, whatever its type.
"""

from __future__ import annotations

from collections.abc import Mapping

from genie_onnx.forms.form import PLAIN, Case, Form, Forms, Precision, Trial, trials_of
from genie_onnx.forms.verdicts import Verdict

WORTH = 0.95  # times differ by so much from one measurement to the next


def chosen(case: Case, found: Mapping[str, Verdict], precision: Precision) -> Forms:
    """Return the forms of `case` for a run at `precision`, by what was `found` (by `Trial.name`), which may be nothing."""
    trials = trials_of(case, precision)
    deadly = {trial.form.channels_last for trial in trials if trial.name in found and found[trial.name].died}
    usable = [
        (found[trial.name].seconds or 0.0, trial)
        for trial in trials
        if trial.name in found and found[trial.name].seconds is not None and trial.form.channels_last not in deadly
    ]
    return Forms(
        values=_fastest([(seconds, trial) for seconds, trial in usable if trial.precision is None]),
        steps=_fastest([(seconds, trial) for seconds, trial in usable if trial.precision is not None]),
    )


def _fastest(usable: list[tuple[float, Trial]]) -> Form:
    plain = next((seconds for seconds, trial in usable if trial.form == PLAIN), None)
    seconds, best = min(usable, key=lambda found: found[0], default=(0.0, None))
    if best is None or plain is None:  # without a measure nothing is faster
        return PLAIN
    return best.form if seconds <= WORTH * plain else PLAIN
