"""Choosing the bits of each block's weights for a goal (config.BitGoal), and the few values to go with more, before the long run.

calibration images -> weights of all blocks at 2, 3, 4 and 8 bits, in closed form -> what each block's weights do to the outputs
at each width (reconstruct.sensitivity) -> the least damage that the goal allows (allocation) -> BitPlan
calibration images -> what each value does to the outputs at its bits and at 8 -> the few that get 8 (bits.values) -> BitPlan

Nearest rounding would not do: it does 1.3 to 11 times the damage at 2 bits (ResNet-20) of rounding that is learned, so a choice
by it would shun 2 bits. Without closed form, rounding is learned for a fifth of the iterations. Biases stay as they are: codes of
different widths are put together, and each would want its own. For a size the answer is an allocation;
for a largest loss (`drop`) it is the smallest allocation whose loss, measured on the whole network at these bits, is within it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping
from functools import partial

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from genie_onnx import reconstruct
from genie_onnx.bits.allocation import allocate
from genie_onnx.bits.budget import Choices, budget_of, choices
from genie_onnx.bits.plan import BitPlan, BlockBits, ValueBits, plan_from_json, with_bits
from genie_onnx.bits.values import ValueTable, fewest, measured_values
from genie_onnx.config import BitGoal, ClosedFormConfig, QuantizeConfig
from genie_onnx.effort import rounding_rate
from genie_onnx.errors import RunError
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.graph import class_scores
from genie_onnx.images.kept import Calibration
from genie_onnx.machine.atomic import write_text
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import Placement
from genie_onnx.preparation.prepare import Prepared
from genie_onnx.reconstruct import Codes, damage, log_probabilities, sensitivities
from genie_onnx.run.directory import RunDirectory
from genie_onnx.synthesis import decisive

Progress = Callable[[Step | Notice], None]
Bits = npt.NDArray[np.int64]  # of each block, [B]

LEARNED = 4  # bits; below, rounding is learned before anything is measured
SHARE = 0.2  # of the iterations of the run
IMAGES, MEASURED, JUDGED = 128, 64, 256  # that rounding is learned on, that blocks are measured on, and whole networks
HALVINGS = 7  # of the range of sizes, in search of the smallest one within a loss: to a hundredth of it
BATCH = 16  # images at a time when whole networks are measured


def brief(config: QuantizeConfig, width: int) -> int:
    """Return how many iterations the rounding of each block is learned for at `width` bits, before it is measured."""
    if config.closed_form is not None:
        return 0
    return max(1, round(SHARE * config.reconstruct.iterations)) if width < LEARNED and config.reconstruct.iterations else 0


def choose_bits(
    prepared: Prepared, config: QuantizeConfig, calibration: Calibration, run: RunDirectory, compute: Compute, progress: Progress
) -> BitPlan:
    """Return the plan for `config.bit_goal`: the one that an earlier run left in `run`, else made now and saved there.

    Some of `calibration.images` are used. The same seed gives the same plan on the same machine.
    """
    goal, team = config.bit_goal, compute.team
    assert goal is not None
    if (saved := team.once(lambda: _saved(run, progress))) is not None:
        return _told(saved, progress)
    found = choices(prepared, config)
    search = _Search(prepared, config, calibration, run, compute, progress, found)
    codes = search.codes()
    measured = _others(calibration.images)[:MEASURED]
    scores = class_output(prepared, measured, compute)
    tell = Tally(progress, Step(stage="bits", index=len(found.widths), count=found.parts, iterations=len(measured)))
    by_block = team.once(
        lambda: sensitivities(prepared.network, prepared.placement, prepared.blocks, codes, measured, scores, compute, tell)
    )
    table = np.array([[by_block[block][width] for width in found.widths] for block in found.blocks])
    values = ValueTable((), np.zeros(0, np.int64), np.zeros((0, 2)), found.wide)
    if found.values or goal.drop is not None:
        values = team.once(lambda: measured_values(prepared, config, calibration, found, measured, scores, compute, progress))
    budget = budget_of(goal, found)
    if budget is None:
        chosen, wider, drop = search.within(goal, table, codes, values, scores)
    else:
        allocated = allocate(found.parameters, table, found.widths, budget)
        assert allocated is not None  # bits.budget.require_goal
        harm = table[np.arange(len(table)), np.searchsorted(found.widths, allocated)]
        chosen, wider, drop = allocated, values.few(float(harm.sum())), None
    free = int(found.parameters @ chosen)
    plan = BitPlan(
        goal=str(goal),
        unit=f"noise it adds to the {'outputs' if scores is None else 'class scores'}, relative to their power",
        blocks=tuple(
            BlockBits(block=name, bits=int(bits), parameters=int(count), damage=by_block[name])
            for name, bits, count in zip(found.blocks, chosen, found.parameters, strict=True)
        ),
        weights=found.bits(chosen),
        abits=config.placement.abits,
        bytes=found.bytes(free),
        bytes_at_8=found.bytes(found.total * found.widths[-1]),
        average=free / found.total,
        drop=drop,
        values=tuple(
            ValueBits(
                values=spec.values,
                bits=values.wide if spec.name in wider else spec.bits,
                elements=int(elements),
                damage={spec.bits: float(narrow), values.wide: float(wide)},
            )
            for spec, elements, (narrow, wide) in zip(values.specs, values.elements, values.damage, strict=True)
        ),
    )
    team.once(lambda: _save(plan, prepared, config, run))
    return _told(plan, progress)


def _told(plan: BitPlan, progress: Progress) -> BitPlan:
    for text in plan.notices():
        progress(Notice(text))
    return plan


@dataclasses.dataclass(frozen=True)
class _Search:
    """What every trial of bits needs."""

    prepared: Prepared
    config: QuantizeConfig
    calibration: Calibration
    run: RunDirectory
    compute: Compute
    progress: Progress
    found: Choices

    def codes(self) -> dict[int, Codes]:
        """Return the weights of all blocks at each width, as they are where nothing else is rounded."""
        made = {}
        for index, width in enumerate(self.found.widths):
            here = Step(stage="bits", index=index, count=self.found.parts)
            bits = self.found.bits(np.full(len(self.found.blocks), width))
            placement = dataclasses.replace(self._placement(bits), activations=())
            made[width] = self._reconstructed(placement, brief(self.config, width), here, _weights_only(self.config.closed_form))
        return made

    def within(
        self,
        goal: BitGoal,
        table: npt.NDArray[np.float64],
        codes: Mapping[int, Codes],
        values: ValueTable,
        scores: str | None,
    ) -> tuple[Bits, frozenset[str], float]:
        """Return the fewest bits that lose no more than `goal.drop`, with the values that have more than asked for, and the loss.

        As few values get more bits as bring weights at the widest within the loss. Where nothing does, everything at the widest
        is the answer.
        """
        assert goal.drop is not None
        found, asked = self.found, self.config.placement.abits
        loss = partial(self._loss, codes, values, scores)
        best = np.full(len(found.blocks), found.widths[-1])
        wider: frozenset[str] = frozenset()
        lost = loss(wider, best)
        if lost > goal.drop and values.specs:
            text = f"Activations alone lose {lost:.1f} points at {asked} bits (--abits) with weights of {found.widths[-1]}"
            count, lost = fewest(lambda count: loss(values.costliest(count), best), len(values.specs), goal.drop)
            wider = values.costliest(count)
            what = "they get" if count == len(values.specs) else f"{count} of {len(values.specs)} must have"
            self.progress(Notice(f"{text}, and at most {goal.drop:g} may be lost: {what} {found.wide} bits."))
        if lost > goal.drop:
            self.progress(
                Notice(
                    f"At most {goal.drop:g} points lost cannot be promised: with all weights at {found.widths[-1]} bits and "
                    f"activations at {found.wide if wider else asked}, {lost:.1f} are lost before anything is learned. The run "
                    "goes on with these bits."
                )
            )
            return best, wider, lost
        low, high = found.total * found.widths[0], found.total * found.widths[-1]  # bits of all weights: too few; enough
        for _ in range(HALVINGS):
            middle = (low + high) // 2
            chosen = allocate(found.parameters, table, found.widths, middle)
            assert chosen is not None  # the budget is at least that of the smallest width
            now = loss(wider, chosen)
            if now <= goal.drop:
                best, lost, high = chosen, now, middle
            else:
                low = middle
        return best, wider, lost

    def _loss(
        self, codes: Mapping[int, Codes], values: ValueTable, scores: str | None, wider: frozenset[str], chosen: Bits
    ) -> float:
        """Return what the whole network loses at these bits, in percentage points (config.BitGoal)."""
        bits = self.found.bits(chosen)
        narrow = {name: width for names, width in zip(self.found.blocks.values(), chosen, strict=True) for name in names}
        weights = {name: codes[narrow.get(name, self.found.widths[-1])].weights[name] for name in bits}
        mixed = Codes(weights, values.mixed(wider))
        placement = self._placement(bits, wider)
        images, device = _others(self.calibration.images)[:JUDGED], self.compute.device
        network = self.prepared.network.to(device)

        def losses() -> Iterator[tuple[int, float]]:
            for batch in images.to(device).split(BATCH):
                with torch.no_grad(), Compute(device).products():
                    expected = network({network.inputs[0]: batch})
                    found = reconstruct.simulate(network, placement, self.prepared.blocks, mixed, batch)
                if scores is None:
                    yield len(batch), float(damage(expected, found, None)) ** 0.5
                else:
                    yield len(batch), float(points_lost(expected[scores], found[scores]))

        return 100 * self.compute.team.once(lambda: sum(count * part for count, part in losses()) / len(images))

    def _placement(self, bits: Mapping[str, int], wider: Collection[str] = ()) -> Placement:
        """Return the placement with weights of these `bits`, and the values of these names at `found.wide`."""
        config, constraints = self.config.placement, self.config.target.constraints
        return with_bits(self.prepared, config, constraints, bits, dict.fromkeys(wider, self.found.wide))

    def _reconstructed(self, placement: Placement, iterations: int, here: Step, closed: ClosedFormConfig | None = None) -> Codes:
        config = dataclasses.replace(self.config.reconstruct, iterations=iterations, rounding_lr=rounding_rate(iterations))

        def tell(event: Step | Notice) -> None:
            """Tell which block is tried; what is done to it is not worth a line."""
            if isinstance(event, Notice):
                self.progress(event)
            elif event.stage in ("targets", "weights", "carry"):
                self.progress(dataclasses.replace(here, iteration=event.index, iterations=event.count))

        compute = self.compute
        with reconstruct.ActivationStore(compute.device, compute.budget, self.run.values_of(compute.team.rank)) as store:
            return reconstruct.reconstruct(
                self.prepared.network,
                placement,
                self.prepared.blocks,
                self.calibration.images[:IMAGES],
                config,
                input_range=self.calibration.input_range,
                headroom=self.calibration.headroom,
                seed=self.config.seed,
                compute=compute,
                progress=tell,
                finished=lambda result: None,
                constraints=self.config.target.constraints,
                store=store,
                closed=closed,
                pieces=self.prepared.pieces,
            )


def _weights_only(closed: ClosedFormConfig | None) -> ClosedFormConfig | None:
    """Return the settings of closed form for weights alone, that do not make good for what those before them did."""
    return None if closed is None else dataclasses.replace(closed, biases=False, mismatch=False)


def _others(images: Tensor) -> Tensor:
    """Return images that rounding was not learned on, to measure on (it fits those, most of all at 2 bits), or all where these
    are too few."""
    return images[IMAGES:] if len(images) >= IMAGES + MEASURED else images


def points_lost(expected: Tensor, found: Tensor) -> Tensor:
    """Return the share of top-1 that is lost, 0..1, with scores `found` in place of those `expected`, [N, K] each.

    mean over images of  p(k) - p(k'),    k, k' the classes of the largest expected and found score, p the expected probabilities

    What is lost on average where the labels are as likely as the float model says. A flip between two classes that it cannot tell
    apart costs next to nothing; made images have many of those, and counted as errors they would ask for more bits than needed.
    """
    p = log_probabilities(expected).exp()
    taken = p.gather(1, torch.stack([expected.argmax(1), found.argmax(1)], 1))
    return (taken[:, 0] - taken[:, 1]).mean()


def class_output(prepared: Prepared, images: Tensor, compute: Compute) -> str | None:
    """Return the output [N, K] by which the network chooses between classes; None where it does not."""
    if class_scores(prepared.deploy) is None:
        return None
    network = prepared.network.to(compute.device)
    with torch.no_grad():
        found = network({network.inputs[0]: images.to(compute.device)})
    name = next((v for v, y in found.items() if y.dim() == 2 and y.shape[1] >= 2), None)
    return name if name is not None and decisive(log_probabilities(found[name])) else None


def _save(plan: BitPlan, prepared: Prepared, config: QuantizeConfig, run: RunDirectory) -> None:
    planned = plan.applied(prepared, config.placement, config.target.constraints)
    write_text(run.layers, plan.to_toml(planned))
    write_text(run.bits, plan.to_json())  # last: it is what a run goes on from


def _saved(run: RunDirectory, progress: Progress) -> BitPlan | None:
    if not run.bits.exists():
        return None
    try:
        return plan_from_json(run.bits.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, RunError) as error:
        progress(Notice(f"The bits of blocks are chosen again: {run.bits} cannot be read ({error})."))
        return None
