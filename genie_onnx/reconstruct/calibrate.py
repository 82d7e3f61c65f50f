"""Start values of every activation grid: one pass of the float network over some images, then the search of Eq. 6.

All values that share a grid are searched together, wherever in the network they arise.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from genie_onnx.errors import RunError
from genie_onnx.events import Step, Tally
from genie_onnx.importer import Network
from genie_onnx.placement import ActivationSpec, Placement
from genie_onnx.quant import ANY, NORM, Grid, activation_grid, range_grid
from genie_onnx.targets import Constraints

IMAGES = 256  # images looked at
WIDE_BITS = 8  # grids with resolution to spare
BATCH, BATCH_PIXELS = 64, 128 * 128  # images run at once, up to this resolution; fewer above: all values are held together
ELEMENTS = 2**16  # elements of each value that the search looks at, beside the exact range


def calibrate(
    network: Network,
    placement: Placement,
    images: Tensor,
    generator: torch.Generator,
    headroom: float = 1.0,
    constraints: Constraints = ANY,
    pieces: int = 1,
    progress: Callable[[Step], None] = lambda step: None,
    norm: float = NORM,
    input_range: tuple[float, float] | None = None,
) -> dict[str, Grid]:
    """Return the grid of each ActivationSpec by name, from the float values on `images` [N, C, H, W] (first 256).

    `headroom` above 1 is for images that are not real ones: what the 8-bit values of real images span is underestimated by
    them (by up to half in the last blocks of a ResNet-20), and 8 bits have resolution to spare, 4 bits have not. Grids of
    WIDE_BITS then span `headroom` times the range, all others are searched. `constraints` are those of the target. A batch is
    run in so many `pieces`, for less memory; which elements are looked at stays the same. `norm`: exponent of the error.
    `input_range` is what real images span where the model takes them: the network's input is 8-bit data already, so its grid is
    that range, and not searched on images that may span less.
    """
    roots = {value: spec for spec in placement.activations for value in spec.roots}
    if not roots:
        return {}
    part = network.extract(network.inputs, tuple(roots))
    images = images[:IMAGES]
    batch_size = max(1, min(BATCH, BATCH * BATCH_PIXELS // images[0, 0].numel()))
    batches = math.ceil(len(images) / batch_size)
    tell = Tally(progress, Step(stage="grids", iterations=len(images) + len(placement.activations)))
    wanted = math.ceil(ELEMENTS / batches)
    samples: dict[str, list[Tensor]] = {value: [] for value in roots}
    ranges: dict[str, list[Tensor]] = {value: [] for value in roots}
    for done, batch in enumerate(images.split(batch_size), start=1):
        chosen: dict[str, Tensor] = {}
        ends = dict.fromkeys(roots, 0)
        for piece in batch.split(math.ceil(len(batch) / pieces)):
            with torch.no_grad():
                values = part({network.inputs[0]: piece.to(generator.device)})
            for value in roots:
                flat = values.pop(value).flatten()
                if value not in chosen:
                    chosen[value] = _choice(flat.numel() * len(batch) // len(piece), wanted, generator)
                    samples[value].append(flat.new_empty(len(chosen[value])))
                inside = chosen[value] - ends[value]
                ends[value] += flat.numel()
                own = (inside >= 0) & (inside < flat.numel())
                samples[value][-1][own] = flat[inside[own]]
                ranges[value].append(torch.stack(flat.aminmax()))
        tell(min(done * batch_size, len(images)))
    grids = {}
    for done, spec in enumerate(placement.activations, start=1):
        grids[spec.name] = group_grid(spec, samples, ranges, headroom, constraints, norm)
        tell(len(images) + done)
    image = placement.activation_of(network.inputs[0])
    if image is not None and input_range is not None:
        grids[image.name] = range_grid(*input_range, image.bits, constraints)
    return grids


def _choice(count: int, wanted: int, generator: torch.Generator) -> Tensor:
    """Return the numbers of all `count` elements, or of `wanted` random ones where there are more."""
    if count > wanted:
        return torch.randint(count, (wanted,), generator=generator, device=generator.device)
    return torch.arange(count, device=generator.device)


def group_grid(
    spec: ActivationSpec,
    samples: Mapping[str, Sequence[Tensor]],
    ranges: Mapping[str, Sequence[Tensor]],
    headroom: float,
    constraints: Constraints,
    norm: float = NORM,
) -> Grid:
    """Return the grid of `spec`, of what its roots are: by value elements of them [K], and ends (least, largest) of ranges [2].

    `norm`: exponent of the error that is searched for the least.

    Raises RunError where a range is not finite.
    """
    sample = torch.cat([s for value in spec.roots for s in samples[value]])
    limits = torch.stack([r for value in spec.roots for r in ranges[value]])
    if not bool(torch.isfinite(4 * headroom * limits).all()):  # nor would the range be, from one limit to the other
        raise RunError(f"value {spec.name!r} is not finite on the calibration images: check them against the model's input range")
    low, high = limits[:, 0].min(), limits[:, 1].max()
    if headroom > 1 and spec.bits >= WIDE_BITS:
        wide = range_grid(headroom * float(low), headroom * float(high), spec.bits, constraints)
        return Grid(wide.scale.to(low.device), wide.zero_point.to(low.device))
    return activation_grid(sample, low, high, spec.bits, constraints, norm)
