"""Start values of every activation grid: one pass of the float network over some images, then the search of Eq. 6.

All values that share a grid are searched together, wherever in the network they arise.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from genie_onnx.errors import RunError
from genie_onnx.importer import Network
from genie_onnx.placement import Placement
from genie_onnx.quant import Grid, activation_grid

IMAGES = 256  # images looked at
ELEMENTS = 2**16  # elements of each value that the search looks at, beside the exact range


def calibrate(
    network: Network, placement: Placement, images: Tensor, batch_size: int, generator: torch.Generator
) -> dict[str, Grid]:
    """Return the searched grid of each ActivationSpec by name, from the float values on `images` [N, C, H, W] (first 256)."""
    roots = {value: spec for spec in placement.activations for value in spec.roots}
    if not roots:
        return {}
    part = network.extract(network.inputs, tuple(roots))
    images = images[:IMAGES]
    batches = math.ceil(len(images) / batch_size)
    samples: dict[str, list[Tensor]] = {value: [] for value in roots}
    ranges: dict[str, list[Tensor]] = {value: [] for value in roots}
    with torch.no_grad():
        for start in range(0, len(images), batch_size):
            values = part({network.inputs[0]: images[start : start + batch_size]})
            for value in roots:
                flat = values[value].flatten()
                wanted = math.ceil(ELEMENTS / batches)
                if flat.numel() > wanted:
                    chosen = torch.randint(flat.numel(), (wanted,), generator=generator, device=generator.device)
                    samples[value].append(flat[chosen])
                else:
                    samples[value].append(flat)
                ranges[value].append(torch.stack(flat.aminmax()))
    return {spec.name: _group_grid(spec.name, spec.bits, spec.roots, samples, ranges) for spec in placement.activations}


def _group_grid(
    name: str, bits: int, roots: tuple[str, ...], samples: Mapping[str, list[Tensor]], ranges: Mapping[str, list[Tensor]]
) -> Grid:
    sample = torch.cat([s for value in roots for s in samples[value]])
    limits = torch.stack([r for value in roots for r in ranges[value]])
    if not bool(torch.isfinite(limits).all()):
        raise RunError(f"value {name!r} is not finite on the calibration images: check them against the model's input range")
    return activation_grid(sample, limits[:, 0].min(), limits[:, 1].max(), bits)
