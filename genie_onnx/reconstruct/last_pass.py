"""The last pass: with all codes frozen, scales, steps and biases of the whole network are learned together, end to end.

    minimise    mean over values v that blocks hand on of  |v' - v|^2 / E|v|^2   +   OUTPUTS x what is lost at the end
    lost        by a classifier  KL(p || p') of class probabilities;  else the mean over outputs of  |y' - y|^2 / E|y|^2

v of the float network, v' of the quantised one. Blocks were fitted one after the other; here an early one feels what it does to
the last. Values hold the scores in place: on few images and classes scores alone are learned by heart.

It is easy to fit a few hundred images and lose on others, so a share of them is held back: the best epoch on these counts, at the
codes that are deployed, and only if values are no farther off than before and outputs nearer, by more than chance. Of a CIFAR
ResNet-20 at W4A4 and 64 images held back, 19 of 20 epochs were nearer at the outputs, by up to 15 %: half a standard error on
average, and on 1,000 other images nothing. Scores are judged by their relative squared error, less their mean over classes
(sensitivity.damage): their divergence, at W2A4, went from 0.019 to anything between 0.013 and 0.087 in eight epochs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from genie_onnx.blocks import Block
from genie_onnx.events import Notice, Step, Tally
from genie_onnx.importer import Network
from genie_onnx.machine.compute import Compute
from genie_onnx.placement import Placement
from genie_onnx.quant import ANY
from genie_onnx.reconstruct.codes import Codes
from genie_onnx.reconstruct.final import final_block
from genie_onnx.reconstruct.layout import from_stored, to_stored
from genie_onnx.reconstruct.learn_block import held_back
from genie_onnx.reconstruct.learning_loop import sample_batches
from genie_onnx.reconstruct.relief import Relief
from genie_onnx.reconstruct.sensitivity import log_probabilities
from genie_onnx.reconstruct.store import ActivationStore
from genie_onnx.reconstruct.twin import Twin
from genie_onnx.reconstruct.whole import Whole, image_bytes
from genie_onnx.seeds import stream
from genie_onnx.targets import Constraints

RATE = 3e-4  # Adam learning rate, relative to each number's size, on a cosine; 1e-3 learned 192 images of MobileNetV1 by heart
OUTPUTS = 0.1  # weight of what is lost at the end beside the error of values
GROUPS = 16  # of images held back, at least, whose errors are compared before and after ...
SURE = 3.0  # ... and standard errors of their mean difference by which outputs have to be nearer (the best of epochs
# is chosen by the same images)
PIECE_BYTES = 2**30  # that a backward pass may hold: a batch of more goes through the network in pieces


@dataclass(frozen=True)
class Errors:
    """Relative squared errors of the `values` that blocks hand on, and of the `outputs`: means over images, and over each."""

    values: float
    outputs: float


UNKNOWN = Errors(math.nan, math.nan)


@dataclass(frozen=True)
class LastPass:
    """What the pass came to: whether it was `kept`, and then all `codes` of the network, else none. Errors are those of `held`
    images, `before` and `after`: in the epoch that is kept, or would be the best for outputs; not numbers where none was made."""

    before: Errors
    after: Errors
    held: int
    kept: bool = False
    codes: Codes = field(default_factory=Codes)

    def __str__(self) -> str:
        """Say so in one sentence."""
        if math.isnan(self.after.outputs):
            return "The last pass is not kept: there was nothing to learn, or nothing finite came of it."
        numbers = (
            f"on {self.held} images held back, the error of values between blocks went from {self.before.values:.4g} to "
            f"{self.after.values:.4g}, that of the outputs from {self.before.outputs:.4g} to {self.after.outputs:.4g}"
        )
        why = "kept" if self.kept else "not kept, as outputs have to be nearer by more than chance, and values no farther off"
        return f"The last pass is {why}: {numbers}."


def last_pass(
    network: Network,
    placement: Placement,
    blocks: Sequence[Block],
    codes: Codes,
    images: Tensor,
    *,
    epochs: int,
    batch_size: int,
    scores: str | None,
    seed: int,
    compute: Compute,
    progress: Callable[[Step | Notice], None],
    twin: Twin | None = None,
    constraints: Constraints = ANY,
    rate: float = RATE,
) -> LastPass:
    """Learn the scales, steps and biases around `codes`, which every weight and value of `placement` has.

    Args:
        images: float32 [N, C, H, W]; the last of them are held back (learn_block.held_back), the others are learned on.
        epochs: passes over these, >= 1, in batches of `batch_size`.
        scores: the output that has one number a class, before or after a Softmax; None where the network chooses no class.
        twin: what is imitated, where that is not `network` itself.
        constraints: of the target; powers of two stay as they are.
        rate: of Adam, relative.

    The same seed gives the same bits. In a team every process makes this call, with the same arguments, and gets the same.
    Raises ConfigError where a batch is too small for the team. Memory that runs out once is dealt with (relief).
    """
    device = compute.device
    network = network.to(device)
    twin = Twin(network) if twin is None else Twin(twin.network.to(device), twin.scales)
    goal = Goal.of(network, twin, blocks, scores)
    run = _Run(network, placement, blocks, codes, images, goal, epochs, batch_size, seed, compute, constraints, rate, progress)
    relief = Relief(ActivationStore(device), progress, compute.team)
    return relief(lambda: run(relief.pieces))


@dataclass(frozen=True)
class Goal:
    """What is compared: the float `values` that blocks hand on, and the `outputs`; where there are `scores`, these are the
    outputs. `teacher` makes them, in this order, of images."""

    values: tuple[str, ...]
    outputs: tuple[str, ...]
    scores: str | None
    teacher: Callable[..., tuple[Tensor, ...]]

    @staticmethod
    def of(network: Network, twin: Twin, blocks: Sequence[Block], scores: str | None) -> Goal:
        """Return what is there to compare in `blocks`."""
        outputs = tuple(network.outputs) if scores is None else (scores,)
        between = (v for block in blocks for v in block.targets if v not in outputs)
        values = tuple(dict.fromkeys(between))
        return Goal(values, outputs, scores, twin.function(network.inputs, (*values, *outputs)))

    def expected(self, images: Tensor) -> dict[str, Tensor]:
        """Return what the float network makes of `images`, as it is compared."""
        with torch.no_grad(), Compute(images.device).products():
            made = self.teacher(images)
        return self.seen(dict(zip((*self.values, *self.outputs), made, strict=True)))

    def seen(self, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return what is compared of what a network `made`: floats; of scores logarithms, less their mean over classes."""
        seen = {v: made[v].float() for v in (*self.values, *self.outputs) if made[v].is_floating_point()}
        if self.scores is not None:
            logarithms = log_probabilities(seen[self.scores])
            seen[self.scores] = logarithms - logarithms.mean(1, keepdim=True)
        return seen

    def errors(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], powers: Mapping[str, Tensor]) -> Tensor:
        """Return the errors of values and of outputs [2], added up over images; `powers`: E|v|^2 of each."""
        relative = {v: (found[v] - y).square().sum() / powers[v] for v, y in expected.items()}
        groups = ([relative[v] for v in names if v in relative] for names in (self.values, self.outputs))
        none = next(iter(powers.values())).new_zeros(())
        return torch.stack([torch.stack(group).mean() if group else none for group in groups])

    def loss(self, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], powers: Mapping[str, Tensor]) -> Tensor:
        """Return what is minimised, added up over images."""
        values, lost = self.errors(found, expected, powers)
        if self.scores is not None:
            p, q = (made[self.scores].log_softmax(1) for made in (expected, found))
            lost = torch.nn.functional.kl_div(q, p, log_target=True, reduction="sum")
        return values + OUTPUTS * lost


