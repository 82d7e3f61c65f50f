"""How far a run is, as lines."""

from __future__ import annotations

import datetime
import shlex
from math import isfinite
from pathlib import Path

from genie_onnx_cli.show import console, size

from genie_onnx import RunStatus

_STAGES = {
    "images": "calibration images",
    "reconstruction": "reconstruction",
    "last-pass": "last pass",
    "export": "export and verification",
    "finished": "finished",
}


def status(found: RunStatus) -> None:
    """Print what is done, what is not, and what to do."""
    config, bits = found.config, found.config.placement
    model = "a model in memory" if found.model is None else found.model
    console.print(f"model      {model}   (SHA-256 {found.digest[:12]}...)")
    console.print(
        f"settings   W{bits.wbits}A{bits.abits}, {config.samples} images, {config.reconstruct.iterations} steps a block, target "
        f"{config.target.name}, seed {config.seed}, device {config.device}"
    )
    console.print(f"stage      {_STAGES[found.stage]}; {_process(found)}")
    if found.batches is not None:
        console.print(f"images     {found.batches_done} of {found.batches} batches")
    if found.blocks:
        console.print(f"blocks     {found.blocks_done} of {len(found.blocks)}")
    for name, loss in found.blocks.items():
        if loss is not None:
            learned = all(map(isfinite, loss))
            said = f"loss {loss[0]:.4g} -> {loss[1]:.4g}" if learned else "rounded, nothing to learn"
            console.print(f"           {name}: {said}")
    for sentence in found.damaged:
        console.print(f"damaged    {sentence}; it is made again")
    sizes = found.sizes
    console.print(f"on disk    images {size(sizes['images'])}, codes {size(sizes['codes'])}, in all {size(sizes['all'])}")
    if found.output is not None:
        there = "" if found.output_exists else " (not there)" if found.stage == "finished" else " (not yet)"
        console.print(f"output     {found.output}{there}")
    if found.quality is not None:
        console.print(f"verdict    {found.quality}")
    if found.stage != "finished" and not found.working:
        console.print(f"go on with {_command(found)}")


def _process(found: RunStatus) -> str:
    since = f"last written {datetime.timedelta(seconds=round(found.idle))} ago"
    if found.working is None:
        return f"whether a process is at it cannot be found out; {since}"
    return f"process {found.process} is at it; {since}" if found.working else f"no process is at it; {since}"


def _command(found: RunStatus) -> str:
    if found.command is None:
        return f"the same call in Python, with run_dir={found.run_dir!r}"
    here = found.folder is None or Path(found.folder) == Path.cwd()
    return found.command if here else f"cd {shlex.quote(str(found.folder))} && {found.command}"
