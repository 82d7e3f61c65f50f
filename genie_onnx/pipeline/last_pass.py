"""The last pass of a run: made once, kept where images held back gain, and read again by whoever goes on with the run.

codes of all blocks -> reconstruct.last_pass -> last_pass.safetensors, last_pass.json -> codes

A pass that was killed leaves nothing, and is made again from its beginning: the same bits.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable

from torch import Tensor

from genie_onnx import reconstruct
from genie_onnx.bits.choice import MEASURED, class_output
from genie_onnx.config import QuantizeConfig
from genie_onnx.errors import RunError
from genie_onnx.events import Notice, Step
from genie_onnx.importer import Network
from genie_onnx.machine.atomic import write_text
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.reconstruct import Codes, Twin
from genie_onnx.reconstruct.last_pass import Errors, LastPass, last_pass
from genie_onnx.run.directory import RunDirectory


def choose_last_pass(
    prepared: Prepared,
    networks: Callable[[], tuple[Network, Twin]],
    codes: Codes,
    images: Tensor,
    config: QuantizeConfig,
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> Codes:
    """Return `codes` as the last pass leaves them: that of an earlier run in `run`, else one that is made now and saved there.

    `networks`, the one whose weights are rounded and the float one, are asked for where they are needed. `config.last_pass` is
    above 0. A notice says what came of it.
    """
    team = compute.team

    def saved() -> LastPass | None:
        try:
            return load_last_pass(run) if run.last_errors.exists() else None
        except RunError as error:
            progress(Notice(f"The last pass is made again: {error}."))
            return None

    found = team.once(saved)
    if found is None:
        network, twin = networks()
        made = last_pass(
            network,
            prepared.placement,
            prepared.blocks,
            codes,
            images,
            epochs=config.last_pass,
            batch_size=config.reconstruct.batch_size,
            scores=class_output(prepared, images[:MEASURED], compute),
            seed=config.seed,
            compute=compute,
            progress=progress,
            twin=twin,
            constraints=config.target.constraints,
        )
        team.once(lambda: _save(run, made))
        found = made
    progress(Notice(str(found)))
    return codes.merged(found.codes)


def load_last_pass(run: RunDirectory) -> LastPass:
    """Return what the last pass of `run` came to. Raises RunError where that is not there, or not what was written."""
    try:
        entry = json.loads(run.last_errors.read_text(encoding="utf-8"))
        digest = hashlib.sha256(run.last_pass.read_bytes()).hexdigest()
        before, after = (Errors(float(e["values"]), float(e["outputs"])) for e in (entry["before"], entry["after"]))
        held, kept, expected = int(entry["held"]), bool(entry["kept"]), entry["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run.last_errors} or {run.last_pass.name} is damaged: {error!r}") from error
    if digest != expected:
        raise RunError(f"{run.last_pass} is damaged: it is not what was written there")
    return LastPass(before, after, held, kept, reconstruct.load(run.last_pass))


def _save(run: RunDirectory, made: LastPass) -> None:
    reconstruct.save(made.codes, run.last_pass)
    digest = hashlib.sha256(run.last_pass.read_bytes()).hexdigest()
    errors = {"before": dataclasses.asdict(made.before), "after": dataclasses.asdict(made.after)}
    write_text(run.last_errors, json.dumps({**errors, "held": made.held, "kept": made.kept, "sha256": digest}))