@dataclass(frozen=True)
class _Run:
    network: Network
    placement: Placement
    blocks: Sequence[Block]
    codes: Codes
    images: Tensor
    goal: Goal
    epochs: int
    batch_size: int
    seed: int
    compute: Compute
    constraints: Constraints
    rate: float
    progress: Callable[[Step | Notice], None]

    def __call__(self, parts: int) -> LastPass:
        """Make the pass; a batch of what fits goes through the network in `parts`."""
        device, team = self.compute.device, self.compute.team
        held = held_back(len(self.images))
        count = len(self.images) - held
        whole = Whole(self.network, self.placement, self.blocks, self.codes, self.constraints, device)
        nothing = LastPass(UNKNOWN, UNKNOWN, held)
        if not held or not whole.parameters:
            return nothing
        size = max(1, self._fitting(whole) // parts)
        powers = self._powers(size)
        first = self._judged(self.codes, count, size, powers)
        before = Errors(*(first.sum(0) / held).tolist())

        generator = stream(self.seed, "last pass", device)
        share = team.share(min(self.batch_size, count))
        steps = max(1, count // share.whole)  # of an epoch
        batches = sample_batches(count, share.whole, self.epochs * steps, generator).cpu()
        optimiser = torch.optim.Adam(whole.parameters, lr=self.rate)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, len(batches))
        tell = Tally(self.progress, Step(stage="last-pass", iterations=len(batches)))
        best: LastPass | None = None
        for done, rows in enumerate(batches, start=1):
            optimiser.zero_grad()
            for piece in rows[share.start : share.stop].split(size):
                self._backward(whole, self._batch(piece), powers, share.whole)
            for parameter in whole.parameters:
                if parameter.grad is None:  # of what no block reads
                    parameter.grad = torch.zeros_like(parameter)
                team.add_up(parameter.grad)
            optimiser.step()
            schedule.step()
            tell(done)
            if done % steps == 0:
                codes = team.once(whole.codes)
                if codes is None:
                    break
                last = self._judged(codes, count, size, powers)
                after = Errors(*(last.sum(0) / held).tolist())
                kept = after.values <= before.values and certainty(first[:, 1] - last[:, 1]) > SURE
                now = LastPass(before, after, held, kept, codes if kept else Codes())
                best = now if best is None else _better(best, now)
        return nothing if best is None else best

    def _backward(self, whole: Whole, images: Tensor, powers: Mapping[str, Tensor], batch: int) -> None:
        """Add the gradients of what `images` have in the loss of a `batch`."""
        expected = self.goal.expected(images)
        with self.compute.products():
            found = whole(images)
        loss = self.goal.loss(self.goal.seen(found), expected, powers) / batch
        if loss.requires_grad:  # else there are integers only to compare
            loss.backward()

    def _judged(self, codes: Codes, start: int, size: int, powers: Mapping[str, Tensor]) -> Tensor:
        """Return the errors [groups, 2] at `codes`, as they are deployed, of groups of the images from `start` on."""
        functions = [final_block(self.network, block, self.placement, codes, self.compute.device) for block in self.blocks]

        def errors(images: Tensor) -> Tensor:
            found = {self.network.inputs[0]: images}
            with torch.no_grad(), Compute(images.device).products():
                for block, function in zip(self.blocks, functions, strict=True):
                    found.update(zip(block.outputs, function(*(found[v] for v in block.inputs)), strict=True))
            return self.goal.errors(self.goal.seen(found), self.goal.expected(images), powers)

        held = len(self.images) - start
        groups = min(held, max(GROUPS, -(-held // size)))
        found = self._each(errors, torch.arange(start, len(self.images)).tensor_split(groups), 2).cpu()
        return self.compute.team.once(lambda: found)  # processes may differ in last bits, and must not in what they choose

    def _powers(self, size: int) -> dict[str, Tensor]:
        """Return E|v|^2 of what is compared: over all images, summed over the elements of one."""
        names = list(self.goal.expected(self._batch(torch.zeros(1, dtype=torch.int64))))

        def squares(images: Tensor) -> Tensor:
            return torch.stack([y.square().sum() for y in self.goal.expected(images).values()])

        mean = self._each(squares, torch.arange(len(self.images)).split(size), len(names)).sum(0) / len(self.images)
        return dict(zip(names, mean.float().clamp_min(torch.finfo(torch.float32).tiny).unbind(), strict=True))

    def _each(self, function: Callable[[Tensor], Tensor], groups: Sequence[Tensor], length: int) -> Tensor:
        """Return `function` [length] of the images of each of `groups`, which the team shares; float64 [groups, length]."""
        team = self.compute.team
        table = torch.zeros(len(groups), length, dtype=torch.float64, device=self.compute.device)
        for place in range(team.rank, len(groups), team.size):
            table[place] = function(self._batch(groups[place]))
        return team.add_up(table)

    def _batch(self, rows: Tensor) -> Tensor:
        """Return the images `rows` on the device, channels last in memory: convolutions are twice as fast on a CPU."""
        return from_stored(to_stored(self.images[rows].to(self.compute.device)))

    def _fitting(self, whole: Whole) -> int:
        """Return how many images a backward pass may hold."""
        budget = self.compute.budget
        most = PIECE_BYTES if budget is None or budget.step is None else min(PIECE_BYTES, budget.step)
        with self.compute.products():
            return max(1, most // image_bytes(whole, self._batch(torch.zeros(1, dtype=torch.int64))))


def certainty(gains: Tensor) -> float:
    """Return how many standard errors the mean of `gains` [n] is above 0; not a number where they cannot tell."""
    return float(gains.mean() / (gains.std() / math.sqrt(len(gains))))


def _better(one: LastPass, other: LastPass) -> LastPass:
    """Return the one to be kept: of two that gain, or do not, that with the nearer outputs."""
    if one.kept != other.kept:
        return one if one.kept else other
    return other if other.after.outputs < one.after.outputs else one
