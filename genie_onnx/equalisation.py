"""Equalised: the network whose weights are rounded, its channels scaled to use their grids alike, beside the float one.

    deploy graph + images -> clips of channels -> factors (kept in the run directory) -> deploy graph with other initializers

Which channels may be scaled, the graph says (graph.channel_scales); how much, their values on some images (closed_form.equalise).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from genie_onnx import graph
from genie_onnx.atomic import write_text
from genie_onnx.closed_form import DENSE, DEPTHWISE, best_clips, factors
from genie_onnx.compute import Compute
from genie_onnx.errors import RunError
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.graph import Channels
from genie_onnx.importer import Network
from genie_onnx.prepare import Prepared
from genie_onnx.rundir import RunDirectory
from genie_onnx.seeds import stream
from genie_onnx.targets import Constraints

IMAGES = 64  # looked at: a clip is a matter of thousands of elements a channel, and of no single one
BATCH_ELEMENTS = 2**24  # of all values that are looked at, held at once
ELEMENTS = 2**12  # of a channel
NARROW = 7  # bits up to which a value's grid is worth sharing fairly; 8 bits have resolution to spare


@dataclass(frozen=True)
class Equalisation:
    """`factors` [C] by the name of the value that a layer writes; those without are not scaled."""

    factors: Mapping[str, np.ndarray] = field(default_factory=dict)

    def applied(self, prepared: Prepared) -> Prepared:
        """Return `prepared` with the deploy graph equalised; `prepared.twin` goes on being the float network."""
        if not self.factors:
            return prepared
        found = graph.channels(prepared.deploy, quantised_nodes(prepared))
        return prepared.equalised(graph.scaled(prepared.deploy, found, self.of_variables(found)), self.of_values(found))

    def of_variables(self, found: Channels) -> np.ndarray:
        """Return the factor of each variable of `found`. Raises RunError where the two do not belong together."""
        numbers = np.ones(1 + max((int(ids.max(initial=0)) for ids in found.of.values()), default=0), np.float32)
        for value, own in self.factors.items():
            if value not in found.of or len(found.of[value]) != len(own):
                raise RunError(f"the equalisation of '{value}' is not of this model")
            numbers[found.of[value]] = own
        if any(numbers[v] != 1 for v in found.pinned):
            raise RunError("the equalisation scales what has to stay as it is in this model")
        return numbers

    def of_values(self, found: Channels) -> dict[str, np.ndarray]:
        """Return the factors of every value that is scaled."""
        numbers = self.of_variables(found)
        return {v: own for v in found.of if (own := graph.factors_of(found, v, numbers)) is not None}

    def to_json(self) -> str:
        """Return it as JSON; float32 numbers come back as they were."""
        return json.dumps({value: [float(f) for f in own] for value, own in self.factors.items()})


def equalisation_from_json(text: str) -> Equalisation:
    """Undo `to_json`. Raises RunError for anything else."""
    try:
        found = {str(value): np.array(own, np.float32) for value, own in json.loads(text).items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise RunError(f"this is no equalisation: {error}") from error
    if not all(own.ndim == 1 and np.isfinite(own).all() and (own > 0).all() for own in found.values()):
        raise RunError("this is no equalisation: factors are finite and above 0")
    return Equalisation(found)


def quantised_nodes(prepared: Prepared) -> frozenset[str]:
    """Return the names of the layers that are quantised."""
    return frozenset(node for spec in prepared.placement.weights for node in spec.nodes)


def choose_equalisation(
    prepared: Prepared,
    network: Network,
    images: torch.Tensor,
    constraints: Constraints,
    seed: int,
    run: RunDirectory,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
) -> Equalisation:
    """Return the equalisation of an earlier run in `run`, else that for `images` in the float `network`, which is kept there.

    Where a weight has one scale for all channels there is nothing to gain, and none is made.
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
    made = (
        Equalisation() if constraints.weight_scale == "tensor" else equalise(prepared, network, images, seed, compute, progress)
    )
    team.once(lambda: write_text(run.equalisation, made.to_json()))
    return made


def equalise(
    prepared: Prepared,
    network: Network,
    images: torch.Tensor,
    seed: int,
    compute: Compute,
    progress: Callable[[Step], None],
) -> Equalisation:
    """Return the factors for what `network`, the float one, makes of `images` [N, C, H, W], of which some are looked at."""
    found = graph.channels(prepared.deploy, quantised_nodes(prepared))
    bits = {
        value: spec.bits
        for spec in prepared.placement.activations
        for value in spec.roots
        if spec.bits <= NARROW and len(found.free(value))
    }
    if not bits:
        return Equalisation()
    rows = _sampled(network, tuple(bits), images[:IMAGES], seed, compute, progress)
    logs: dict[int, list[float]] = {}
    for value, width in bits.items():
        free = found.free(value)
        variables = found.of[value][free]
        clips = best_clips(rows[value][torch.from_numpy(free)], width)
        alpha = torch.tensor([DENSE if int(v) in found.dense else DEPTHWISE for v in variables])
        ceilings = torch.tensor([found.ceiling.get(int(v), float("inf")) for v in variables])
        for variable, factor in zip(variables.tolist(), factors(clips, alpha, ceilings).log().tolist(), strict=True):
            logs.setdefault(variable, []).append(factor)
    factor_of = {variable: float(np.exp(np.mean(all_))) for variable, all_ in logs.items()}
    written = {str(n.outputs[0].name) for n in prepared.deploy.graph if n.name in quantised_nodes(prepared)}
    result = {}
    for value in written & found.of.keys():
        own = np.array([factor_of.get(int(v), 1.0) for v in found.of[value]], np.float32)
        if not bool((own == 1).all()):
            result[value] = own
    return Equalisation(dict(sorted(result.items())))


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
