"""What each block does to the outputs: the network with this block alone quantised, and with everything but this block.

    noise_b = sum over outputs of |y - y_b|^2 / |y|^2,   y: the float network's, y_b: with block b alone quantised
    share_b = noise_b / sum of all noise_b

Noise of several blocks adds up about as powers do, where it is small; where the outputs are all noise, shares still say where it
begins. The price is two runs of the network a block and image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from genie_onnx.graph import query
from genie_onnx.validate.compare import STEP
from genie_onnx.validate.layerwise.findings import Effect
from genie_onnx.validate.layerwise.pairing import Pairing
from genie_onnx.validate.layerwise.switch import add_switches
from genie_onnx.validate.layerwise.tallies import OutputTally
from genie_onnx.validate.session import Array, Session


@dataclass(frozen=True, kw_only=True)
class BlockEffect:
    """Of one block; see findings.BlockFinding."""

    alone: Effect
    all_but: Effect
    share: float


@dataclass(frozen=True, kw_only=True)
class Effects:
    """By block, for those that have something quantised; and of all of them together: that is the file, as far as its differences
    from the float network are known."""

    blocks: Mapping[str, BlockEffect]
    all: Effect


def effects(
    reference: ir.Model, pairing: Pairing, blocks: Mapping[str, str], images: Array, progress: Callable[[int, int], None]
) -> Effects:
    """Measure the effect of each block of `blocks` (the block of each node, by names) on `images` [N, C, H, W].

    `progress` is told how many runs of a batch are done, and of how many.
    """
    model, switches = add_switches(reference, pairing, blocks)
    session, name = Session(model), str(query.image_input(reference).name)
    alone = {block: OutputTally() for block in switches}
    all_but = {block: OutputTally() for block in switches}
    everything = OutputTally()
    names = frozenset(switches)
    variants = [(frozenset[str](), None), (names, everything)]
    variants += [variant for b in switches for variant in ((frozenset({b}), alone[b]), (names - {b}, all_but[b]))]
    runs = -(-len(images) // STEP) * len(variants)
    exact: Mapping[str, Array] = {}
    wanted = query.image_outputs(reference)
    done = 0
    for start in range(0, len(images), STEP):
        batch = np.ascontiguousarray(images[start : start + STEP])
        for on, tally in variants:
            outputs = session({name: batch, **{switch: np.array(block in on) for block, switch in switches.items()}})
            if tally is None:
                exact = {output: outputs[output] for output in wanted}
            else:
                tally.add(exact, outputs)
            done += 1
            progress(done, runs)
    noise = sum(tally.noise() for tally in alone.values())
    return Effects(
        blocks={
            block: BlockEffect(
                alone=_effect(alone[block]),
                all_but=_effect(all_but[block]),
                share=alone[block].noise() / noise if noise else 0.0,
            )
            for block in switches
        },
        all=_effect(everything),
    )


def _effect(tally: OutputTally) -> Effect:
    outputs = tally.comparisons()
    agreements = [output.agreement for output in outputs if output.agreement is not None]
    return Effect(sqnr_db=min(output.sqnr_db for output in outputs), agreement=min(agreements, default=None))
