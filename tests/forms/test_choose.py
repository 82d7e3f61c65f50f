"""The choice among timed and compared forms."""

from __future__ import annotations

import form_stand_ins

from genie_onnx.forms import PLAIN, Form, Forms, Verdict, chosen

CASE = form_stand_ins.case(8)
LAST, LOW, LOW_LAST = Form(channels_last=True), Form(bf16=True), Form(channels_last=True, bf16=True)
WRONG, DEAD = Verdict(None, "it returns wrong numbers"), Verdict(None, "it ends its process (Aborted)", died=True)


def found(plain: float, last: Verdict, low: Verdict, low_last: Verdict) -> dict[str, Verdict]:
    verdicts = {PLAIN: Verdict(plain), LAST: last, LOW: low, LOW_LAST: low_last}
    return {f"bf16 steps: {form.name}": verdict for form, verdict in verdicts.items()}


def test_nothing_tried_is_plain() -> None:
    assert chosen(CASE, {}, "bf16") == Forms(PLAIN, PLAIN)


def test_the_fastest_that_is_right() -> None:
    assert chosen(CASE, found(4, Verdict(3), Verdict(2), Verdict(1)), "bf16") == Forms(PLAIN, LOW_LAST)
    assert chosen(CASE, found(4, Verdict(3), Verdict(2), WRONG), "bf16") == Forms(PLAIN, LOW)
    assert chosen(CASE, found(4, Verdict(3), WRONG, WRONG), "bf16") == Forms(PLAIN, LAST)


def test_a_layout_that_ended_a_process_is_not_trusted_in_another_type() -> None:
    assert chosen(CASE, found(4, Verdict(1), Verdict(2), DEAD), "bf16") == Forms(PLAIN, LOW)
    assert chosen(CASE, found(4, DEAD, Verdict(2), Verdict(1)), "bf16") == Forms(PLAIN, LOW)


def test_what_is_hardly_faster_stays_plain() -> None:
    assert chosen(CASE, found(4, Verdict(3.9), Verdict(5), Verdict(6)), "bf16") == Forms(PLAIN, PLAIN)


def test_without_the_plain_time_nothing_is_faster() -> None:
    verdicts = found(4, Verdict(3), Verdict(2), Verdict(1))
    del verdicts[f"bf16 steps: {PLAIN.name}"]
    assert chosen(CASE, verdicts, "bf16") == Forms(PLAIN, PLAIN)


def test_verdicts_for_another_precision_do_not_count() -> None:
    assert chosen(CASE, found(4, Verdict(3), Verdict(2), Verdict(1)), "fp32") == Forms(PLAIN, PLAIN)
