"""Every block that has a weight to learn, one after the other; what an earlier run has finished is taken from its directory."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Mapping

from genie_onnx import reconstruct
from genie_onnx.config import QuantizeConfig
from genie_onnx.events import Notice, Step
from genie_onnx.images.kept import Calibration
from genie_onnx.machine.compute import Compute
from genie_onnx.pipeline.twins import headroom, networks
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.reconstruct import Affine, BlockResult, Codes
from genie_onnx.report import BlockLoss
from genie_onnx.run.directory import RunDirectory
from genie_onnx.run.saved_blocks import SavedBlock, fit, load_blocks, load_grids, save_block


def reconstruct_blocks(
    prepared: Prepared,
    affines: Callable[[], Mapping[str, Affine]],
    config: QuantizeConfig,
    calibration: Calibration,
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> tuple[Codes, list[BlockLoss]]:
    """Reconstruct every block that an earlier run into the same directory has not finished, saving each as it is done."""
    names = reconstruct.learned_blocks(prepared.blocks, prepared.placement)
    team = compute.team

    def finished() -> tuple[dict[int, SavedBlock], Codes | None]:
        for left in run.path.glob(f"{run.values.name}*"):  # by a run that was killed
            shutil.rmtree(left)
        blocks = load_blocks(run, names, progress)
        if not fit(blocks.values(), prepared.placement):
            progress(Notice("All blocks are made again: those of the run directory have other bits than were chosen now."))
            blocks.clear()
        grids = load_grids(run, [spec.name for spec in prepared.placement.activations], progress)
        if grids is None or len(blocks) < len(names):
            for file in (run.grids, run.last_errors):  # of blocks that are made again
                file.unlink(missing_ok=True)
        return blocks, grids

    blocks, grids = team.once(finished)
    codes = functools.reduce(Codes.merged, (block.codes for block in blocks.values()), Codes())
    if grids is None or len(blocks) < len(names):

        def save(result: BlockResult) -> None:
            index = names.index(result.block)
            blocks[index] = team.once(lambda: save_block(run, index, result))

        with reconstruct.ActivationStore(
            compute.device, compute.budget, run.values_of(team.rank), compact=config.closed_form is not None
        ) as store:
            network, twin = networks(prepared, affines())
            grids = reconstruct.reconstruct(
                network,
                prepared.placement,
                prepared.blocks,
                calibration.images,
                config.reconstruct,
                input_range=calibration.input_range,
                headroom=headroom(affines(), calibration.headroom),
                seed=config.seed,
                compute=compute,
                progress=progress,
                finished=save,
                done=codes,
                constraints=config.target.constraints,
                store=store,
                closed=config.closed_form,
                pieces=prepared.pieces,
                twin=twin,
            )
        activations = Codes(activations=grids.activations)
        team.once(lambda: reconstruct.save(activations, run.grids))
    return codes.merged(grids), [blocks[index].loss for index in range(len(names))]
