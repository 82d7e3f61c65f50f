"""Finding the values that no grid of 8 bits can hold, by what rounding each alone does to the outputs.

    suspects    mean over channels c of min(1, (step^2 / 12) / var(v_c))  >=  SUSPECT      most of some channels would be one code
    lost        SQNR of the outputs with v alone rounded to 8 bits        <   LOST

The first is seen in one pass of the float network, the second decides: a channel may be small and of no use. In YOLOX-nano two of
308 values are lost, what the first SiLU reads and writes (-81..89): each alone leaves the outputs at 9 dB, no other below 20, and
without the two the file has 14 dB in place of 8. Layers beside them stay in float (placement.wide). Channels that equalisation
will bring to one size are left to it.
"""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence

import torch
from torch import Tensor

from genie_onnx import graph
from genie_onnx.config import QuantizeConfig
from genie_onnx.events import Step
from genie_onnx.grids.equalisation import equalises, narrow_values, quantised_nodes
from genie_onnx.grids.own import WideValue
from genie_onnx.grids.value_samples import Seen, look
from genie_onnx.images.kept import Calibration
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import ActivationSpec, joins, layers_beside, selections
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.reconstruct import Codes, group_grid, settled, value_sensitivities
from genie_onnx.targets import WIDE

SUSPECT = 0.05  # share of the channels, counted by how much of each is lost
LOST = 12.0  # dB
IMAGES = 16  # that channels are seen on ...
MEASURED = 4  # ... and that a network is run on for each suspect
MOST = 32  # suspects that are measured


def wide_values(
    prepared: Prepared, config: QuantizeConfig, calibration: Calibration, compute: Compute, progress: Callable[[Step], None]
) -> tuple[WideValue, ...]:
    """Return the values that 8 bits cannot hold, topological, as measured on some of the images."""
    constraints, images = config.target.constraints, calibration.images
    specs = [
        dataclasses.replace(spec, bits=min(WIDE, constraints.value_bits[1]))
        for spec in _candidates(prepared, config)
        if any(layers_beside(prepared.deploy, [v], prepared.placement.own_grids) for v in spec.values)
    ]
    if not specs:
        return ()
    lost = shares(prepared, specs, images[:IMAGES], compute)
    suspects = [spec for spec in specs if lost[spec.name] >= SUSPECT]
    suspects = sorted(suspects, key=lambda spec: -lost[spec.name])[:MOST]
    if not suspects:
        return ()
    seen = look(prepared, {root for spec in suspects for root in spec.roots}, images[:IMAGES], config.seed, compute, progress)
    alone = [(spec, _codes(prepared, spec, seen, calibration.headroom, config)) for spec in suspects]
    few = images[:MEASURED]
    network = prepared.network.to(compute.device)
    harm = value_sensitivities(network, prepared.placement, prepared.blocks, alone, few, None, compute)
    found = {
        spec.name: WideValue(value=spec.name, bits=spec.bits, share=lost[spec.name], output_db=_db(damage))
        for spec, damage in zip(suspects, harm, strict=True)
        if _db(damage) < LOST
    }
    return tuple(found[spec.name] for spec in specs if spec.name in found)


def _candidates(prepared: Prepared, config: QuantizeConfig) -> list[ActivationSpec]:
    """Return the specs of values that are neither the image, nor left to equalisation, nor the other choices."""
    image, constraints = prepared.network.inputs[0], config.target.constraints
    chosen = {str(v.name) for v, _ in (*selections(prepared.deploy), *joins(prepared.deploy))}  # they have choices of their own
    scaled = config.closed_form is not None and config.closed_form.equalise and equalises(constraints)
    free = graph.channels(prepared.deploy, quantised_nodes(prepared)) if scaled else None
    narrow = narrow_values(prepared)
    found = []
    for spec in prepared.placement.activations:
        scalable = free is not None and any(v in narrow and len(free.free(v)) for v in spec.roots)
        if image not in spec.values and spec.name not in chosen and not scalable:
            found.append(spec)
    return found


def shares(prepared: Prepared, specs: Sequence[ActivationSpec], images: Tensor, compute: Compute) -> dict[str, float]:
    """Return what share of the channels rounding leaves nothing of, the largest of a spec's roots, by name.

    Channels are on the second axis, of values of rank 2 and 3 on the last one, too (tokens); those that do not vary do not count.
    """
    roots = {root for spec in specs for root in spec.roots}
    sums: dict[tuple[str, int], Tensor] = {}  # number, sum and sum of squares [3, C]
    ends: dict[str, Tensor] = {}
    parts = _parts(prepared, roots, compute)
    for image in images.split(1):
        for name, x in _seen(prepared, parts, roots, image.to(compute.device)):
            least, most = x.aminmax()
            both = torch.stack([-least, most])
            ends[name] = torch.maximum(ends[name], both) if name in ends else both
            for axis in {1, x.ndim - 1} if x.ndim in (2, 3) else {1} if x.ndim > 1 else set():
                rows = x.movedim(axis, 0).flatten(1).double()
                new = torch.stack([torch.full_like(rows[:, 0], rows.shape[1]), rows.sum(1), rows.square().sum(1)])
                known = sums.get((name, axis))
                if known is None or known.shape == new.shape:  # an axis of open length has no channels
                    sums[name, axis] = new if known is None else known + new
    found = {}
    for spec in specs:
        span = torch.stack([ends[root] for root in spec.roots]).amax(0).clamp_min(0).sum()
        noise = float(span / (2**spec.bits - 1)) ** 2 / 12
        found[spec.name] = max((_share(sums[key], noise) for key in sums if key[0] in spec.roots), default=0.0)
    return found


def _parts(prepared: Prepared, roots: Collection[str], compute: Compute) -> list[Network]:
    """Return a network for each block: its inputs in, its outputs and those of `roots` that it computes out."""
    network = prepared.network.to(compute.device)
    parts = []
    for block in prepared.blocks:
        own = network.extract(block.inputs, block.outputs).nodes.keys() - set(block.inputs)
        parts.append(network.extract(block.inputs, tuple(dict.fromkeys((*block.outputs, *sorted(own.intersection(roots)))))))
    return parts


def _seen(prepared: Prepared, parts: Sequence[Network], roots: Collection[str], image: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield the values `roots` of the float network for one image [1, C, H, W], block by block: not all are held at once."""
    readers = Counter(value for part in parts for value in part.inputs)
    values = {prepared.network.inputs[0]: image}
    for part in parts:
        with torch.no_grad(), Compute(image.device).products():
            made = part({value: values[value] for value in part.inputs})
        yield from ((name, x) for name, x in made.items() if name in roots)
        readers.subtract(part.inputs)
        values = {value: x for value, x in {**values, **made}.items() if readers[value] > 0}


def _share(sums: Tensor, noise: float) -> float:
    count, total, squares = sums
    variance = squares / count - (total / count).square()
    variance = variance[variance > 1e-12 * variance.amax()]
    return float((noise / variance).clamp(max=1).mean()) if len(variance) else 0.0


def _codes(prepared: Prepared, spec: ActivationSpec, seen: Seen, headroom: float, config: QuantizeConfig) -> Codes:
    grid = group_grid(spec, seen.samples, seen.ends, headroom, config.target.constraints)
    alone = dataclasses.replace(prepared.placement, weights=(), activations=(spec,))
    return Codes(activations={spec.name: settled(spec.name, grid.scale, {spec.name: grid}, alone)})


def _db(damage: float) -> float:
    return -10 * math.log10(max(damage, 1e-30))
