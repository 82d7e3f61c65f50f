"""What a run will take on this device, measured in a few seconds before it begins.

    kernels          the trials of convolutions that are not known on this machine; until then they are plain, and slower
    images           seconds of an optimiser step                x iterations x batches
    reconstruction   seconds of an optimiser step of each block  x iterations
                     seconds of an image through each block      x samples: the teacher once, the student STUDENT times as long
    the rest         seconds of an image painted, a weight searched, a byte packed; what onnxruntime does, from the forward pass

What an earlier run into the same directory has finished is left out. Of a team it is what its first process does, measured by
that one alone. Nothing here touches what a run computes: it works on networks of its own, and draws from generators of its own.
"""

from __future__ import annotations

import io
import math
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from genie_onnx.bits.budget import Choices, choices
from genie_onnx.bits.choice import HALVINGS, brief
from genie_onnx.bits.choice import IMAGES as IMAGES_TRIED
from genie_onnx.bits.choice import JUDGED as IMAGES_JUDGED
from genie_onnx.bits.choice import MEASURED as IMAGES_MEASURED
from genie_onnx.config import DistillConfig, QuantizeConfig
from genie_onnx.images.choice import HELD_BACK, input_statistics, judged_on
from genie_onnx.images.distilled import affordable, batch_pieces, distillation, fitted, refinement
from genie_onnx.importer import Network, import_graph
from genie_onnx.machine.atomic import save_npz
from genie_onnx.machine.stopwatch import seconds_once
from genie_onnx.machine.team import ALONE
from genie_onnx.pipeline.forms import estimated_forms
from genie_onnx.pipeline.planning import ImagePlan, Plan
from genie_onnx.pipeline.time_left import Estimate, Part
from genie_onnx.quant import activation_grid, weight_grid
from genie_onnx.reconstruct import learned_blocks
from genie_onnx.reconstruct.calibrate import ELEMENTS
from genie_onnx.reconstruct.calibrate import IMAGES as CALIBRATED
from genie_onnx.reconstruct.learn_block import held_back
from genie_onnx.reconstruct.timing import BACKWARD, BlockCost, block_costs
from genie_onnx.run.directory import RunDirectory
from genie_onnx.synthesis import BatchNormStatistics, batch_sizes, measure, procedural
from genie_onnx.synthesis.bn_loss import mean_std
from genie_onnx.synthesis.plausible import image_count
from genie_onnx.synthesis.scaling import SAMPLES, TRIALS
from genie_onnx.synthesis.timing import step_seconds

BUDGET = 2.0  # seconds that the measuring of images may take, and as much for that of blocks
IMAGES = {"cpu": 2, "cuda": 32}  # that blocks are measured with; few images do not keep a GPU busy
STUDENT = 2.0  # times as long as the float block is the quantised one, with its rounding
CHECK_IMPORTS, CHECK_FORWARDS = 2.0, 8.0  # what the comparison with onnxruntime takes
EXPORT_IMPORTS, EXPORT_FORWARDS = 10.0, 200.0  # ... and writing, judging and compressing the file
# ... and comparing it with the float model on 64 images, layer by layer: 8 to 10 forward passes an image (ResNet-20, MobileNetV1)
COMPARED_FORWARDS = 640.0
PROBE, PAINTED = 2**15, 2**15  # elements that searching and packing are timed on; pixels


# What closed form takes, in runs of the float block and in step-size searches of its weights (ResNet-20 and MobileNetV1)
CLOSED_FORWARDS, CLOSED_SEARCHES = 10.0, 12.0
EQUALISED = 64  # images at most (equalisation.IMAGES)


@dataclass(frozen=True)
class Rates:
    """Seconds of the small things: an image `painted`, an element of a weight `searched`, a grid of an activation `fitted`, a
    byte `packed`, the networks `imported`."""

    painted: float
    searched: float
    fitted: float
    packed: float
    imported: float


