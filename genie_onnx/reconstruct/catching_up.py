"""Large maps are carried for few images, and the others catch up where maps are small.

    blocks 1 .. k with large maps      FEW images, block by block: their thousands of positions tell enough
    block k + 1                        the other images, from the network's input through both networks as they are by now

Every image passes every layer once, as before; what lies in memory is smaller by the square of the resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.importer import Network
from genie_onnx.reconstruct.store import ActivationStore, Stored

FEW = 64  # images
LARGE = 160_000  # elements that a block reads and hands on: two maps of 80 channels at 32x32
BATCH = 32  # samples copied at once


def large_blocks(network: Network, blocks: Sequence[Block], image: Tensor) -> int:
    """Return how many of `blocks`, from the first on, have large maps for an `image` [1, C, H, W]; a last block is never one."""
    values = tuple(dict.fromkeys(v for block in blocks for v in block.outputs if v in network.nodes))
    with torch.no_grad():
        found = network.extract(network.inputs, values)({network.inputs[0]: image})
    sizes = {network.inputs[0]: image.numel(), **{v: y.numel() for v, y in found.items()}}
    count = 0
    for block in blocks[:-1]:
        if sum(sizes.get(v, 0) for v in (*block.inputs, *block.outputs)) <= LARGE:
            break
        count += 1
    return count


def joined(store: ActivationStore, early: Mapping[str, Stored], late: Sequence[Stored]) -> dict[str, Stored]:
    """Return each value of `early` followed by its other samples, `late` in the same order; both are freed."""
    whole: dict[str, Stored] = {}
    for (name, first), rest in zip(early.items(), late, strict=True):

        def batches(parts: tuple[Stored, ...] = (first, rest)) -> Iterator[list[Tensor]]:
            for part in parts:
                for begin in range(0, len(part), BATCH):
                    yield [part.slice(begin, min(begin + BATCH, len(part)))]

        (whole[name],) = store.put(len(first) + len(rest), batches())
        first.free()
        rest.free()
    return whole
