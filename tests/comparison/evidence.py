"""Findings about a chain of blocks, made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from genie_onnx.comparison.diagnosis import Evidence
from genie_onnx.validate import OutputComparison
from genie_onnx.validate.layerwise import BlockFinding, Effect, ValueFinding, WeightFinding


def value(name: str, block: str, **changes: Any) -> ValueFinding:
    fields: dict[str, Any] = {
        "value": name,
        "block": block,
        "readers": (),
        "bits": 4,
        "sqnr_db": 20.0,
        "rounding_db": 22.0,
        "cosine": 0.99,
        "saturated": 0.01,
        "levels": 16,
        "used": 16,
        "low": 0.0,
        "high": 4.0,
        "grid_low": 0.0,
        "grid_high": 3.75,
        "scale": 0.25,
        "zero_point": 0,
        "histogram": (1,) * 16,
    }
    return ValueFinding(**{**fields, **changes})


def weight(name: str, block: str, **changes: Any) -> WeightFinding:
    fields: dict[str, Any] = {
        "weight": name,
        "nodes": (f"/{name}/Conv",),
        "block": block,
        "operator": "Conv",
        "shape": (8, 8, 3, 3),
        "bits": 4,
        "abits": 4,
        "sqnr_db": 20.0,
        "cosine": 0.99,
        "levels": 16,
        "used": 16,
        "used_median": 14.0,
        "low": -1.0,
        "high": 1.0,
        "grid_low": -1.0,
        "grid_high": 1.0,
        "histogram": (),
    }
    return WeightFinding(**{**fields, **changes})


def evidence(
    shares: Sequence[float | None] = (0.3, 0.25, 0.25, 0.2),
    *,
    sqnr_db: float = 12.0,
    agreement: float | None = 0.8,
    images: Any = "data",
    weights: dict[int, dict[str, Any]] | None = None,
    values: dict[int, dict[str, Any]] | None = None,
    image: dict[str, Any] | None = None,
    blocks: dict[int, dict[str, Any]] | None = None,
) -> Evidence:
    """A chain of blocks b0, b1, ... with weights w0, w1, ...; block k reads value vk, the first one the image."""
    count = len(shares)
    on_input = value("image", "", **{"bits": 8, "rounding_db": 40.0, **(image or {})})
    between = [value(f"v{k}", f"b{k - 1}", **(values or {}).get(k, {})) for k in range(1, count)]
    own = [weight(f"w{k}", f"b{k}", **(weights or {}).get(k, {})) for k in range(count)]
    effect = Effect(sqnr_db=15.0, agreement=0.9)
    found = [
        BlockFinding(
            **{
                "block": f"b{k}",
                "nodes": own[k].nodes,
                "weights": (f"w{k}",),
                "values": (f"v{k}" if k else "image",),
                "wbits": own[k].bits,
                "abits": 4,
                "sqnr_db": 15.0,
                "cosine": 0.98,
                "alone": None if share is None else effect,
                "all_but": None if share is None else effect,
                "share": share,
                **(blocks or {}).get(k, {}),
            }
        )
        for k, share in enumerate(shares)
    ]
    outputs = (OutputComparison(name="y", sqnr_db=sqnr_db, cosine=0.9, agreement=agreement),)
    return Evidence(images=images, outputs=outputs, values=(on_input, *between), weights=own, blocks=found)