def estimate(plan: ImagePlan) -> Estimate:
    """Return what the run of `plan` is expected to take from here on. Takes some seconds; writes nothing.

    In a team one process alone makes this call. It measures its own share of the work, and what is exchanged is not counted.
    """
    team = plan.compute.team
    plan = replace(plan, compute=replace(plan.compute, team=ALONE))
    config, device = plan.config, plan.compute.device
    run = RunDirectory(plan.run_dir)
    forms, trials = estimated_forms(plan.prepared, config, plan.choice, run, plan.compute)
    prepared = plan.prepared.formed(forms)
    plan = replace(plan, prepared=prepared)
    began = time.perf_counter()
    network = import_graph(prepared.deploy, forms, prepared.layout).to(device)
    imported = time.perf_counter() - began
    generator = torch.Generator().manual_seed(0)
    images = torch.randn((IMAGES[device.type], *prepared.shape), generator=generator).to(device)
    rates = _rates(plan, imported, generator)
    quantizes = isinstance(plan, Plan)
    whole = min(config.reconstruct.batch_size, config.samples)
    drawn = replace(config.reconstruct, batch_size=-(-whole // team.size))
    budget = BUDGET if quantizes else 0.0
    blocks = block_costs(network, prepared.placement, prepared.blocks, images, drawn, plan.compute, budget)
    forward = sum(cost.forward for cost in blocks)
    parts: list[Part] = []
    if quantizes:
        parts.append(check_part(rates, forward))
    if trials:
        parts.append(Part("kernels", 0, trials))
    if not run.images.exists():
        parts += _image_parts(plan, rates, run, team.size)
    if quantizes:
        learned = learned_blocks(prepared.blocks, prepared.placement)
        finished = {name for index, name in enumerate(learned) if run.loss(index).exists()}
        if len(finished) < len(learned) or not run.grids.exists():
            grids = len(prepared.placement.activations)
            if config.bit_goal is not None and not run.bits.exists():
                parts += bit_parts(blocks, config, choices(prepared, config), rates)
            closed, iterations = config.closed_form is not None, config.reconstruct.iterations
            if closed:
                parts.append(Part("equalise", 0, min(config.samples, EQUALISED) * forward))
            parts += block_parts(blocks, finished, config.samples, iterations, grids, rates, team.size, closed)
        if config.last_pass and not run.last_errors.exists():
            parts.append(last_part(forward, config.samples, config.last_pass, team.size))
        weights = sum(cost.weights for cost in blocks)
        parts.append(export_part(rates, forward, weights))
        parts.append(Part("values", 0, COMPARED_FORWARDS * forward))
    if device.type == "cuda":
        torch.cuda.empty_cache()
    return Estimate(tuple(parts))


def check_part(rates: Rates, forward: float) -> Part:
    """Return the comparison of the import with onnxruntime, for a network that takes `forward` seconds an image."""
    return Part("check", 0, CHECK_IMPORTS * rates.imported + CHECK_FORWARDS * forward)


def block_parts(
    blocks: Sequence[BlockCost],
    finished: Collection[str],
    samples: int,
    iterations: int,
    grids: int,
    rates: Rates,
    processes: int = 1,
    closed: bool = False,
) -> list[Part]:
    """Return the reconstruction of `blocks`, of which `finished` are only carried forward, divided among `processes`; with
    `closed`, what is not finished is rounded in closed form first."""
    forward = sum(cost.forward for cost in blocks)
    parts = [Part("grids", 0, min(samples, CALIBRATED) * forward + grids * rates.fitted)]
    learned = 0
    for place, cost in enumerate(blocks):
        solved = closed and cost.step is not None and cost.name not in finished
        if solved:
            carried = samples / processes * CLOSED_FORWARDS * cost.forward
            parts.append(Part("weights", learned, carried + CLOSED_SEARCHES * cost.weights * rates.searched))
            parts.append(Part("learn", learned, iterations * (cost.step or 0.0)))
            learned += 1
            continue
        if closed and cost.step is not None:  # finished: carried as it was then
            parts.append(Part("targets", place, samples / processes * (1 + STUDENT) * cost.forward))
            learned += 1
            continue
        parts.append(Part("targets", place, samples / processes * cost.forward))
        if cost.step is not None:
            if cost.name not in finished:
                parts.append(Part("weights", learned, cost.weights * rates.searched))
                parts.append(Part("learn", learned, iterations * cost.step))
            learned += 1
        parts.append(Part("carry", place, samples / processes * STUDENT * cost.forward))
    return parts


def bit_parts(blocks: Sequence[BlockCost], config: QuantizeConfig, found: Choices, rates: Rates) -> list[Part]:
    """Return the choosing of bits: every block at each width, then what each does to the outputs, by half a pass each, and values
    likewise."""
    samples = min(config.samples, IMAGES_TRIED)
    parts = []
    for k, width in enumerate(found.widths):
        closed = config.closed_form is not None
        tried = block_parts(blocks, (), samples, brief(config, width), 0, rates, closed=closed)
        parts.append(Part("bits", k, sum(part.seconds for part in tried)))
    forward = sum(cost.forward for cost in blocks)
    learned, measured = sum(cost.step is not None for cost in blocks), min(config.samples, IMAGES_MEASURED)
    passes = [learned * len(found.widths) / 2 * measured]
    if found.values:
        passes.append(2 * (samples + len(found.values) / 2 * measured))
    if config.bit_goal is not None and config.bit_goal.drop is not None:
        trials = HALVINGS + 2 + len(found.values).bit_length()
        passes[-1] += trials * (1 + STUDENT) * min(config.samples, IMAGES_JUDGED)
    return [*parts, *(Part("bits", len(found.widths) + k, count * forward) for k, count in enumerate(passes))]


def last_part(forward: float, samples: int, epochs: int, processes: int = 1) -> Part:
    """Return the last pass of a network that takes `forward` seconds an image: powers first, then epochs."""
    held = held_back(samples)
    learned = epochs * (samples - held) * (1 + STUDENT * (1 + BACKWARD))
    judged = (epochs + 1) * held * (1 + STUDENT)
    return Part("last-pass", 0, (samples + learned + judged) / processes * forward)


def export_part(rates: Rates, forward: float, weights: int) -> Part:
    """Return writing and verifying a file with so many `weights` of a network that takes `forward` seconds an image."""
    return Part("export", 0, EXPORT_IMPORTS * rates.imported + EXPORT_FORWARDS * forward + 5 * weights * rates.packed)


def batch_parts(
    sizes: Sequence[int],
    finished: Collection[int],
    iterations: int,
    step: float,
    painted: float,
    packed: float,
    processes: int = 1,
) -> list[Part]:
    """Return the batches of images that are not `finished` and that the first of `processes` makes, where a step on the first
    batch takes `step` seconds.

    `painted` and `packed`: seconds of an image.
    """
    left = [index for index in range(len(sizes)) if index not in finished]
    return [
        Part("images", index, sizes[index] / sizes[0] * iterations * step + sizes[index] * (painted + packed))
        for index in left[::processes]
    ]


def _image_parts(plan: ImagePlan, rates: Rates, run: RunDirectory, processes: int) -> list[Part]:
    """Return the making of the calibration images of `plan` by so many processes, unless they are the user's."""
    prepared, config = plan.prepared, plan.config
    packed = 4 * math.prod(prepared.shape) * rates.packed  # of an image
    if plan.choice.kind == "data":
        return [Part("save", 0, (config.samples + HELD_BACK) * packed)]
    judges = judged_on(prepared.shape)
    ends = [Part("judges", 0, judges * rates.painted), Part("save", 0, (config.samples + judges) * packed)]
    if plan.choice.kind == "procedural":
        return [Part("images", 0, config.samples * rates.painted), *ends]
    network = import_graph(prepared.normalised, prepared.forms, prepared.layout)
    for parameter in network.module.parameters():  # distillation changes weights in place, and these are those of the model
        parameter.data = parameter.data.clone()
    statistics, settings, parts = _distillation(plan, network, rates)
    sizes = batch_sizes(config.samples, settings.batch_size)
    finished = {index for index in range(len(sizes)) if run.image_batch(index).exists()}
    if len(finished) < len(sizes):
        first = replace(settings, batch_size=sizes[0])
        pieces = batch_pieces(prepared, [s.value for s in statistics], sizes[0], plan.compute)
        step = step_seconds(network, statistics, prepared.shape, first, plan.compute, BUDGET, pieces)
        painted = rates.painted if settings.start == "leaves" else 0.0
        parts += batch_parts(sizes, finished, settings.iterations, step, painted, packed, processes)
    return [*parts, *(ends[1:] if plan.choice.kind == "amplified" else ends)]


def _distillation(
    plan: ImagePlan, network: Network, rates: Rates
) -> tuple[Sequence[BatchNormStatistics], DistillConfig, list[Part]]:
    """Return what images of `plan` are distilled from, with which settings, and what comes before the first batch."""
    prepared, config, device = plan.prepared, plan.config, plan.compute.device
    if plan.choice.kind == "distilled":
        settings = distillation(prepared, config.distill)
        if input_statistics(prepared.shape, config)[0] is not None:
            return prepared.statistics, settings, []
        first = network.extract(network.inputs, (prepared.statistics[0].value,)).to(device).module
        images = torch.zeros(SAMPLES, *prepared.shape, device=device)
        with torch.no_grad():
            trial = seconds_once(lambda: mean_std(first(images)[0]), device)
        return prepared.statistics, settings, [Part("statistics", 0, TRIALS * trial + SAMPLES * rates.painted)]
    values = fitted(prepared)
    count, settings = image_count(prepared.shape), refinement(config.distill)
    if plan.choice.kind == "amplified":
        count, settings = config.samples // 2, config.distill
    images = torch.zeros(2, *prepared.shape)
    began = time.perf_counter()
    statistics = measure(network, values, images + torch.arange(2).view(2, 1, 1, 1), device)
    measured = (time.perf_counter() - began) / len(images)
    return statistics, affordable(prepared, values, settings), [Part("statistics", 0, count * (rates.painted + measured))]


def _rates(plan: ImagePlan, imported: float, generator: torch.Generator) -> Rates:
    """Measure the small things, on the device where each is done."""
    prepared, device, cpu = plan.prepared, plan.compute.device, torch.device("cpu")
    constraints = plan.config.target.constraints
    bits = plan.config.placement
    row = torch.rand(1, PROBE, generator=generator).to(device)
    low, high = row.min(), row.max()
    count = max(1, PAINTED // math.prod(prepared.shape[1:]))  # many small ones are painted at once
    began = time.perf_counter()
    images = procedural(count, prepared.shape, mean=None, std=None, generator=generator)
    painted = (time.perf_counter() - began) / count
    array = np.resize(images.numpy(), PROBE)
    return Rates(
        painted=painted,
        searched=seconds_once(lambda: weight_grid(row, bits.wbits, constraints), device) / PROBE,
        fitted=seconds_once(lambda: activation_grid(row, low, high, bits.abits, constraints), device) * ELEMENTS / PROBE,
        packed=seconds_once(lambda: save_npz(io.BytesIO(), {"images": array}), cpu) / array.nbytes,
        imported=imported,
    )
