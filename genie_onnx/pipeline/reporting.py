"""A finished run directory -> report.html: what is there is read, what the float model is needed for is made where it is there.

settings, source, report, history, images, codes, plan of bits, blocks, comparison -> report.page.Contents -> one file
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from genie_onnx import reconstruct
from genie_onnx.blocks import Block
from genie_onnx.comparison.comparison import compare
from genie_onnx.data import PathLike
from genie_onnx.data.arrays import open_array
from genie_onnx.errors import ConfigError, DataError, GenieError, InputError, RunError
from genie_onnx.events import Notice, Step
from genie_onnx.machine.atomic import write_text
from genie_onnx.pipeline.request import Request, request_from
from genie_onnx.report import finite
from genie_onnx.report.history import read_history
from genie_onnx.report.page import Contents, render
from genie_onnx.report.pictures import data_uris
from genie_onnx.run.directory import RunDirectory, read_settings, read_source
from genie_onnx.synthesis import viewable
from genie_onnx.validate.layerwise import Findings

SAMPLES, EFFECT_SAMPLES = 64, 16  # images that the file is compared on, and where effects are measured without being asked for
PICTURES = 48  # shown: fills rows of 2, 3, 4, 6, 8, 12 and 16


def html_report(
    run_dir: PathLike,
    output: PathLike | None = None,
    *,
    model: PathLike | None = None,
    effects: bool = False,
    progress: Callable[[Step], None] = lambda step: None,
) -> Path:
    """Make the HTML report of the finished run in `run_dir` (again) and return where it is.

    Args:
        run_dir: the directory of a finished `quantize`.
        output: None: report.html in `run_dir`.
        model: the float model, where it is no longer where it was.
        effects: measure what each block does to the outputs, alone and when it alone is not quantised: minutes.
        progress: is told of what `compare` is told of (events).

    What the run left out, because it was made by an earlier version, is made now where the float model is there, else the report
    says how to get it. Raises ConfigError where there is no finished run, or `model` is not its model.

    >>> import genie_onnx
    >>> genie_onnx.html_report("digits.quant.genie").name
    'report.html'
    """
    run = RunDirectory(Path(run_dir))
    page = run.page if output is None else Path(output)
    if not run.report.is_file():
        raise ConfigError(
            f"{run.path} does not hold a finished run of genie-onnx quantize: it has no {run.report.name}. Where it was "
            "begun, the same quantize command goes on where it stopped"
        )
    asked, why = effects or model is not None, ""
    if asked or not (run.blocks.is_file() and run.comparison.is_file()):
        try:
            _complete(run, model, effects, progress)
        except (InputError, RunError) as error:  # also what onnxruntime cannot run as it is: files for some targets
            if asked:
                raise
            why = str(error)
    _write(run, page, why)
    return page


def first_findings(
    blocks: Iterable[Block], run: RunDirectory, effects: bool, progress: Callable[[Step | Notice], None]
) -> Findings | str:
    """Compare the file of `run`, which has just finished with these `blocks`, with the float model; or say why that cannot be.

    The `effects` of blocks, which take minutes, are measured on few images. Whatever fails here, the model is written already.
    """
    progress(Step(stage="values"))  # not within: what it raises is to end the run
    run.comparison.unlink(missing_ok=True)  # of an earlier file of this run
    try:
        _save_structure(blocks, run)
        samples = EFFECT_SAMPLES if effects else SAMPLES
        return _save_comparison(run, _model(run, None), effects, lambda step: None, samples)
    except GenieError as error:  # what onnxruntime cannot run as it is: files for some targets
        return str(error)
    except Exception as error:  # a defect of the comparison is no reason to call a finished run failed
        progress(Notice(f"The model is finished, a comparison with the float model could not be made: {_line(error)}"))
        return _line(error)


def first_page(run: RunDirectory, why: str, progress: Callable[[Step | Notice], None]) -> Path | None:
    """Make the report of `run`, which has just finished; `why` says why what needs the float model is not there, if it is not.

    Whatever fails here, the model is written already: a notice says what it was, and there is no report.
    """
    try:
        _write(run, run.page, why)
    except Exception as error:  # a defect of the report is no reason to call a finished run failed
        progress(Notice(f"The model is finished, its HTML report could not be made: {_line(error)}. Once more: {_again(run)}"))
        return None
    return run.page


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or repr(error)


def _save_structure(blocks: Iterable[Block], run: RunDirectory) -> None:
    """Write what the report draws of `blocks` to `run`."""
    names = ("kind", "nodes", "inputs", "outputs", "weights")
    entries = [{"block": block.name, **{name: getattr(block, name) for name in names}} for block in blocks]
    write_text(run.blocks, json.dumps({"blocks": entries}))


def _complete(run: RunDirectory, model: PathLike | None, effects: bool, progress: Callable[[Step], None]) -> None:
    """Make what needs the float model. Raises InputError where that is not there, not the model of the run, or cannot be read."""
    identity, _ = read_settings(run)
    path = _model(run, model)
    prepared = _request(run, path).prepared()
    if prepared.digest != identity["model"]:
        raise ConfigError(f"{path} is not the model of the run in {run.path}, or was changed: give that one with --model")
    _save_structure(prepared.blocks, run)
    _save_comparison(run, path, effects, progress)


def _save_comparison(
    run: RunDirectory, model: Path, effects: bool, progress: Callable[[Step], None], samples: int = SAMPLES
) -> Findings:
    """Compare the run's file with `model` on the run's images, layer by layer."""
    request = _request(run, model)
    quantized = Path(read_source(run)["output"])
    if not quantized.is_file():
        raise ConfigError(f"the quantized model, {quantized}, is not there any more")
    files = (_from_here(model), _from_here(quantized))  # as they stand in the commands that the diagnosis proposes
    found = compare(
        *files,
        data=_from_here(run.images),
        samples=samples,
        effects=effects,
        input_size=request.input_size,
        set_inputs=request.set_inputs,
        progress=progress,
    )
    write_text(run.comparison, json.dumps(finite(found.to_json())))
    return found


def _from_here(path: Path) -> Path:
    """Return `path` as one would type it in this folder."""
    return path.absolute().relative_to(Path.cwd()) if path.absolute().is_relative_to(Path.cwd()) else path


def _model(run: RunDirectory, given: PathLike | None) -> Path:
    """Return where the float model is: `given`, else where the run had it. Raises ConfigError where it is not there."""
    path = read_source(run).get("model") if given is None else given
    if path is None or not Path(path).is_file():
        where = "which was given in memory" if path is None else str(path)
        raise ConfigError(f"the float model, {where}, is not there: give it with --model")
    return Path(path)


def _request(run: RunDirectory, model: Path) -> Request:
    """Return what was asked for of the float model, which lies at `model`."""
    try:
        return request_from(read_source(run), model)
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"{str(run.source)!r} was not written by this version of genie-onnx ({error!r})") from error


def _write(run: RunDirectory, page: Path, why: str = "") -> None:
    """Write the report of what is in `run` to `page`; `why` says why what needs the float model is not there."""
    try:
        write_text(page, render(_contents(run, why)))
    except OSError as error:
        raise RunError(f"cannot write the report to {page}: {error.strerror}") from error


def _contents(run: RunDirectory, why: str) -> Contents:
    report = dict(_read(run.report) or {})
    identity, machines = read_settings(run)
    source = read_source(run)
    history, comparison, structure = read_history(run.history), _read(run.comparison), _read(run.blocks)
    pictures, lost = _pictures(run, identity["shape"])
    again = _again(run)
    missing = [lost] * bool(lost)
    absent = ["The drawing of the network"] * (structure is None)
    absent += ["The comparison with the float model, layer by layer"] * (comparison is None)
    if absent:
        missing.append(f"{'. '.join(absent)}: {why}. Once more: {again} --model FLOAT.onnx")
    if comparison is not None and not any(block["share"] is not None for block in comparison["blocks"]):
        missing.append(f"What each block alone does to the outputs, which takes minutes: {again} --effects")
    if not history and report["settings"]["reconstruct"]["iterations"]:
        missing.append("Curves of losses: the run was made by an earlier version, which kept none. A new run will have them.")
    return Contents(
        model=Path(source.get("model") or "model").name,
        output=Path(source.get("output") or "the quantized model").name,
        run_dir=str(run.path),
        command=source.get("command"),
        report=report,
        machines=machines,
        pictures=pictures,
        curves=history,
        comparison=comparison,
        blocks=structure["blocks"] if structure else (),
        steps=_steps(run, len(report["blocks"])),
        bits=_read(run.bits),
        missing=missing,
    )


def _again(run: RunDirectory) -> str:
    """Return the command that makes the report of `run` again."""
    return shlex.join(["genie-onnx", "report", str(run.path)])


def _read(path: Path) -> dict[str, Any] | None:
    """Return the JSON in `path`, None where there is no file. Raises RunError where it is damaged."""
    if not path.is_file():
        return None
    try:
        return dict(finite(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError) as error:
        raise RunError(f"{path} is damaged: {error!r}. Delete it, and make the report again") from error


def _pictures(run: RunDirectory, shape: list[int]) -> tuple[list[str], str]:
    """Return the first calibration images as data URIs; where there are none, what to say about that."""
    try:
        file = open_array(run.images, (shape[0], shape[1], shape[2]))
        rows = file.rows(range(min(PICTURES, len(file))))
        return data_uris(viewable(np.stack(list(rows)))), ""
    except DataError as error:
        return [], f"The calibration images: {error}."


def _steps(run: RunDirectory, blocks: int) -> dict[str, tuple[float, float, float]]:
    """Return the smallest, the median and the largest step size of each weight."""
    found = {}
    last = [run.last_pass] if run.last_errors.exists() else []
    for file in [*map(run.block, range(blocks)), *last]:
        for name, weight in reconstruct.load(file).weights.items():
            steps = weight.qparams.scale
            found[name] = (float(steps.min()), float(np.median(steps)), float(steps.max()))
    return found
