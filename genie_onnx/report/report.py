"""What a run did and what came out, in one value that is printed, saved beside the model and read again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from genie_onnx.report.versions import versions


@dataclass(frozen=True)
class BlockLoss:
    """The reconstruction loss of one block at its first and its last iteration (0 iterations: NaN, written as null)."""

    block: str
    before: float
    after: float


@dataclass(frozen=True, kw_only=True)
class Report:
    """`parity`, `comparison`, `quality` and `settings` are the JSON forms of validate.Parity, validate.Comparison,
    quality.Quality and QuantizeConfig."""

    settings: dict[str, Any]
    images: str  # data, distilled, refined, procedural, or several of them joined by +
    images_reason: str
    notices: tuple[str, ...]
    samples: int
    device: str
    blocks: tuple[BlockLoss, ...]
    sizes: dict[str, int | None]  # bytes, as sizes.Sizes has them
    weights: dict[str, int]  # bits of each quantised weight
    activations: dict[str, int]  # bits of each quantised value
    kept_float: dict[str, str]  # weighted node -> why it stays float
    parity: dict[str, Any]
    comparison: dict[str, Any]
    held_back: str  # kind of the samples compared on
    quality: dict[str, Any]  # quality.Quality
    seconds: float
    versions: dict[str, str] = dataclasses.field(default_factory=versions)

    def to_json(self) -> str:
        """Return the report as JSON text; numbers that JSON lacks (NaN, infinity) become null."""
        return json.dumps(finite(dataclasses.asdict(self)), indent=2)


def finite(value: Any) -> Any:
    """Return a JSON value with null in place of every number that JSON lacks."""
    if isinstance(value, dict):
        return {key: finite(entry) for key, entry in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(entry) for entry in value]
    if isinstance(value, float) and not (abs(value) < float("inf")):
        return None
    return value
