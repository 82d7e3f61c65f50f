"""What values of the float network are on some images: random elements of each, and its range."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from genie_onnx.events import Step, Tally
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import ActivationSpec
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.quant import fake_quantize
from genie_onnx.reconstruct import group_grid
from genie_onnx.seeds import stream
from genie_onnx.targets import Constraints

IMAGES, BATCH, BATCH_PIXELS = 64, 16, 128 * 128  # images looked at, and at a time up to this resolution
ELEMENTS = 2**16  # of each value that are looked at


@dataclass(frozen=True)
class Seen:
    """Of values by name, from each batch: elements [K], and the least and the largest of all [2]."""

    samples: Mapping[str, list[Tensor]]
    ends: Mapping[str, list[Tensor]]

    def sqnr(self, value: str, spec: ActivationSpec, headroom: float, constraints: Constraints) -> float:
        """Return the dB of rounding `value` on the grid that fits the roots of `spec` together."""
        scale, zero_point = group_grid(spec, self.samples, self.ends, headroom, constraints)
        x = torch.cat(self.samples[value])
        noise = (fake_quantize(x, scale, int(zero_point), 2**spec.bits - 1) - x).square().sum()
        return 10 * math.log10(max(float(x.square().sum() / noise.clamp_min(1e-30)), 1e-30))


def look(
    prepared: Prepared,
    values: Collection[str],
    images: Tensor,
    seed: int,
    compute: Compute,
    progress: Callable[[Step], None],
) -> Seen:
    """Run the float network on the first IMAGES of `images` [N, C, H, W] and look at `values`."""
    network = prepared.network.to(compute.device)
    part = network.extract(network.inputs, sorted(values))
    generator, images = stream(seed, "own grids", compute.device), images[:IMAGES]
    size = max(1, min(BATCH, BATCH * BATCH_PIXELS // images[0, 0].numel()))
    wanted = math.ceil(ELEMENTS / math.ceil(len(images) / size))
    seen = Seen({v: [] for v in part.outputs}, {v: [] for v in part.outputs})
    tell = Tally(progress, Step(stage="selections", iterations=len(images)))
    for done, batch in enumerate(images.split(size), start=1):
        with torch.no_grad(), Compute(compute.device).products():
            found = part({network.inputs[0]: batch.to(compute.device)})
        for value, x in found.items():
            flat = x.flatten()
            few = torch.randint(len(flat), (wanted,), generator=generator, device=flat.device) if len(flat) > wanted else None
            seen.samples[value].append(flat if few is None else flat[few])
            seen.ends[value].append(torch.stack(flat.aminmax()))
        tell(min(done * size, len(images)))
    return seen
