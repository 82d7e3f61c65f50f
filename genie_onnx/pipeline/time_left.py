"""How long a run still takes: what was expected of each part, corrected by how long the parts took so far.

    left = sum over what is left of    expected x factor,       factor = (seconds taken + w prior) / (seconds expected + w)

taken and expected are those of what is done already: of the part itself, whose prior is the factor of its stage, whose prior
is that of the whole run, whose prior is 1. So a machine that is slower than expected shows at once in everything that is
left, and a stage that was judged wrongly in that stage alone, once something of it is done. Numbers in, numbers out: the
clock is the caller's.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from genie_onnx.events import Stage, Step

# w, as a share of what is expected of the whole run, for its factor and for that of a stage, and of a part, for its own
RUN_WEIGHT, STAGE_WEIGHT, PART_WEIGHT = 0.07, 0.01, 0.1

IMAGES: frozenset[Stage] = frozenset({"statistics", "images", "judges", "save"})
RECONSTRUCTION: frozenset[Stage] = frozenset({"targets", "weights", "learn", "carry", "last-pass"})


@dataclass(frozen=True)
class Part:
    """A part of a run, as its steps name it (events.Step), and the `seconds` that are expected of it."""

    stage: Stage
    index: int
    seconds: float


@dataclass(frozen=True)
class Estimate:
    """What is expected of a run: its parts, in the order in which they come. What an earlier run has finished is not there."""

    parts: tuple[Part, ...]

    @property
    def seconds(self) -> float:
        """The whole."""
        return sum(part.seconds for part in self.parts)

    def of(self, stages: Iterable[Stage]) -> float:
        """Return the seconds of some stages together."""
        wanted = frozenset(stages)
        return sum(part.seconds for part in self.parts if part.stage in wanted)

    def text(self, device: str) -> str:
        """Return the estimate in words: "about 12 minutes on this CPU: images 3, reconstruction 8, rest 1"."""
        unit, size = next(
            (u, s) for u, s in (("hours", 3600), ("minutes", 60), ("seconds", 1)) if self.seconds >= 2 * s or s == 1
        )
        images, reconstruction = self.of(IMAGES), self.of(RECONSTRUCTION)
        shares = (("images", images), ("reconstruction", reconstruction), ("rest", self.seconds - images - reconstruction))
        named = ", ".join(f"{name} {number}" for name, seconds in shares if (number := _number(seconds / size)) != "0")
        untried = "; with convolutions as they are before they are tried, so it may be faster" if self.of(["kernels"]) else ""
        return f"about {_number(self.seconds / size)} {unit} on this {device}" + (f": {named}" if named else "") + untried


def _number(count: float) -> str:
    return f"{count:.0f}" if count >= 9.95 else f"{count:.1f}".removesuffix(".0")


class TimeLeft:
    """Follows a run by its steps. Parts that the estimate does not know are passed over."""

    def __init__(self, estimate: Estimate) -> None:
        self._parts = estimate.parts
        self._place = {(part.stage, part.index): place for place, part in enumerate(self._parts)}
        self._taken = [0.0] * len(self._parts)  # seconds
        self._made = [0.0] * len(self._parts)  # the share of each part that was made in them
        self._at = 0  # the part that is being made, or comes next
        self._making = False
        self._share = 0.0  # of that part is done
        self._told = 0.0  # when that was heard

    def tell(self, step: Step, now: float) -> None:
        """Take note of `step`, told at `now` seconds. A part is done when another one begins."""
        place = self._place.get((step.stage, step.index))
        share = step.iteration / step.iterations if step.iterations else 1.0
        if self._making:
            self._taken[self._at] += now - self._told
            self._made[self._at] += max(0.0, (share if place == self._at else 1.0) - self._share)
        if place is not None:
            self._at, self._share, self._making = place, share, True
        elif self._making:
            self._at, self._share, self._making = self._at + 1, 0.0, False
        self._told = now

    def seconds(self, now: float) -> float:
        """Return how long the run still takes at `now` seconds, which is not before the last step."""
        expected = [part.seconds for part in self._parts]
        made = [seconds * share for seconds, share in zip(expected, self._made, strict=True)]
        whole = _factor(sum(self._taken), sum(made), 1.0, RUN_WEIGHT * sum(expected))
        factors = {}
        for stage in {part.stage for part in self._parts[self._at :]}:
            own = [place for place, part in enumerate(self._parts) if part.stage == stage]
            taken = sum(self._taken[place] for place in own)
            factors[stage] = _factor(taken, sum(made[place] for place in own), whole, STAGE_WEIGHT * sum(expected))
        left = [part.seconds * factors[part.stage] for part in self._parts[self._at :]]
        if self._making:
            at = self._at
            factor = _factor(self._taken[at], made[at], factors[self._parts[at].stage], PART_WEIGHT * expected[at])
            left[0] = max(0.0, expected[at] * (1 - self._share) * factor - (now - self._told))
        return sum(left)


def _factor(taken: float, expected: float, prior: float, weight: float) -> float:
    return (taken + weight * prior) / (expected + weight) if expected + weight > 0 else prior
