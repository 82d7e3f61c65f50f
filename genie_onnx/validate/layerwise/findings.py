"""What a comparison of a quantised file with its float model finds: one record a value, a weight, a block, an output.

SQNR and cosine are those of validate.compare: the float network is the reference, and everything before a value is quantised too,
except where a field says otherwise. Records are sorted by damage, worst first.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from genie_onnx.validate.compare import OutputComparison

ImagesKind = Literal["data", "calibration", "procedural"]  # the user's; those that the file was calibrated on; made ones


@dataclass(frozen=True, kw_only=True)
class ValueFinding:
    """One rounded value. Ranges and saturation are of the float network's numbers on the images."""

    value: str
    block: str  # that produces it; "" for the input
    readers: tuple[str, ...]  # blocks
    bits: int
    sqnr_db: float
    rounding_db: float  # SQNR of rounding the float network's numbers on this grid: what the grid alone costs
    cosine: float
    saturated: float  # share 0..1 of elements outside of the grid
    levels: int  # codes of the grid
    used: int  # ... that occur
    low: float
    high: float
    grid_low: float
    grid_high: float
    scale: float
    zero_point: int
    histogram: tuple[int, ...]  # how often each code of the grid occurs in the quantised file, from `grid_low` on


@dataclass(frozen=True, kw_only=True)
class WeightFinding:
    """One weight as codes. A channel's codes are counted from its smallest, so that grids of different zero points compare."""

    weight: str
    nodes: tuple[str, ...]
    block: str
    operator: str  # "Conv", "depthwise Conv", "Gemm" ...
    shape: tuple[int, ...]
    bits: int
    abits: int | None  # of what its layers read (the largest of several); None where that is not rounded
    sqnr_db: float
    cosine: float
    levels: int
    used: int  # codes used over the whole tensor
    used_median: float  # ... by a channel: the median
    low: float
    high: float
    grid_low: float
    grid_high: float
    histogram: tuple[int, ...]  # of the codes, each counted from the smallest of its channel


@dataclass(frozen=True, kw_only=True)
class Effect:
    """What is left at the outputs of a network that is quantised in part. `agreement`: None where no output has logits."""

    sqnr_db: float  # of the worst output
    agreement: float | None  # of the worst output


@dataclass(frozen=True, kw_only=True)
class BlockFinding:
    """One block. `alone`, `all_but` and `share` are None where effects were not measured."""

    block: str
    nodes: tuple[str, ...]
    weights: tuple[str, ...]
    values: tuple[str, ...]  # rounded values that it reads
    wbits: int | None  # smallest of its weights; None where none is quantised
    abits: int | None  # smallest of the values that its layers read; None where none is rounded
    sqnr_db: float  # worst of its outputs
    cosine: float
    alone: Effect | None  # only this block is quantised
    all_but: Effect | None  # everything but this block is
    share: float | None  # 0..1: of the noise at the outputs that all blocks make, each alone, with outputs weighted by 1 / power


@dataclass(frozen=True, kw_only=True)
class Advice:
    """One sentence or two on what is wrong, and the command to try; "" where there is nothing to try."""

    block: str  # "" where it is not about one block
    cause: str  # what is wrong as one clause; "" where nothing is
    text: str
    command: str


@dataclass(frozen=True, kw_only=True)
class Findings:
    """Everything that `compare` found."""

    samples: int
    effect_samples: int  # ... on which the effects of blocks were measured; 0 where they were not
    images: ImagesKind
    outputs: tuple[OutputComparison, ...]
    values: tuple[ValueFinding, ...]
    weights: tuple[WeightFinding, ...]
    blocks: tuple[BlockFinding, ...]
    diagnosis: tuple[Advice, ...]
    notices: tuple[str, ...]  # what could not be compared, and why

    def to_json(self) -> dict[str, Any]:
        """Return everything as plain data."""
        return asdict(self)
