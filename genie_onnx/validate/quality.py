"""Is the file of any use? One verdict on what its outputs tell, beside the float model's on the same images.

    good       30 dB and more, and 10 dB more than one that never looks at the image, the same mean answer to all; or 20 dB, and
               99 % of the images get the same class. Nothing to do (diagnosis, that knows of no constant, says the same)
    usable     what is neither good nor poor
    poor       below 10 dB: the noise has a tenth of the output's power and more. Or no better than a constant answer, below 20 dB
               (from there on it is the images that hardly differ). Of class scores: fewer than 70 % keep their class
    useless    below 10 dB, and a constant answer would be as near; unless classes show otherwise, of which half of what the most
               frequent one has wrong is right. Of class scores that tell images apart, also: always naming the most frequent
               class would be right as often, or 90 % change their class

Class scores are judged by classes where the float model spreads the images over classes (none has more than half of eight images
or more) and is sure of eight or more of them (answers.SURE), else by decibels: that all images keep the one class that they all
have says nothing, and the largest of 136 landmarks is no class. Of images that nobody took, only those count that the float
model is sure of: it was never taught the others, and names one class or another with the last bit. Whole numbers (labels,
indices) are judged by equal elements. An output that is the same for all images has no constant to be held against: useless is
then no better than zeros, 0 dB. One that is all zeros, or whose entries stand in an order of their own (graph.chosen_order) and
that cannot be compared place by place, is not judged. The worst output makes the verdict.

Saturation and codes that are never used do no harm by themselves; they are told beside it, and the cause is what `compare` finds.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

from genie_onnx.requirements import Requirements
from genie_onnx.validate import Answer, Classes
from genie_onnx.validate.layerwise import Findings

Level = Literal["good", "usable", "poor", "useless"]
LEVELS: tuple[Level, ...] = get_args(Level)
JudgedOn = Literal["held-back", "calibration", "made"]  # the user's, not calibrated on; those calibrated on; nobody took them
NEAR, NEAR_CLASSES, SAME_CLASSES = 30.0, 20.0, 0.99
POOR, POOR_CLASSES = 10.0, 0.7  # dB; share of images
SPREAD, LEAST = 0.5, 8  # of the images in the largest class, at most; images, at least: classes are told apart
FEW = 0.1  # of the images keep their class: ten classes by chance, or a thousand with nearly all of them lost
KEPT = 0.5  # of what always naming the most frequent class has wrong is right: not useless, whatever the decibels are


@dataclass(frozen=True, kw_only=True)
class OutputQuality:
    """The verdict on one output. `level` None: it cannot be judged; `reason` says by what it was, or why it was not."""

    name: str
    level: Level | None
    reason: str


@dataclass(frozen=True, kw_only=True)
class Extreme:
    """The value or weight that stands out, and the share (0..1) that makes it do so."""

    name: str
    share: float


@dataclass(frozen=True, kw_only=True)
class Quality:
    """The verdict on a file. What only a look at each value tells is None where that look was not possible."""

    level: Level
    reason: str  # of the worst output
    images: JudgedOn
    samples: int
    outputs: tuple[OutputQuality, ...]
    unmet: tuple[str, ...]  # what was required and what was found, a clause each
    accepted: bool  # useless was accepted beforehand
    saturated: Extreme | None = None  # the value most of which lies outside of its grid
    unused: Extreme | None = None  # the value or weight most of whose codes never occur
    cause: str | None = None  # where it is poor or useless

    @property
    def ok(self) -> bool:
        """Whether the file is what was asked for, and has its ordinary name."""
        return not self.unmet and (self.level != "useless" or self.accepted)

    def __str__(self) -> str:
        """Return the verdict as a line: "poor: output 'logits' is at 8.1 dB (on 64 made images ...)"."""
        return f"{self.level}: {self.reason} ({self.where})"

    @property
    def where(self) -> str:
        """Say what it was judged on."""
        count = f"{self.samples} image{'' if self.samples == 1 else 's'}"
        return {
            "held-back": f"on {count} of yours, held back",
            "calibration": f"on {count} of yours that it was calibrated on",
            "made": f"on {count} that nobody took, so real ones may show otherwise",
        }[self.images]

    @property
    def problems(self) -> tuple[str, ...]:
        """Say why it is not `ok`, a clause each."""
        useless = self.level == "useless" and not self.accepted
        return (*([f"the file is {self}"] if useless else []), *self.unmet)

    def explained(self, findings: Findings) -> Quality:
        """Return the same verdict with what `findings` tell of values, weights and, where it is a bad one, the cause."""
        saturated = max(findings.values, key=lambda v: v.saturated, default=None)
        codes = [Extreme(name=v.value, share=1 - v.used / v.levels) for v in findings.values]
        codes += [Extreme(name=w.weight, share=1 - w.used / w.levels) for w in findings.weights]
        return replace(
            self,
            saturated=None if saturated is None else Extreme(name=saturated.value, share=saturated.saturated),
            unused=max(codes, key=lambda found: found.share, default=None),
            cause=next((a.cause for a in findings.diagnosis if a.cause), None) if self.bad else None,
        )

    @property
    def bad(self) -> bool:
        """Whether a cause is worth looking for."""
        return self.level in ("poor", "useless")

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain data."""
        return {**asdict(self), "where": self.where, "ok": self.ok}


