"""What rounding a part of the network does to its outputs, while everything else stays float: the weights of a block, or a value.

    damage = sum over outputs of  |y' - y|^2 / |y|^2,    of a classifier's scores less their mean over classes

The divergence of class probabilities (ZeroQ, section 3.3) says more of each image and less of the network: the few images
near a boundary make nearly all of it. On a CIFAR ResNet-20 the logarithms of the blocks' damages differed by 0.7 to 0.9 (standard
deviation) between two sets of 64 images by that measure, and by 0.1 by this one.

Measured end to end: what is changed is carried through all later blocks. Earlier blocks are not run again, but later ones are,
for every change: half a pass through the network for each, so few images have to do. A local error would cost less, and does
not tell a block whose error dies out from one whose error grows.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import ActivationSpec, Placement
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import final_block
from genie_onnx.reconstruct.walk import learned_blocks

BATCH = 16  # images at a time

Function = Callable[..., tuple[Tensor, ...]]
Change = Mapping[int, Function]  # what blocks become, by their place; the others stay float
K = TypeVar("K", bound=Hashable)


def sensitivities(
    network: Network,
    placement: Placement,
    blocks: Sequence[Block],
    codes: Mapping[int, Codes],
    images: Tensor,
    scores: str | None,
    compute: Compute,
    tell: Callable[[int], None] = lambda done: None,
) -> dict[str, dict[int, float]]:
    """Return the damage that the weights of every block that learns something do alone, by its name and by width.

    Args:
        codes: of all weights in `placement`, by width.
        images: float32 [N, C, H, W].
        scores: the output that has one number a class, before or after a Softmax; None where the network chooses no class.
        tell: is told how many images are done.
    """
    weights_only = replace(placement, activations=())
    learned = set(learned_blocks(blocks, placement))
    changes = {
        (block.name, width): {place: final_block(network, block, weights_only, found, compute.device)}
        for place, block in enumerate(blocks)
        if block.name in learned
        for width, found in codes.items()
    }
    found = _damages(network, blocks, changes, images, scores, compute, tell)
    return {name: {width: found[name, width] for width in codes} for name in learned_blocks(blocks, placement)}


def value_sensitivities(
    network: Network,
    placement: Placement,
    blocks: Sequence[Block],
    grids: Sequence[tuple[ActivationSpec, Codes]],
    images: Tensor,
    scores: str | None,
    compute: Compute,
    tell: Callable[[int], None] = lambda done: None,
) -> list[float]:
    """Return the damage that each of `grids` does alone: the values of an ActivationSpec on the grid that the codes have for it.

    `placement` says who reads floats where others read rounded values; the rest as in `sensitivities`.
    """
    reads = [_read(network, block) for block in blocks]
    changes = {}
    for number, (spec, codes) in enumerate(grids):
        alone = replace(placement, weights=(), activations=(spec,))
        touched = [place for place, values in enumerate(reads) if not values.isdisjoint(spec.roots)]
        changes[number] = {place: final_block(network, blocks[place], alone, codes, compute.device) for place in touched}
    found = _damages(network, blocks, changes, images, scores, compute, tell)
    return [found[number] for number in range(len(grids))]


def _read(network: Network, block: Block) -> set[str]:
    """Return the values that something inside `block` reads: a block's outputs are rounded by those who read them."""
    nodes = network.extract(block.inputs, block.outputs).nodes
    return {value for value, node in nodes.items() if any(user.op != "output" for user in node.users)}


def _damages(
    network: Network,
    blocks: Sequence[Block],
    changes: Mapping[K, Change],
    images: Tensor,
    scores: str | None,
    compute: Compute,
    tell: Callable[[int], None],
) -> dict[K, float]:
    """Return what each of `changes` alone does to the outputs, a mean over `images` [N, C, H, W]."""
    device = compute.device
    floats = [network.extract(block.inputs, block.outputs).module for block in blocks]
    totals = dict.fromkeys(changes, 0.0)

    def onwards(values: dict[str, Tensor], start: int, change: Change) -> dict[str, Tensor]:
        """Return `values` with those of the blocks from `start` on."""
        for place in range(start, len(blocks)):
            function = change.get(place, floats[place])
            values.update(zip(blocks[place].outputs, function(*(values[v] for v in blocks[place].inputs)), strict=True))
        return values

    done = 0
    with torch.no_grad(), Compute(device).products():
        for batch in images.split(BATCH):
            values = {network.inputs[0]: batch.to(device)}
            expected = onwards(dict(values), 0, {})
            expected = {v: expected[v] for v in network.outputs}
            for place, block in enumerate(blocks):
                for key, change in changes.items():
                    if min(change, default=None) == place:
                        found = onwards(dict(values), place, change)
                        totals[key] += len(batch) * float(damage(expected, found, scores))
                values.update(zip(block.outputs, floats[place](*(values[v] for v in block.inputs)), strict=True))
            done += len(batch)
            tell(done)
    return {key: total / len(images) for key, total in totals.items()}


def damage(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], scores: str | None) -> Tensor:
    """Return how far outputs `found` are from those `expected`, a number of at least 0; both by name, [N, ...].

    Of a network whose outputs are all integers (an ArgMax), it is the share of them that differ.
    """
    if scores is not None:
        logits = (log_probabilities(y[scores]) for y in (expected, found))
        y, z = (x - x.mean(1, keepdim=True) for x in logits)
        return (z - y).square().sum() / y.square().sum().clamp_min(1e-12)
    ratios = [
        (found[v] - y).square().sum() / y.square().sum().clamp_min(1e-12) for v, y in expected.items() if y.is_floating_point()
    ]
    return torch.stack(ratios or [(found[v] != y).float().mean() for v, y in expected.items()]).sum()


def log_probabilities(scores: Tensor) -> Tensor:
    """Return the logarithms of class probabilities, of scores [N, K, ...] or of probabilities that a Softmax made of them."""
    scores = scores.flatten(1)
    sums = scores.sum(1)
    if bool((scores >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all()):
        return scores.clamp_min(1e-12).log()
    return scores.log_softmax(1)
