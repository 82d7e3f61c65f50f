"""How a picture becomes as large as the model's input.

    resize    crop       the picture is
    -         -          scaled to cover H x W and cut at the centre, in one step: the largest part of its proportions
    (n,)      - or HxW   scaled until its shorter side is n, cut at the centre      (torchvision: Resize(n), CenterCrop)
    (h, w)    - or HxW   scaled to h x w whatever its proportions, cut at the centre
    -         HxW        cut at the centre as it is

A cut has the size of the model's input; given as `crop` it is that size where the model leaves it open.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from genie_onnx.errors import ConfigError

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
Layout = Literal["nchw", "nhwc"]  # of a model's input: channels first, or last
LayoutChoice = Literal["auto", "nchw", "nhwc"]  # auto: what the graph does with its input tells


@dataclass(frozen=True, kw_only=True)
class Framing:
    """Sizes are pixels, height before width. Raises ConfigError for what is no size."""

    resize: tuple[int, ...] | None = None  # (n,): of the shorter side; (h, w); None: see above
    crop: tuple[int, int] | None = None  # (h, w) of the cut; None: the model's input
    interpolation: Interpolation = "bilinear"  # with antialiasing, as Pillow does it

    def __post_init__(self) -> None:
        problems = [
            f"{name} must be {known}, all above 0, not {size}"
            for name, size, lengths, known in (
                ("resize", self.resize, (1, 2), "one number or two"),
                ("crop", self.crop, (2,), "two numbers"),
            )
            if size is not None and (len(size) not in lengths or min(size) < 1)
        ]
        if self.interpolation not in get_args(Interpolation):
            problems.append(f"interpolation must be one of {get_args(Interpolation)}, not {self.interpolation!r}")
        if problems:
            raise ConfigError(problems)