def assess(
    answers: Sequence[Answer], images: JudgedOn, requirements: Requirements, unordered: Collection[str] = frozenset()
) -> Quality:
    """Return the verdict on `answers` (of at least one output), all on the same images.

    `unordered`: outputs that cannot be compared place by place.
    """
    found = tuple(_output(answer, answer.name in unordered, images == "made") for answer in answers)
    judged = [output for output in found if output.level is not None]
    worst = max(judged, key=lambda output: LEVELS.index(output.level or "good"), default=found[0])
    comparable = {answer.name: answer for answer in answers if answer.name not in unordered}
    return Quality(
        level=worst.level or "usable",
        reason=worst.reason,
        images=images,
        samples=max(answer.samples for answer in answers),
        outputs=found,
        unmet=(*_short_of_decibels(comparable, requirements.sqnr_db), *_short_of_agreement(comparable, requirements.agreement)),
        accepted=requirements.accept_useless,
    )


def _output(answer: Answer, unordered: bool, made: bool) -> OutputQuality:
    of = f"output '{answer.name}'"
    classes = answer.sure if made else _all(answer)
    if unordered:
        level, reason = None, f"{of} stands in an order that each image decides, and cannot be compared place by place"
    elif answer.sqnr_db is None and answer.agreement is None:
        level, reason = None, f"{of} is all zeros on these images, and cannot be judged"
    elif answer.sqnr_db is None:
        level, reason = _whole_numbers(answer)
    elif classes is not None and _tells_classes(answer, classes):
        level, reason = _classes(answer, answer.sqnr_db, classes)
    else:
        level, reason = _numbers(answer, answer.sqnr_db, _kept(classes))
    return OutputQuality(name=answer.name, level=level, reason=reason)


def _all(answer: Answer) -> Classes | None:
    if answer.agreement is None or answer.usual is None:
        return None
    return Classes(samples=answer.samples, agreement=answer.agreement, usual=answer.usual)


def _tells_classes(answer: Answer, classes: Classes) -> bool:
    sure = 0 if answer.sure is None else answer.sure.samples
    return classes.usual <= SPREAD and min(classes.samples, sure) >= LEAST


