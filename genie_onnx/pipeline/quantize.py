"""The whole of genie-onnx on one screen: a float ONNX file in, a quantised one and a report out.

file -> prepared graph -> images -> grids of selections, bits -> reconstruct, block by block -> codes -> QDQ file -> report
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TypeAlias

import onnx
from torch import Tensor

from genie_onnx import reconstruct
from genie_onnx.bits.choice import choose_bits
from genie_onnx.bits.plan import BitPlan
from genie_onnx.config import QuantizeConfig, to_json
from genie_onnx.data import PathLike, listed
from genie_onnx.delivery.deliver import Delivery, deliver, write
from genie_onnx.events import Notice, Step
from genie_onnx.grids.equalisation_choice import choose_equalisation
from genie_onnx.grids.own_choice import choose_own_grids
from genie_onnx.images.calibration import calibration_images, data_images
from genie_onnx.importer import Network
from genie_onnx.machine.memory import memory_errors
from genie_onnx.machine.team import ALONE, Team
from genie_onnx.pipeline.forms import choose_forms
from genie_onnx.pipeline.identity import machine, run_identity
from genie_onnx.pipeline.last_pass import choose_last_pass
from genie_onnx.pipeline.planning import ImagePlan, Plan, planned
from genie_onnx.pipeline.reconstruction import reconstruct_blocks
from genie_onnx.pipeline.reporting import first_findings, first_page
from genie_onnx.pipeline.request import Request
from genie_onnx.pipeline.result import Result, save_report
from genie_onnx.pipeline.twins import closed_form_for, matching_affines, networks
from genie_onnx.preparation.prepare import Prepared, Source, check_import
from genie_onnx.reconstruct import Affine
from genie_onnx.report import BlockLoss, Report, versions
from genie_onnx.report.history import record
from genie_onnx.requirements import Requirements
from genie_onnx.run.directory import RunDirectory, open_run, write_source
from genie_onnx.seeds import stream
from genie_onnx.validate.quality import Quality

Event: TypeAlias = ImagePlan | BitPlan | Step | Notice  # the plan (of `quantize` a Plan) comes first
Progress = Callable[[Event], None]


@memory_errors()
def quantize(
    model: Source,
    output: PathLike | None = None,
    *,
    config: QuantizeConfig | None = None,
    data: PathLike | Sequence[PathLike] = (),
    input_size: tuple[int, int] | None = None,
    run_dir: PathLike | None = None,
    bn_from: PathLike | None = None,
    set_inputs: Mapping[str, Sequence[float]] | None = None,
    memory_budget: str | None = None,
    requirements: Requirements | None = None,
    command: str | None = None,
    progress: Progress = lambda event: None,
    team: Team = ALONE,
) -> Result:
    """Quantize a float ONNX model and verify the file that results.

    Args:
        model: path of the float model, or the model itself.
        output: where the quantised model goes; None: MODEL.quant.onnx beside the input. Never the input.
        config: every setting; the defaults are the paper's.
        data: an image folder, npz or npy file to calibrate on, or several; none: images are made (`config.images`).
        input_size: (H, W), where the model leaves them open.
        run_dir: keeps images and finished blocks; None: OUTPUT.genie. A run killed half-way goes on from there.
        bn_from: an ONNX with BatchNorm kept, a torch state_dict or safetensors of the same network, to distil from where the
            model's own BatchNorm is folded; refused where its weights are not those of the model.
        set_inputs: numbers for inputs beside the image, which the quantised model then does not have (graph.fix_inputs).
        memory_budget: what the large tensors of the run may take: "8GB", or "16GB,8GB" for a GPU and the machine beside it;
            None: a share of what is free. What does not fit lies in files in `run_dir`, or (distillation) goes through the
            network in pieces, which changes the order of sums and nothing else.
        requirements: what the file has to reach; None: not to be useless. A file that does not is written as OUTPUT.useless.onnx.
        command: how to start this run again, for `status` to say.
        progress: told the plan, then every step and notice (events). What it raises ends the run, which can go on later:
            `cancellable` makes one that another thread can end.
        team: the processes that make this call together (`join_team`), with the same arguments. The first one alone writes files
            and tells `progress`; all return the same.

    Returns the file, its report (losses, parity, nearness to the float model, sizes), the verdict on it and the run directory. A
    bad verdict raises nothing: `result.require()` does.
    Raises InputError for what cannot be used, before any long work; RunError (ParityError) where the run fails.

    >>> import genie_onnx
    >>> from genie_onnx import QuantizeConfig, ReconstructConfig
    >>> quick = QuantizeConfig(samples=16, images="procedural", reconstruct=ReconstructConfig(iterations=20))
    >>> result = genie_onnx.quantize("digits.onnx", config=quick)
    >>> result.output.name, result.run_dir.name
    ('digits.quant.onnx', 'digits.quant.genie')
    >>> result.report.parity["ok"], result.quality.ok
    (True, True)
    """
    request = Request(
        model=model,
        config=config or QuantizeConfig(),
        output=output,
        data=tuple(listed(data)),
        input_size=input_size,
        run_dir=run_dir,
        bn_from=bn_from,
        set_inputs=set_inputs or {},
        memory_budget=memory_budget,
        requirements=requirements or Requirements(),
        command=command,
        team=team,
    )
    return _quantized(request, silent if team.rank > 0 else progress)


def _quantized(request: Request, progress: Progress) -> Result:
    """Do what is asked for, from the plan to the report."""
    started, team = time.monotonic(), request.team
    todo = planned(request)
    prepared, config = todo.prepared, todo.config
    given = data_images(prepared, config, request.data) if request.data else None
    progress(todo)
    count = config.samples if given is None or todo.choice.kind != "data" else len(given.images)
    team.share(min(count, config.reconstruct.batch_size))
    progress(Step(stage="check"))
    team.once(lambda: check_import(prepared, stream(config.seed, "check")))
    notices = list(todo.notices)

    def tell(event: Event) -> None:
        if isinstance(event, Notice):
            notices.append(event.text)
        elif isinstance(event, Step) and team.rank == 0:
            record(event, RunDirectory(todo.run_dir).history)
        progress(event)

    source = {
        **dataclasses.replace(request, config=config).source(),
        "output": str(todo.output.absolute()),
        "blocks": reconstruct.learned_blocks(prepared.blocks, prepared.placement),
    }
    identity = run_identity(prepared, config, given)
    opened = open_run(todo.run_dir, identity, source, machine(todo.compute), tell)
    with opened if team.rank == 0 else nullcontext(RunDirectory(todo.run_dir)) as run:
        prepared = prepared.formed(choose_forms(prepared, config, todo.choice, run, todo.compute, tell))
        todo = dataclasses.replace(todo, prepared=prepared)
        calibration = calibration_images(prepared, config, todo.choice, given, run, todo.compute, tell)
        del given  # the same images once more
        own = choose_own_grids(prepared, config, calibration, run, todo.compute, tell)
        prepared = own.applied(prepared, config.placement, config.target.constraints)
        if config.bit_goal is not None:
            bits = choose_bits(prepared, config, calibration, run, todo.compute, tell)
            tell(bits)
            prepared = bits.applied(prepared, config.placement, config.target.constraints)
        # Made when it is asked for: a run that was finished before needs it no more.
        affines = functools.cache(partial(_affines, prepared, config, todo, calibration.images, tell))
        if config.closed_form is not None and config.closed_form.equalise:
            network, constraints = partial(_matched, prepared, affines), config.target.constraints
            prepared = choose_equalisation(
                prepared, network, calibration.images, constraints, config.seed, run, todo.compute, tell
            ).applied(prepared)
        todo = dataclasses.replace(todo, prepared=prepared)

        fitted = dataclasses.replace(config, closed_form=closed_form_for(todo.choice, config.closed_form))
        codes, losses = reconstruct_blocks(prepared, affines, fitted, calibration, run, todo.compute, tell)
        if config.last_pass:
            pair = partial(_pair, prepared, affines)
            codes = choose_last_pass(prepared, pair, codes, calibration.images, config, run, todo.compute, tell)

        metadata = {"version": versions()["genie-onnx"], "images": todo.choice.images, "settings": to_json(config)}

        def finish() -> tuple[Path, Report, Quality]:
            delivery = deliver(prepared, codes, config.target, calibration.judges, request.requirements, metadata, tell)
            report = _report(todo, delivery, losses, len(calibration.images), notices, time.monotonic() - started)
            path = write(delivery, todo.output, [] if isinstance(request.model, onnx.ModelProto) else [Path(request.model)])
            write_source(run, {**source, "output": str(path.absolute())})
            save_report(report, path, run)
            return path, report, delivery.verdict.quality

        def explain() -> tuple[Report, Quality, Path | None]:
            findings = first_findings(prepared.blocks, run, quality.bad, tell)
            if isinstance(findings, str):
                return report, quality, first_page(run, findings, tell)
            explained = quality.explained(findings)
            found = dataclasses.replace(report, quality=explained.to_json(), notices=tuple(notices))
            save_report(found, path, run)
            return found, explained, first_page(run, "", tell)

        path, report, quality = team.once(finish)
        report, quality, page = team.once(explain)
        return Result(path, report, quality, run.path, page)


def silent(event: Event) -> None:
    """Tell nobody of `event`."""


def _report(
    todo: Plan, delivery: Delivery, losses: Sequence[BlockLoss], samples: int, notices: Sequence[str], seconds: float
) -> Report:
    placement, verdict = todo.prepared.placement, delivery.verdict
    return Report(
        settings=dataclasses.asdict(todo.config),
        images=todo.choice.images,
        images_reason=todo.choice.reason,
        notices=tuple(notices),
        samples=samples,
        device=str(todo.compute.device),
        blocks=tuple(losses),
        sizes=delivery.sizes.to_json(),
        weights={spec.value: spec.bits for spec in placement.weights},
        activations={spec.name: spec.bits for spec in placement.activations},
        kept_float=dict(placement.float_nodes),
        parity=verdict.parity.to_json(),
        comparison=verdict.comparison.to_json(),
        held_back=verdict.held_back_kind,
        quality=verdict.quality.to_json(),
        seconds=seconds,
    )


def _affines(prepared: Prepared, config: QuantizeConfig, todo: Plan, images: Tensor, tell: Progress) -> dict[str, Affine]:
    """Return what brings made images to the statistics that they should have in the float network, by value."""
    if config.closed_form is None or not config.closed_form.match:
        return {}
    return matching_affines(prepared, config, todo.choice, images, todo.compute, tell)


def _matched(prepared: Prepared, affines: Callable[[], Mapping[str, Affine]]) -> Network:
    return reconstruct.with_affines(prepared.network, affines())


def _pair(prepared: Prepared, affines: Callable[[], Mapping[str, Affine]]) -> tuple[Network, reconstruct.Twin]:
    return networks(prepared, affines())
