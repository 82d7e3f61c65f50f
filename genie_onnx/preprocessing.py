"""What is done to pictures before a model sees them: the numbers that the user gives, and presets of them.

    picture -> its size (framing) -> channels in the model's order -> (pixel / 255 - mean) / std

One value goes from the options of the command line, or the arguments of a public function, to where pictures are read
(data.Preprocess, which knows the model's shape as well).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from genie_onnx.framing import Framing

Order = Literal["rgb", "bgr"]


@dataclass(frozen=True, kw_only=True)
class Preprocessing:
    """What the user says of a model's input. Whether it suits the model's channels, data.Preprocess says."""

    mean: tuple[float, ...] | None = None  # subtracted from pixels scaled to 0..1, one number or one a channel; None: not known
    std: tuple[float, ...] | None = None  # ... which are then divided by this; None: not known
    channel_order: Order = "rgb"  # of the model's channels; pictures come as rgb
    framing: Framing | None = None  # how pictures get the input's size; None: scaled to cover it, cut at the centre

    @classmethod
    def of(
        cls, mean: Sequence[float] | None, std: Sequence[float] | None, channel_order: Order, framing: Framing | None
    ) -> Preprocessing:
        """Return the value that the arguments of a public function stand for."""
        numbers = (None if given is None else tuple(given) for given in (mean, std))
        return cls(mean=next(numbers), std=next(numbers), channel_order=channel_order, framing=framing)

    def filled(self, known: Preprocessing) -> Preprocessing:
        """Return it with what is not said taken from `known`; the order of channels goes with the numbers, which stand in it."""
        framing = known.framing if self.framing is None else self.framing
        if self.mean is None and self.std is None and known.mean is not None:
            return replace(known, framing=framing)
        return replace(self, framing=framing)

    def keywords(self) -> dict[str, Any]:
        """Return it as `QuantizeConfig` and the public functions take it."""
        return {"mean": self.mean, "std": self.std, "channel_order": self.channel_order, "framing": self.framing}


UNKNOWN = Preprocessing()


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a family of models expects: `mean` and `std` as in Preprocessing."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    framing: Framing | None = None


RECIPES: dict[str, Recipe] = {
    # torchvision's, for its ImageNet models: https://pytorch.org/vision/stable/models.html
    "imagenet": Recipe(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), framing=Framing(resize=(256,), crop=(224, 224))),
    # Mean and deviation of CIFAR-10's training pixels; many models were trained with ImageNet's numbers instead
    "cifar": Recipe(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    # Pixels 0..255 as they are, for models that normalise by themselves
    "none": Recipe(mean=(0.0,), std=(1 / 255,)),
}
