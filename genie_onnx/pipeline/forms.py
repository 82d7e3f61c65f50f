"""The forms of all convolutions of a run: what is known of them is taken, what is not is tried, and the run directory keeps them.

    network --run once--> cases --verdicts of this machine, trials of what is missing--> forms by case --import_graph--> networks

A run that goes on takes the forms that it began with, so that its file is the same. On another machine they are chosen anew: what
is right on one may hang on the other.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx

from genie_onnx.config import QuantizeConfig
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.forms import Case, Form, Forms, Limits, Precision, Verdict, Verdicts, chosen, tried, verdicts
from genie_onnx.forms.form import Trial, trials_of
from genie_onnx.images.choice import Choice
from genie_onnx.importer import Convolution, Network
from genie_onnx.machine.atomic import write_text
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.run.directory import RunDirectory

RUN, ESTIMATE = Limits(), Limits(trial=3.0, start=8.0, all=3.0)  # seconds that trials may take
# What a plain convolution takes, about: multiplications a second, and so many for an element where there are few of them
RATE, PER_ELEMENT = 2e10, 64
VALUES, GRADIENTS = 12.0, 3.0  # passes of an image through closed form and what is around it; what a step takes, in passes
A_TRIAL = 0.15  # seconds, about
WORTH = 30.0  # seconds of convolutions below which nothing is tried: a process that imports torch takes some of them

Tell = Callable[[Step | Notice], None]


def choose_forms(
    prepared: Prepared, config: QuantizeConfig, choice: Choice, run: RunDirectory, compute: Compute, tell: Tell
) -> Mapping[Case, Forms]:
    """Return the forms of the convolutions of a run, which `run` keeps from the first time on; none for a GPU.

    A case that is not there is computed in the plain form.
    """
    if compute.device.type != "cpu":
        return {}
    cases = cases_of(prepared.network, prepared.shape)
    return compute.team.once(lambda: _chosen(cases, pays(cases, config, choice), run, _precision(compute), tell))


def estimated_forms(
    prepared: Prepared, config: QuantizeConfig, choice: Choice, run: RunDirectory, compute: Compute
) -> tuple[Mapping[Case, Forms], float]:
    """Return the forms that a run would have by what is known, and by trials for some seconds; and the seconds that trials of the
    rest will take in the run. Until then what is not known is plain."""
    if compute.device.type != "cpu":
        return {}, 0.0
    cases, precision = cases_of(prepared.network, prepared.shape), _precision(compute)
    kept = _kept(run, cases)
    if kept is not None:
        return kept, 0.0
    if not pays(cases, config, choice):
        return {}, 0.0
    found = _verdicts(cases, precision, ESTIMATE, lambda event: None)
    unknown = sum(trial.name not in found.get(c.name, {}) for c in cases for trial in trials_of(c, precision))
    return _forms(cases, found, precision), min(unknown * A_TRIAL, RUN.all)


def cases_of(network: Network, shape: Sequence[int]) -> Counter[Case]:
    """Return the convolutions that an image of `shape` [C, H, W] goes through, and how often each."""
    recorder = _Recorder(network.module)
    with torch.no_grad():
        recorder.run(torch.zeros(1, *shape))
    return recorder.cases


def pays(cases: Mapping[Case, int], config: QuantizeConfig, choice: Choice) -> bool:
    """Whether the convolutions of a run take so long that trials are worth their time."""
    image = sum(count * max(case.products, PER_ELEMENT * case.elements) for case, count in cases.items()) / RATE
    steps = {"refined": config.distill.refine_iterations, "data": 0, "procedural": 0}
    made = steps.get(choice.kind, config.distill.iterations)
    learned = config.reconstruct.iterations * config.reconstruct.batch_size
    return image * (VALUES * config.samples + GRADIENTS * (made * config.samples + learned)) > WORTH


class _Recorder(fx.Interpreter):
    """Runs a network and counts its convolutions."""

    def __init__(self, module: fx.GraphModule) -> None:
        super().__init__(module)
        self.cases: Counter[Case] = Counter()

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        module = self.fetch_attr(target)
        if isinstance(module, Convolution):
            self.cases[module.case(*args[:2])] += 1
        return super().call_module(target, args, kwargs)


def _precision(compute: Compute) -> Precision:
    return "bf16" if compute.precision == "bf16" else "fp32"


def _chosen(cases: Counter[Case], pays: bool, run: RunDirectory, precision: Precision, tell: Tell) -> dict[Case, Forms]:
    """Take the forms that `run` has, or choose them and write them down."""
    kept = _kept(run, cases)
    if kept is not None:
        return kept
    if run.forms.exists():
        tell(Notice("The forms of convolutions are chosen anew, for this machine: numbers may differ in their last bits."))
    found = _verdicts(cases, precision, RUN, tell) if pays else {}
    forms = _forms(cases, found, precision)
    packed = {case.name: {"values": own.values.name, "steps": own.steps.name} for case, own in forms.items()}
    write_text(run.forms, json.dumps({"machine": verdicts.machine_key(), "forms": packed}, indent=1))
    return forms


def _forms(cases: Mapping[Case, int], found: Verdicts, precision: Precision) -> dict[Case, Forms]:
    return {case: chosen(case, found[case.name], precision) for case in cases if case.name in found}


def _verdicts(cases: Mapping[Case, int], precision: Precision, limits: Limits, tell: Tell) -> Verdicts:
    """Return what is known of `cases`, and what trials within `limits` show of the rest: the dearest ones first."""
    known = verdicts.load()
    order = sorted(cases, key=lambda case: -cases[case] * max(case.products, PER_ELEMENT * case.elements))
    missing = [t for case in order for t in trials_of(case, precision) if t.name not in known.get(case.name, {})]
    if not missing or not verdicts.can_keep():
        return known
    told = Tally(tell, Step(stage="kernels", iterations=len(missing)))
    new = by_case(missing, tried(missing, limits, told))
    verdicts.keep(new)
    return verdicts.merge(verdicts.load() or known, new)


def by_case(trials: Sequence[Trial], found: Sequence[Verdict]) -> Verdicts:
    """Return the verdicts `found` of the first `trials` as files have them."""
    result: Verdicts = {}
    for trial, verdict in zip(trials, found, strict=False):
        result.setdefault(trial.case.name, {})[trial.name] = verdict
    return result


def _kept(run: RunDirectory, cases: Mapping[Case, int]) -> dict[Case, Forms] | None:
    """Return the forms that `run` has written down, None where there are none, or for another machine, or the file is damaged."""
    try:
        found = json.loads(run.forms.read_text(encoding="utf-8"))
        if found["machine"] != verdicts.machine_key():
            return None
        return {
            case: Forms(**{use: Form.named(name) for use, name in found["forms"][case.name].items()})
            for case in cases
            if case.name in found["forms"]
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
