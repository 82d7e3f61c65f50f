"""What a convolution is (Case), and what it may be computed in (Form)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

Precision = Literal["fp32", "bf16"]

MOST, LEAST = 8, 2  # images that a case is tried on ...
ELEMENTS = 2**19  # ... and elements of its input and output together that so many may have


@dataclass(frozen=True)
class Case:
    """A convolution as the libraries below torch tell them apart: x [N, *sample], weight, one entry for each spatial dimension.

    `padding` is the symmetric part, put on by the convolution itself. `output_padding` is None but for a transposed one.
    """

    sample: tuple[int, ...]  # [C, *S]
    weight: tuple[int, ...]  # Conv [M, C/groups, *K]; transposed [C, M/groups, *K]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    output_padding: tuple[int, ...] | None = None

    @property
    def name(self) -> str:
        """What the case is called in files, one name for each: "conv 16x56x56 k16x1x3x3 s1,1 p2,2 d2,2 g16"."""
        kind = "conv" if self.output_padding is None else f"transposed+{_joined(self.output_padding)}"
        window = f"s{_joined(self.stride)} p{_joined(self.padding)} d{_joined(self.dilation)} g{self.groups}"
        return f"{kind} {'x'.join(map(str, self.sample))} k{'x'.join(map(str, self.weight))} {window}"

    @property
    def result(self) -> tuple[int, ...]:
        """[M, *S'], a sample of what it returns."""
        axes = list(zip(self.sample[1:], self.weight[2:], self.stride, self.padding, self.dilation, strict=True))
        if self.output_padding is None:
            return (self.weight[0], *((n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, s, p, d in axes))
        sizes = [(n - 1) * s - 2 * p + d * (k - 1) + 1 + o for (n, k, s, p, d), o in zip(axes, self.output_padding, strict=True)]
        return (self.weight[1] * self.groups, *sizes)

    @property
    def products(self) -> int:
        """Multiplications for a sample."""
        positions = math.prod(self.result[1:] if self.output_padding is None else self.sample[1:])
        return positions * math.prod(self.weight)

    @property
    def elements(self) -> int:
        """Elements that a sample goes in and out as."""
        return math.prod(self.sample) + math.prod(self.result)

    @property
    def images(self) -> int:
        """How many samples it is tried on."""
        return max(LEAST, min(MOST, ELEMENTS // self.elements))


@dataclass(frozen=True)
class Form:
    """Layout and type that x, weight and result have while it is computed."""

    channels_last: bool = False
    bf16: bool = False

    @property
    def name(self) -> str:
        """The form in words, as files have it."""
        return f"{'bf16' if self.bf16 else 'fp32'} {'channels last' if self.channels_last else 'contiguous'}"

    @classmethod
    def named(cls, name: str) -> Form:
        """Return the form of a name. Raises ValueError for another text."""
        found = {form.name: form for form in EVERY}.get(name)
        if found is None:
            raise ValueError(f"{name!r} is no form of a convolution")
        return found


PLAIN = Form()
EVERY = (PLAIN, Form(channels_last=True), Form(bf16=True), Form(channels_last=True, bf16=True))


@dataclass(frozen=True)
class Forms:
    """The form of a case where values are computed, always in float32, and where gradients are as well."""

    values: Form = PLAIN
    steps: Form = PLAIN


@dataclass(frozen=True)
class Trial:
    """One thing to find out: how long a case takes in a form, and whether that is right.

    `precision` is what the values around it have, in which it reads and returns them; None: values alone, without gradients.
    """

    case: Case
    form: Form
    precision: Precision | None

    @property
    def name(self) -> str:
        """What the trial of a case is called in files: "values: fp32 channels last", "bf16 steps: fp32 contiguous"."""
        return f"{'values' if self.precision is None else f'{self.precision} steps'}: {self.form.name}"


def trials_of(case: Case, precision: Precision) -> tuple[Trial, ...]:
    """Return what there is to find out of `case` for a run at `precision`; that of the plain form comes before the others."""
    layouts = (False, True) if len(case.sample) > 2 else (False,)  # one dimension has one layout
    types = (False, True) if precision == "bf16" else (False,)
    values = [Trial(case, Form(last), None) for last in layouts]
    return (*values, *(Trial(case, Form(last, low), precision) for low in types for last in layouts))


def _joined(numbers: tuple[int, ...]) -> str:
    return ",".join(map(str, numbers))
