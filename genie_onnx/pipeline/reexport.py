"""A finished run -> a file for another target: in seconds where its numbers allow it, else optimised again from its images."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from genie_onnx import reconstruct
from genie_onnx.bits.plan import BitPlan, plan_from_json
from genie_onnx.config import QuantizeConfig, to_json
from genie_onnx.data import PathLike
from genie_onnx.delivery.deliver import deliver, report_path, require_reachable, write
from genie_onnx.delivery.fitting import unmet
from genie_onnx.delivery.tflite_file import qdq_output, require_own
from genie_onnx.errors import ConfigError, RunError
from genie_onnx.grids.equalisation import Equalisation, equalisation_from_json
from genie_onnx.grids.own import OwnGrids, own_grids_from_json
from genie_onnx.images.kept import saved_judges
from genie_onnx.machine.atomic import write_text
from genie_onnx.machine.memory import memory_errors
from genie_onnx.pipeline.last_pass import load_last_pass
from genie_onnx.pipeline.quantize import Event, quantize
from genie_onnx.pipeline.request import Request, request_from
from genie_onnx.pipeline.result import Result
from genie_onnx.placement import Placement, place
from genie_onnx.preparation.prepare import Prepared, output_path
from genie_onnx.reconstruct import Codes
from genie_onnx.report import Report
from genie_onnx.requirements import Requirements
from genie_onnx.run.directory import RunDirectory
from genie_onnx.targets import Target


@dataclass(frozen=True)
class _Finished:
    """What a run directory tells of a finished run."""

    run: RunDirectory
    model: Path
    request: Request  # of that model
    digest: str  # of the model, when the run was made
    report: dict[str, Any]
    version: str  # of genie-onnx, that made it
    output: Path  # the quantised file, when the run was made

    def beside_the_file(self, target: str) -> Path:
        """Return the name of the file for `target` beside the quantised one, wherever that and the run directory are now."""
        here = self.run.path.absolute().parent
        moved = here / self.output.name  # both were moved or copied together
        folder = here if moved.is_file() or not self.output.is_file() else self.output.parent
        stem = self.output.name.removesuffix(".onnx").removesuffix(".quant")
        return folder / f"{stem}.{target}.onnx"


@memory_errors()
def export(
    run_dir: PathLike,
    target: Target,
    output: PathLike | None = None,
    *,
    model: PathLike | None = None,
    reoptimize: bool = False,
    memory_budget: str | None = None,
    requirements: Requirements | None = None,
    progress: Callable[[Event], None] = lambda event: None,
) -> Result:
    """Export the finished run in `run_dir` for `target`, verified like any other file.

    Args:
        run_dir: the directory of a finished `quantize`.
        target: a row of TARGETS, or one of your own.
        output: None: beside the quantised file, under its name with TARGET in place of "quant" (behind it where it has none).
        model: the float model, where it is no longer where it was.
        reoptimize: where the numbers do not meet the target's constraints, learn them again from the run's images, in
            OUTPUT.genie; where they do, nothing is learned.
        memory_budget, requirements, progress: as for `quantize`.

    Returns what `quantize` returns, for the new file.
    Raises ConfigError where the run is not finished, the model another, or the numbers do not fit and `reoptimize` is False.

    >>> import genie_onnx
    >>> result = genie_onnx.export("digits.quant.genie", genie_onnx.TARGETS["int4"])    # of a finished `quantize`
    >>> result.output.name
    'digits.int4.onnx'
    """
    started = time.monotonic()
    found = _read(Path(run_dir), model)
    made = found.request
    config = _for_target(found, target)
    path = output_path(found.model, found.beside_the_file(target.name) if output is None else qdq_output(output, target))
    if target.form.style == "tflite":
        require_own(path, output)
    constraints = made.config.target.constraints
    prepared = made.prepared()
    if config.closed_form is not None:
        prepared = prepared.with_own_biases()
    if found.digest != prepared.digest:
        raise ConfigError(f"{found.model} is not the model of the run in {run_dir}, or was changed: give that one with --model")
    requirements = requirements or Requirements()
    require_reachable(prepared, requirements)
    own = _own_grids(found.run)
    wanted = place(prepared.deploy, config.placement, target.constraints, own.values)
    prepared = own.applied(prepared, config.placement, constraints)
    if config.bit_goal is not None:
        bits = _bit_plan(found.run)
        wanted = bits.applied(prepared.placed(wanted), config.placement, target.constraints).placement
        prepared = bits.applied(prepared, config.placement, constraints)
    if config.closed_form is not None and config.closed_form.equalise:
        prepared = _equalisation(found.run).applied(prepared)
    codes = _codes(found.run, prepared)
    if config.last_pass:
        codes = codes.merged(load_last_pass(found.run).codes)
    problems = unmet(prepared.placement, codes, wanted, target.constraints)
    if problems and reoptimize:
        return quantize(
            found.model,
            path,
            config=config,
            data=[found.run.images],
            input_size=made.input_size,
            set_inputs=made.set_inputs,
            memory_budget=memory_budget,
            requirements=requirements,
            progress=progress,
        )
    if problems:
        blocks = len(reconstruct.learned_blocks(prepared.blocks, prepared.placement))
        raise ConfigError(
            f"target {target.name} needs other numbers than the run in {run_dir} has: {'; '.join(problems)}. All {blocks} blocks "
            "have to be optimised again, the images need not be made again: --reoptimize"
        )
    judges = saved_judges(found.run)
    metadata = {"version": found.version, "images": found.report["images"], "settings": to_json(config)}
    codes = _regrouped(codes, prepared.placement, wanted)
    delivery = deliver(dataclasses.replace(prepared, placement=wanted), codes, target, judges, requirements, metadata, progress)
    quality = delivery.verdict.quality
    report = Report(
        **{
            **found.report,
            "settings": dataclasses.asdict(config),
            "sizes": delivery.sizes.to_json(),
            "parity": delivery.verdict.parity.to_json(),
            "comparison": delivery.verdict.comparison.to_json(),
            "held_back": delivery.verdict.held_back_kind,
            "quality": quality.to_json(),
            "seconds": time.monotonic() - started,
        }
    )
    path = write(delivery, path, [found.model])
    write_text(report_path(path), report.to_json())
    return Result(path, report, quality, found.run.path)


def _for_target(found: _Finished, target: Target) -> QuantizeConfig:
    """Return the settings of the run for `target`. Raises ConfigError where that cannot hold the bits of the run."""
    try:
        return dataclasses.replace(found.request.config, target=target)
    except ConfigError as error:
        again = f"genie-onnx quantize {found.model} --target {target.name}"
        raise ConfigError(
            [f"{problem}. Bits are options of quantize, not of export: {again}, with such bits" for problem in error.problems]
        ) from error


def _read(path: Path, model: PathLike | None) -> _Finished:
    run = RunDirectory(path)
    unfinished = f"{path} does not hold a finished run of genie-onnx quantize"
    if not run.settings.is_file():
        raise ConfigError(f"{unfinished}: it has no {run.settings.name}")
    missing = [file.name for file in (run.source, run.grids, run.images, run.report) if not file.is_file()]
    if missing:
        raise ConfigError(
            f"{unfinished}: it has no {' and no '.join(missing)}. The same quantize command goes on where it stopped"
        )
    try:
        source = json.loads(run.source.read_text(encoding="utf-8"))
        digest = str(json.loads(run.settings.read_text(encoding="utf-8"))["identity"]["model"])
        report = json.loads(run.report.read_text(encoding="utf-8"))
        given = source["model"] if model is None else model
        request = request_from(source, Path(given or ""))
        version = str(report["versions"]["genie-onnx"])
        written = Path(source["output"])
    except (ValueError, KeyError, TypeError) as error:
        raise ConfigError(
            f"{unfinished}: {run.settings.name}, {run.source.name} or {run.report.name} is damaged ({error!r})"
        ) from error
    if given is None:
        raise ConfigError("the run was made of a model in memory: give the model's file with --model")
    if not Path(given).is_file():
        raise ConfigError(f"the model of the run, {given}, is not there any more: give it with --model")
    return _Finished(run, Path(given), request, digest, report, version, written)


def _own_grids(run: RunDirectory) -> OwnGrids:
    """Return the grids of selections that the run chose. Raises RunError where they are not there any more."""
    try:
        return own_grids_from_json(run.own_grids.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{run.own_grids} cannot be read ({error}): it was changed since the run finished") from error


def _equalisation(run: RunDirectory) -> Equalisation:
    """Return the factors that the run scaled channels by. Raises RunError where they are not there any more."""
    try:
        return equalisation_from_json(run.equalisation.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RunError) as error:
        raise RunError(f"{run.equalisation} cannot be read ({error}): it was changed since the run finished") from error


def _bit_plan(run: RunDirectory) -> BitPlan:
    """Return the bits that the run chose. Raises RunError where they are not there any more."""
    try:
        return plan_from_json(run.bits.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise RunError(f"{run.bits} cannot be read ({error}): it was changed since the run finished") from error


def _regrouped(codes: Codes, made: Placement, wanted: Placement) -> Codes:
    """Return `codes` with a grid for each group of `wanted`, where `made` has one for several of them (a pool and its input)."""
    groups = {spec.name: made.activation_of(spec.name) for spec in wanted.activations}
    grids = {name: codes.activations[spec.name] for name, spec in groups.items() if spec is not None}
    return dataclasses.replace(codes, activations=grids)


def _codes(run: RunDirectory, prepared: Prepared) -> Codes:
    blocks = reconstruct.learned_blocks(prepared.blocks, prepared.placement)
    codes = Codes()
    for index in range(len(blocks)):
        codes = codes.merged(reconstruct.load(run.block(index)))
    codes = codes.merged(reconstruct.load(run.grids))
    lacking = [spec.value for spec in prepared.placement.weights if spec.value not in codes.weights]
    lacking += [spec.name for spec in prepared.placement.activations if spec.name not in codes.activations]
    if lacking:
        raise RunError(f"the run in {run.path} lacks the codes of {', '.join(lacking[:5])}: it was changed since it finished")
    return codes
