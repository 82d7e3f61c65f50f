"""In which form a CPU computes each convolution: tried in a process of its own, compared, timed, then chosen.

    cases of a network --trials (worker: trial)--> verdicts --choose--> Forms of each case --> convolution modules (convolve)

torch's CPU libraries have convolutions that never return, end the process or return wrong numbers, all of them in bfloat16 or
with channels last, and on some machines alone. What is contiguous and float32 is what everybody runs, and needs no trial.
"""

from genie_onnx.forms.choose import chosen
from genie_onnx.forms.convolve import convolve
from genie_onnx.forms.form import PLAIN, Case, Form, Forms, Precision
from genie_onnx.forms.trials import Limits, tried
from genie_onnx.forms.verdicts import Verdict, Verdicts, verdict_file

__all__ = [
    "PLAIN",
    "Case",
    "Form",
    "Forms",
    "Limits",
    "Precision",
    "Verdict",
    "Verdicts",
    "chosen",
    "convolve",
    "tried",
    "verdict_file",
]
