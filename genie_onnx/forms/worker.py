"""The process that makes trials: python -m genie_onnx.forms.worker JOB FILE

JOB has {"threads": n, "seconds": s, "judge": "module:function", "trials": [...]}; FILE gets a line of JSON when the process is
ready, and one for each verdict, at once. Whoever started it looks after the clock; if that one is gone, an alarm ends the process
`seconds` after a trial began, whatever it is doing.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

from genie_onnx.forms.form import Case, Form, Trial
from genie_onnx.forms.verdicts import Verdict

Judge = Callable[[Trial], Verdict]


def packed(trial: Trial) -> dict[str, object]:
    """Return `trial` as JSON has it."""
    return asdict(trial)


def unpacked(plain: dict[str, dict[str, object]]) -> Trial:
    """Undo `packed`."""
    case = {key: tuple(value) if isinstance(value, list) else value for key, value in plain["case"].items()}
    return Trial(Case(**case), Form(**plain["form"]), plain["precision"])  # type: ignore[arg-type]


def torch_judge() -> Judge:
    """Return what makes trials with torch; the numbers of one case are made once."""
    from genie_onnx.forms.trial import Setting

    settings: list[Setting] = []

    def judge(trial: Trial) -> Verdict:
        if not settings or settings[-1].case != trial.case:
            settings[:] = [Setting(trial.case)]
        return settings[-1].judge(trial)

    return judge


def main(job: str, file: str) -> None:
    """Make all trials of `job`."""
    import torch

    todo = json.loads(Path(job).read_text(encoding="utf-8"))
    torch.set_num_threads(todo["threads"])
    module, name = todo["judge"].split(":")
    judge: Judge = getattr(import_module(module), name)()
    with Path(file).open("a", encoding="utf-8") as answers:
        print(json.dumps("ready"), file=answers, flush=True)
        for plain in todo["trials"]:
            if hasattr(signal, "alarm"):
                signal.alarm(todo["seconds"])  # without a handler it ends the process, inside of a call too
            try:
                verdict = judge(unpacked(plain))
            except (RuntimeError, ValueError) as error:  # torch refuses some forms
                verdict = Verdict(None, f"it is refused: {' '.join(str(error).split())[:100]}")
            print(json.dumps(asdict(verdict)), file=answers, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
