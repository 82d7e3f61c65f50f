"""Choosing how much channels are scaled, by their values on some images, before anything is rounded.

    deploy graph + images -> clips of channels -> factors (kept in the run directory)

Which channels may be scaled, the graph says (graph.channel_scales); how much, their values (closed_form.equalise). Grids of
selections and bits are chosen before: a Slice pins the channels of what it reads, so neither changes the other, and only what
has few bits is worth it.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from genie_onnx import graph
from genie_onnx.closed_form import DENSE, DEPTHWISE, EXPONENTS, Reader, best_clips, factors, noise
from genie_onnx.errors import RunError
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.graph import Channels, query
from genie_onnx.grids.equalisation import Equalisation, equalisation_from_json, equalises, narrow_values, quantised_nodes
from genie_onnx.importer import Network
from genie_onnx.machine.atomic import write_text
from genie_onnx.machine.compute import Compute
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.run.directory import RunDirectory
from genie_onnx.seeds import stream
from genie_onnx.targets import Constraints

IMAGES = 64  # looked at: a clip is a matter of thousands of elements a channel, and of no single one
BATCH_ELEMENTS = 2**24  # of all values that are looked at, held at once
ELEMENTS = 2**12  # of a channel


def choose_equalisation(
    prepared: Prepared,
    network: Callable[[], Network],
    images: torch.Tensor,
    constraints: Constraints,
    seed: int,
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> Equalisation:
    """Return the equalisation of an earlier run in `run`, else that for `images` in the float `network`, which is kept there.

    `network` is asked for where it is needed. Where a weight has one scale for all channels there is nothing to gain, and none
    is made.
    """

    def saved() -> Equalisation | None:
        if not run.equalisation.exists():
            return None
        try:
            return equalisation_from_json(run.equalisation.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, RunError) as error:
            progress(Notice(f"Channels are equalised again: {run.equalisation} cannot be read ({error})."))
            return None

    team = compute.team
    found = team.once(saved)
    if found is not None:
        return found

    floats = network() if equalises(constraints) else None  # which all processes make together

    def made() -> Equalisation:
        chosen = Equalisation() if floats is None else equalise(prepared, floats, images, constraints, seed, compute, progress)
        write_text(run.equalisation, chosen.to_json())
        return chosen

    return team.once(made)


def equalise(
    prepared: Prepared,
    network: Network,
    images: torch.Tensor,
    constraints: Constraints,
    seed: int,
    compute: Compute,
    progress: Callable[[Step], None],
) -> Equalisation:
    """Return the factors for what `network`, the float one, makes of `images` [N, C, H, W], of which some are looked at.

    `constraints` are the target's.
    """
    layers = quantised_nodes(prepared)
    found = graph.channels(prepared.deploy, layers)
    bits = {value: width for value, width in narrow_values(prepared).items() if len(found.free(value))}
    if not bits:
        return Equalisation()
    rows = _sampled(network, tuple(bits), images[:IMAGES], seed, compute, progress)
    logs: dict[int, list[float]] = {}
    for value, width in bits.items():
        variables, scaling = found.of[value], _scaling(prepared, found, value, width, rows[value], constraints)
        for k in found.free(value).tolist():
            logs.setdefault(int(variables[k]), []).append(float(scaling[k].log()))
    factor_of = {variable: float(np.exp(np.mean(all_))) for variable, all_ in logs.items()}
    written = {str(n.outputs[0].name) for n in prepared.deploy.graph if n.name in layers}
    result = {}
    for value in written & found.of.keys():
        own = np.array([factor_of.get(int(v), 1.0) for v in found.of[value]], np.float32)
        if not bool((own == 1).all()):
            result[value] = own
    return Equalisation(dict(sorted(result.items())))


def _scaling(
    prepared: Prepared, found: Channels, value: str, bits: int, samples: torch.Tensor, constraints: Constraints
) -> torch.Tensor:
    """Return the factors e [C] of all channels of a value that do best for it alone: 1 where they are pinned."""
    free = torch.from_numpy(found.free(value))
    dense = torch.tensor([int(v) in found.dense for v in found.of[value]])[free]
    ceilings = torch.tensor([found.ceiling.get(int(v), float("inf")) for v in found.of[value]])
    clips = best_clips(samples[free], bits)

    def scaled(alpha: float) -> torch.Tensor:
        exponents = torch.where(dense, alpha, DEPTHWISE)
        return torch.ones(len(samples)).index_copy(0, free, factors(clips, exponents, ceilings[free]))

    readers = _readers(prepared, value) if bool(dense.any()) else []
    if not readers:
        return scaled(DENSE)
    return min(map(scaled, EXPONENTS), key=lambda e: noise(samples, e, ceilings, bits, readers, constraints))


def _readers(prepared: Prepared, value: str) -> list[Reader]:
    """Return the quantised layers that read `value` itself."""
    found = []
    for node, place in query.value_map(prepared.deploy)[value].uses():
        if place != 0 or node.domain != "" or node.op_type not in query.WEIGHTED_OPS:
            continue
        spec = prepared.placement.weight_of(str(query.weight(node).name))
        if spec is None:
            continue
        weight = torch.from_numpy(np.asarray(query.constant(query.weight(node)), np.float32).copy())
        if node.op_type == "Conv":
            rows = weight.flatten(2).unflatten(0, (query.attribute(node, "group", 1), -1))
        elif node.op_type == "Gemm" and query.attribute(node, "transB", 0):
            rows = weight[None, :, :, None]
        else:  # inputs first; a ConvTranspose of one group, as others are not scaled
            rows = weight.flatten(1).unflatten(1, (weight.shape[1], -1)).transpose(0, 1)[None]
        found.append(Reader(rows.contiguous(), spec.bits))
    return found


def _sampled(
    network: Network,
    values: tuple[str, ...],
    images: torch.Tensor,
    seed: int,
    compute: Compute,
    progress: Callable[[Step], None],
) -> dict[str, torch.Tensor]:
    """Return random elements [C, n] of each channel of `values` on `images`, on the CPU."""
    network = network.to(compute.device)
    part = network.extract(network.inputs, values)
    generator = stream(seed, "equalise", compute.device)
    tell = Tally(progress, Step(stage="equalise", iterations=len(images)))
    rows: dict[str, list[torch.Tensor]] = {value: [] for value in values}
    size, done = 1, 0
    while done < len(images):
        batch = images[done : done + size].to(compute.device)
        with torch.no_grad(), Compute(compute.device).products():
            found = part({network.inputs[0]: batch})
        elements = sum(x.numel() for x in found.values()) // len(batch)
        for value, x in found.items():
            flat = x.movedim(1, 0).flatten(1)
            wanted = max(1, ELEMENTS * len(batch) // len(images))
            if flat.shape[1] > wanted:
                flat = flat[:, torch.randint(flat.shape[1], (wanted,), generator=generator, device=flat.device)]
            rows[value].append(flat.cpu())
        done += len(batch)
        size = max(1, min(16, BATCH_ELEMENTS // max(1, elements)))
        tell(done)
    return {value: torch.cat(parts, 1) for value, parts in rows.items()}
