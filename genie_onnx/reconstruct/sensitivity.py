"""What the weights of each block, at each width, do to the outputs of the network: everything else stays float.

    damage of a block = sum over outputs of  |y' - y|^2 / |y|^2,    of a classifier's scores less their mean over classes

The divergence of class probabilities (ZeroQ, section 3.3) says more of each image and less of the network: the few images
near a boundary make nearly all of it. On a CIFAR ResNet-20 the logarithms of the blocks' damages differed by 0.7 to 0.9 (standard
deviation) between two sets of 64 images by that measure, and by 0.1 by this one.

Measured end to end: a block's values are changed and carried through all later blocks. Earlier blocks are not run again, but
later ones are, for every block and width: half a pass through the network for each, so few images have to do. A local error would
cost less, and does not tell a block whose error dies out from one whose error grows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.compute import Compute
from genie_onnx.importer import Network
from genie_onnx.placement import Placement
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import final_block
from genie_onnx.reconstruct.walk import learned_blocks

BATCH = 16  # images at a time


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
    """Return the damage of every block that learns something, by its name and by width.

    Args:
        codes: of all weights in `placement`, by width.
        images: float32 [N, C, H, W].
        scores: the output that has one number a class, before or after a Softmax; None where the network chooses no class.
        tell: is told how many images are done.
    """
    weights_only = replace(placement, activations=())
    learned = learned_blocks(blocks, placement)
    device = compute.device
    floats = [network.extract(block.inputs, block.outputs).module for block in blocks]
    rounded = {
        block.name: {width: final_block(network, block, weights_only, found, device) for width, found in codes.items()}
        for block in blocks
        if block.name in learned
    }
    totals = {name: dict.fromkeys(codes, 0.0) for name in learned}

    def onwards(values: dict[str, Tensor], start: int) -> dict[str, Tensor]:
        """Return `values` with those of the float blocks from `start` on."""
        for block, function in zip(blocks[start:], floats[start:], strict=True):
            values.update(zip(block.outputs, function(*(values[v] for v in block.inputs)), strict=True))
        return values

    done = 0
    with torch.no_grad(), Compute(device).products():
        for batch in images.split(BATCH):
            values = {network.inputs[0]: batch.to(device)}
            expected = onwards(dict(values), 0)
            expected = {v: expected[v] for v in network.outputs}
            for place, block in enumerate(blocks):
                inputs = [values[v] for v in block.inputs]
                for width, function in rounded.get(block.name, {}).items():
                    changed = {**values, **dict(zip(block.outputs, function(*inputs), strict=True))}
                    found = onwards(changed, place + 1)
                    totals[block.name][width] += len(batch) * float(damage(expected, found, scores))
                values.update(zip(block.outputs, floats[place](*inputs), strict=True))
            done += len(batch)
            tell(done)
    return {name: {width: total / len(images) for width, total in by_width.items()} for name, by_width in totals.items()}


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
