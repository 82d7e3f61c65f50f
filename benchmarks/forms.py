"""What it gains to give each convolution a form of its own, as ratios within one run, by turns in one process.

    python benchmarks/forms.py MODEL.onnx [MODEL.onnx ...]

    plain     contiguous float32 everywhere
    one       channels last everywhere, in bfloat16 where steps are made (before, the one choice for all); what was found to be
              wrong, to die or to hang in it is plain
    chosen    the forms that a run has

Two things are timed for each: values (a forward pass in float32) and a step (forward under bfloat16, and back to the image).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx

from genie_onnx.config import PlacementConfig, QuantizeConfig
from genie_onnx.errors import ConfigError
from genie_onnx.forms import PLAIN, Case, Form, Forms, Limits, Precision, Verdict, chosen, tried, verdicts
from genie_onnx.forms.form import Trial, trials_of
from genie_onnx.machine.compute import Compute, choose_compute
from genie_onnx.pipeline.forms import by_case, cases_of
from genie_onnx.preparation.prepare import prepare

IMAGES, ROUNDS = 8, 5
SIZE = (224, 224)  # where the model leaves it open


def one_for_all(case: Case, found: Mapping[str, Verdict], low: bool) -> Forms:
    """Return channels last for `case`, in bfloat16 for steps where `low`, or plain where that is not right."""
    values, steps = Form(channels_last=len(case.sample) > 2), Form(channels_last=len(case.sample) > 2, bf16=low)

    def right(form: Form, gradients: bool) -> Form:
        verdict = found.get(Trial(case, form, ("bf16" if low else "fp32") if gradients else None).name)
        return form if verdict is not None and verdict.seconds is not None else PLAIN

    return Forms(right(values, False), right(steps, True))


def seconds(module: fx.GraphModule, images: torch.Tensor, compute: Compute, step: bool) -> float:
    """Return the seconds of a forward pass, or of a step."""
    x = images.detach().requires_grad_(step)
    began = time.perf_counter()
    if step:
        with compute.products():
            outputs = module(x)
        sum(y.float().square().mean() for y in outputs).backward()
    else:
        with torch.no_grad():
            module(x)
    return time.perf_counter() - began


def main(models: list[str]) -> None:
    """Print a row for each model."""
    compute = choose_compute(QuantizeConfig(device="cpu"))
    low = compute.precision == "bf16"
    precision: Precision = "bf16" if low else "fp32"
    print(f"{verdicts.machine_key()['cpu']}, torch {torch.__version__}, {torch.get_num_threads()} threads, {compute.precision}")
    print(
        f"{'model':36} {'cases':>5} {'bad':>4} | values: plain/chosen  one/chosen | steps: plain/chosen  one/chosen   ms chosen"
    )
    for path in models:
        try:
            prepared = prepare(path, PlacementConfig())
        except ConfigError:
            prepared = prepare(path, PlacementConfig(), SIZE)
        cases = cases_of(prepared.network, prepared.shape)
        known = verdicts.load()
        todo = [t for case in cases for t in trials_of(case, precision) if t.name not in known.get(case.name, {})]
        new = by_case(todo, tried(todo, Limits(all=600)))
        if verdicts.can_keep():
            verdicts.keep(new)
        found = verdicts.merge(known, new)
        bad = sum(found[case.name][t.name].seconds is None for case in cases for t in trials_of(case, precision))
        settings = {
            "plain": {case: Forms() for case in cases},
            "one": {case: one_for_all(case, found[case.name], low) for case in cases},
            "chosen": {case: chosen(case, found[case.name], precision) for case in cases},
        }
        modules = {name: replace(prepared, forms=forms).network.module for name, forms in settings.items()}
        images = torch.randn(IMAGES, *prepared.shape).contiguous(memory_format=torch.channels_last)
        best: dict[tuple[str, bool], float] = {}
        for _ in range(ROUNDS):  # by turns: what slows the machine down slows all of them
            for key in ((name, step) for step in (False, True) for name in modules):
                taken = seconds(modules[key[0]], images, compute, key[1])
                best[key] = min(taken, best.get(key, taken))
        values, steps = ([best[name, step] / best["chosen", step] for name in ("plain", "one")] for step in (False, True))
        print(
            f"{path.rsplit('/', 1)[-1]:36} {len(cases):5} {bad:4} | {values[0]:20.2f} {values[1]:11.2f} | {steps[0]:19.2f} "
            f"{steps[1]:11.2f} {1e3 * best['chosen', True]:11.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
