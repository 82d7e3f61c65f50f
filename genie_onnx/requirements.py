"""What a file has to reach, as the user asks for it: numbers alone, known before anything heavy is loaded."""

from __future__ import annotations

import math
from dataclasses import dataclass

from genie_onnx.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Requirements:
    """What a file must reach beside not being useless; what does not reach it is written under another name.

    Outside of what makes a run this run: it may be given anew when the run goes on, or is finished.
    """

    sqnr_db: float | None = None  # of every output
    agreement: float | None = None  # share 0..1 of images with the same class, of every output that has classes
    accept_useless: bool = False  # a useless file is written under the ordinary name

    def __post_init__(self) -> None:
        """Raise ConfigError for what is no number, or no share."""
        if self.sqnr_db is not None and not math.isfinite(self.sqnr_db):
            raise ConfigError(f"the required SQNR is {self.sqnr_db}: it must be a number of decibels, such as 20")
        if self.agreement is not None and not 0 <= self.agreement <= 1:
            raise ConfigError(f"the required agreement is {self.agreement}: it must be a share, 0 to 1 (0 to 100 %)")
