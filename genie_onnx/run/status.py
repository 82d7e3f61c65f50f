"""How far a run is, read from its directory: nothing is written, nothing heavy is loaded.

The step inside a batch or a block is known to the working process alone.
"""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from genie_onnx.config import QuantizeConfig, from_json
from genie_onnx.errors import ConfigError, RunError
from genie_onnx.report import finite
from genie_onnx.run.directory import RunDirectory, finished_block, read_settings, read_source

RunStage = Literal["images", "reconstruction", "last-pass", "export", "finished"]


@dataclass(frozen=True, kw_only=True)
class RunStatus:
    """What a run directory tells."""

    run_dir: str
    model: str | None  # path; None: the model was given in memory
    digest: str  # SHA-256 of the model, BatchNorm kept
    config: QuantizeConfig
    stage: RunStage  # what is being done, or comes next
    working: bool | None  # a process is at it now; None: that may not be found out
    process: str | None  # its number and host
    idle: float  # seconds since something was written
    batches_done: int  # distilled batches of images
    batches: int | None  # None: not known yet, or nothing is distilled
    blocks: dict[str, tuple[float, float] | None]  # first and last loss of each; None: not finished; no blocks: only images
    damaged: tuple[str, ...]  # a sentence for each file that is not whole: what it held is made again
    sizes: dict[str, int]  # bytes of images, codes, and of all there is
    output: str | None  # path of the quantised model; None: only images are made
    output_exists: bool
    quality: str | None  # the verdict on a finished run, as a line; None: not finished, or by an earlier version
    command: str | None  # goes on with the run; None: it was started from Python
    folder: str | None  # in which that command was given

    @property
    def blocks_done(self) -> int:
        """How many blocks are finished."""
        return sum(loss is not None for loss in self.blocks.values())

    def to_json(self) -> dict[str, Any]:
        """Return this as JSON values; a loss that is not a number (no iterations) becomes null."""
        return dict(finite({**dataclasses.asdict(self), "blocks_done": self.blocks_done}))


def status(run_dir: str | os.PathLike[str]) -> RunStatus:
    """Return how far the run in `run_dir` is. Raises ConfigError where that is no run directory, or a damaged one.

    >>> import genie_onnx
    >>> found = genie_onnx.status("digits.quant.genie")
    >>> f"{found.blocks_done} of {len(found.blocks)} blocks, working: {found.working}"
    '5 of 5 blocks, working: False'
    """
    run = RunDirectory(Path(run_dir))
    if not run.settings.is_file():
        what = "has no settings.json" if run.path.is_dir() else "is not there" if not run.path.exists() else "is a file"
        raise ConfigError(f"{str(run.path)!r} is not the directory of a run: it {what}. It is OUTPUT.genie beside the output")
    identity, _ = read_settings(run)
    source = read_source(run)
    if not source:
        raise ConfigError(f"{str(run.source)!r} is damaged: give the command of the run once more, it goes on and mends it")
    try:
        output, names = source.get("output"), [str(name) for name in source.get("blocks", ())]
        config = from_json(json.dumps(source["config"]))
        process = f"{source['process']} on {source['host']}"
    except (KeyError, TypeError) as error:
        raise ConfigError(f"{str(run.source)!r} was not written by this version of genie-onnx ({error!r})") from error
    blocks, damaged = _blocks(run, names)
    batches, done = _batches(run)
    working = run.is_working()
    files = _files(run.path)
    return RunStatus(
        run_dir=str(run.path),
        model=source.get("model"),
        digest=str(identity["model"]),
        config=config,
        stage=_stage(run, blocks, only_images=output is None, last_pass=config.last_pass > 0),
        working=working,
        process=process if working else None,
        idle=max(0.0, time.time() - max(found.st_mtime for path, found in files.items() if path != run.lock)),
        batches_done=done,
        batches=batches,
        blocks=blocks,
        damaged=tuple(damaged),
        sizes={
            "images": _size(files, run.images, run.contact_sheet, run.batches.parent),
            "codes": _size(files, run.grids, run.last_pass, run.block(0).parent),
            "all": _size(files, run.path),
        },
        output=output,
        output_exists=output is not None and Path(output).is_file(),
        quality=_quality(run),
        command=source.get("command"),
        folder=source.get("folder"),
    )


def _quality(run: RunDirectory) -> str | None:
    try:
        found = json.loads(run.report.read_text(encoding="utf-8"))["quality"]
        return f"{found['level']}: {found['reason']}"
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _blocks(run: RunDirectory, names: Iterable[str]) -> tuple[dict[str, tuple[float, float] | None], list[str]]:
    blocks: dict[str, tuple[float, float] | None] = {}
    damaged = []
    for index, name in enumerate(names):
        try:
            found = finished_block(run, index)
            blocks[name] = None if found is None else (found.before, found.after)
        except RunError as error:
            blocks[name] = None
            damaged.append(str(error))
    return blocks, damaged


def _batches(run: RunDirectory) -> tuple[int | None, int]:
    """Return how many batches there are to be, and how many there are."""
    done = len(list(run.batches.parent.glob("batch_*.npz")))
    try:
        return len(json.loads(run.batches.read_text(encoding="utf-8"))), done
    except (OSError, ValueError, TypeError):
        return None, done


def _stage(run: RunDirectory, blocks: dict[str, tuple[float, float] | None], *, only_images: bool, last_pass: bool) -> RunStage:
    if run.report.is_file() or (only_images and run.images.is_file()):
        return "finished"
    if not run.images.is_file():
        return "images"
    if None in blocks.values() or not run.grids.is_file():
        return "reconstruction"
    return "last-pass" if last_pass and not run.last_errors.is_file() else "export"


def _files(folder: Path) -> dict[Path, os.stat_result]:
    """Return every file below `folder`. Some may go while this looks: a run replaces files, and deletes values."""
    found = {}
    for parent, _, names in os.walk(folder):  # which passes over a folder that has gone
        for path in (Path(parent, name) for name in names):
            with suppress(FileNotFoundError):
                found[path] = path.stat()
    return found


def _size(files: Mapping[Path, os.stat_result], *wanted: Path) -> int:
    """Return the bytes of those of `files` that are `wanted`, or lie in a folder that is."""
    return sum(found.st_size for path, found in files.items() if not {path, *path.parents}.isdisjoint(wanted))