def _numbers(answer: Answer, sqnr_db: float, kept: float) -> tuple[Level, str]:
    at = f"output '{answer.name}' is at {_decibels(sqnr_db)}"
    constant = answer.constant_db
    other = "zeros are at 0" if constant is None else f"one and the same answer to every image is at {constant:.1f}"
    if sqnr_db < NEAR_CLASSES and sqnr_db <= (constant or 0.0):
        return "useless" if sqnr_db < POOR and kept < KEPT else "poor", f"{at}, where {other}"
    if sqnr_db >= NEAR_CLASSES and _kept(_all(answer)) >= SAME_CLASSES:
        return "good", at
    if sqnr_db >= NEAR:
        return ("good", at) if constant is None or sqnr_db >= constant + POOR else ("usable", f"{at}, where {other}")
    return "poor" if sqnr_db < POOR else "usable", at


def _classes(answer: Answer, sqnr_db: float, classes: Classes) -> tuple[Level, str]:
    agreement, usual, constant = classes.agreement, classes.usual, answer.constant_db or 0.0
    of = "of the images the float model's class"
    if classes.samples < answer.samples:
        of = f"of the {classes.samples} images that the float model is sure of its class"
    said = f"output '{answer.name}' gives {100 * agreement:.1f} % {of}"
    if agreement <= max(usual, FEW) and (sqnr_db < NEAR_CLASSES or sqnr_db <= constant):
        return "useless", f"{said}, where always naming the most frequent one gives {100 * usual:.1f} %"
    if sqnr_db < POOR and sqnr_db <= constant and _kept(classes) < KEPT:
        at = f"at {_decibels(sqnr_db)}, where one and the same answer to every image is at {constant:.1f}"
        return "useless", f"{said}, {at}"
    if sqnr_db >= NEAR or (sqnr_db >= NEAR_CLASSES and (answer.agreement or 0.0) >= SAME_CLASSES):  # of all images
        return "good", f"{said}, at {_decibels(sqnr_db)}"
    return "poor" if agreement < POOR_CLASSES or sqnr_db <= 0 else "usable", f"{said}, at {_decibels(sqnr_db)}"


def _kept(classes: Classes | None) -> float:
    """Return how much of what a constant class has wrong is right (Cohen's kappa against it); 0 where there are no classes."""
    if classes is None or classes.usual >= 1:
        return 0.0
    return (classes.agreement - classes.usual) / (1 - classes.usual)


def _whole_numbers(answer: Answer) -> tuple[Level, str]:
    agreement, usual = answer.agreement or 0.0, answer.usual or 0.0
    said = f"output '{answer.name}' has {100 * agreement:.1f} % of its whole numbers as the float model has them"
    if agreement >= SAME_CLASSES:
        return "good", said
    if agreement <= usual:
        level: Level = "useless" if agreement < POOR_CLASSES else "poor"
        return level, f"{said}, where the most frequent one everywhere gives {100 * usual:.1f} %"
    return "poor" if agreement < POOR_CLASSES else "usable", said


def _short_of_decibels(answers: Mapping[str, Answer], wanted: float | None) -> list[str]:
    if wanted is None:
        return []
    found = {name: answer.sqnr_db for name, answer in answers.items() if answer.sqnr_db is not None}
    if not found:
        return [f"an SQNR of {wanted:g} dB was required, and no output has one"]
    return [
        f"{wanted:g} dB were required of output '{name}', and it is at {_decibels(db)}"
        for name, db in found.items()
        if not db >= wanted
    ]


def _short_of_agreement(answers: Mapping[str, Answer], wanted: float | None) -> list[str]:
    if wanted is None:
        return []
    found = {name: answer.agreement for name, answer in answers.items() if answer.agreement is not None}
    if not found:
        return [f"an agreement of {100 * wanted:g} % was required, and no output has classes to agree on"]
    return [
        f"an agreement of {100 * wanted:g} % was required of output '{name}', and it has {100 * share:.1f} %"
        for name, share in found.items()
        if not share >= wanted
    ]


def _decibels(sqnr_db: float) -> str:
    return "numbers that are not finite" if sqnr_db == -math.inf else f"{sqnr_db:.1f} dB"
