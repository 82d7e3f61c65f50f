"""What is odd about a runtime that computes the right numbers: nothing in integers, slower than the float model, or no
time for that."""

from __future__ import annotations

from genie_onnx.validate.runtimes.finding import RuntimeFinding

CLEARLY_SLOWER = 0.8  # times as fast: both were timed in turns and each by its shortest run, which a busy machine moves by less


def doubt(finding: RuntimeFinding, rounded: bool) -> str | None:
    """Return a sentence about a `finding` without a problem, None where there is nothing to say.

    `rounded`: whether the file rounds values; one with rounded weights alone computes in floats by design.
    """
    if finding.problem is not None:
        return None
    slower = finding.speedup is not None and finding.speedup < CLEARLY_SLOWER
    floats = rounded and finding.integer_layers == 0 and bool(finding.float_layers)
    untimed = finding.float_problem is not None
    if not (slower or floats or untimed):
        return None
    said = [f"none of {finding.float_layers} convolutions and matrix products computes in integers"] if floats else []
    said += [f"the file is slower than the float model ({finding.speedup:.2f} x as fast)"] if slower else []
    said += [f"the float model cannot be timed: {finding.float_problem}"] if untimed else []
    return f"{' '.join(filter(None, (finding.runtime, finding.version)))}: {', and '.join(said)}"
