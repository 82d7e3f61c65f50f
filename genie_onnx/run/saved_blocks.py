"""Reconstructed blocks in a run directory: written as they are finished, read again, and each checked for being whole.

A block that is damaged counts as not finished; those after it stay, because it is made again bit by bit as it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from genie_onnx import reconstruct
from genie_onnx.errors import RunError
from genie_onnx.events import Notice
from genie_onnx.machine.atomic import write_text
from genie_onnx.placement import Placement
from genie_onnx.reconstruct import BlockResult, Codes
from genie_onnx.report import BlockLoss
from genie_onnx.run.directory import RunDirectory, finished_block


@dataclass(frozen=True)
class SavedBlock:
    """What a finished block contributed."""

    loss: BlockLoss
    codes: Codes


def save_block(run: RunDirectory, index: int, result: BlockResult) -> SavedBlock:
    """Write learnable block `index` to `run`; the file with its losses comes last and says that it is finished."""
    reconstruct.save(result.codes, run.block(index))
    loss = BlockLoss(result.block, *result.loss)
    digest = hashlib.sha256(run.block(index).read_bytes()).hexdigest()
    write_text(run.loss(index), json.dumps({**dataclasses.asdict(loss), "sha256": digest}))
    return SavedBlock(loss, result.codes)


def load_blocks(run: RunDirectory, names: Sequence[str], notice: Callable[[Notice], None]) -> dict[int, SavedBlock]:
    """Return the finished ones of the learnable blocks, which have these `names`; a notice tells of each that is damaged."""
    found = {}
    for index, name in enumerate(names):
        try:
            loss = finished_block(run, index)
            if loss is None:
                continue
            if loss.block != name:
                raise RunError(f"{run.loss(index)} is of block {loss.block}, not {name}")
            found[index] = SavedBlock(loss, reconstruct.load(run.block(index)))
        except RunError as error:
            notice(Notice(f"Block {index + 1} of {len(names)}, {name}, is made again: {error}."))
    return found


def fit(blocks: Iterable[SavedBlock], placement: Placement) -> bool:
    """Whether `blocks` have the bits of `placement`. Those chosen for a goal (bits.choice) may have been chosen again."""
    weights = {spec.value: spec.bits for spec in placement.weights}
    values = {spec.name: spec.bits for spec in placement.activations}
    return all(
        all(weights.get(name) == weight.qparams.bits for name, weight in block.codes.weights.items())
        and all(values.get(name) == grid.bits for name, grid in block.codes.activations.items())
        for block in blocks
    )


def load_grids(run: RunDirectory, values: Sequence[str], notice: Callable[[Notice], None]) -> Codes | None:
    """Return the grids of all `values`, None where they are not there or not whole (a notice tells)."""
    if not run.grids.exists():
        return None
    try:
        grids = reconstruct.load(run.grids)
    except RunError as error:
        notice(Notice(f"Grids are made again: {error}."))
        return None
    return grids if set(values) <= set(grids.activations) else None
